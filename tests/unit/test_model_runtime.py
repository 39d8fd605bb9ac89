"""Which calls an engine answers, what is counted, and that a failure is remembered."""

from __future__ import annotations

import gc
import logging
import pathlib
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from doubling import SEGMENT, Doubling, count_calls, make_engine, make_model, make_range, make_shapes, ones

from beforehand.errors import EngineRunError
from beforehand.runtime import loaded_engine
from beforehand.runtime.model_runtime import ModelRuntime


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Doubling:
    made = Doubling()
    monkeypatch.setattr(loaded_engine, "find_backend", lambda name: made)
    return made


@pytest.fixture
def model(backend: Doubling, tmp_path: pathlib.Path) -> ModelRuntime:
    return make_model(tmp_path, *map(make_shapes, (1, 2, 3)))


def test_calls_of_built_shapes_are_answered_and_counted_where_they_came_from(model: ModelRuntime) -> None:
    assert model.run(0, 0, [ones(1)]) is not None
    [found] = model.run(1, 0, [ones(2)]) or []
    np.testing.assert_array_equal(found, 2 * ones(2))
    stats = model.list_stats()
    assert stats["signatures"]["serving_default"] == {"engine_calls": 1, "native_calls": 0}
    assert stats["signatures"]["serve"] == {"engine_calls": 1, "native_calls": 0}
    assert [(e["shapes"]["x"][0], e["engine_calls"], e["loads"]) for e in stats["engines"]] == [
        (1, 1, 1),
        (2, 1, 1),
        (3, 0, 0),
    ]


def test_an_unseen_shape_is_told_once_and_counted(model: ModelRuntime, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "beforehand"):
        for _ in range(3):
            assert model.run(0, 0, [ones(5)]) is None
    assert len(caplog.records) == 1
    assert "5x4" in caplog.text
    assert model.list_stats()["unseen_shapes"] == [{"segment": SEGMENT.name, "shapes": {"x": [5, 4]}, "count": 3}]


def test_a_failing_engine_is_told_once_and_its_calls_run_natively(
    model: ModelRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "beforehand"):
        assert [model.run(0, 0, [ones(3)]) for _ in range(3)] == [None, None, None]
    assert len(caplog.records) == 1
    assert "BH601" in caplog.text
    assert "no memory for batch 3" in caplog.text


def test_an_engine_that_cannot_be_opened_is_not_tried_again(model: ModelRuntime, backend: Doubling) -> None:
    file = model.folder / "1x4.engine"
    text = file.read_text()
    file.write_text("altered")
    assert model.run(0, 0, [ones(1)]) is None
    file.write_text(text)
    assert model.run(0, 0, [ones(1)]) is None
    assert backend.loads == []


def test_the_veto_raises_instead(model: ModelRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION", "False")
    for batch in (3, 5):
        with pytest.raises(EngineRunError, match="TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION"):
            model.run(0, 0, [ones(batch)])
    assert model.run(0, 0, [ones(1)]) is not None


def test_many_threads_open_an_engine_once_and_no_call_is_lost(model: ModelRuntime, backend: Doubling) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: model.run(0, 0, [ones(1)]), range(400)))
    assert all(outputs is not None for outputs in found)
    assert len(backend.loads) == 1
    assert model.list_stats()["signatures"]["serving_default"]["engine_calls"] == 400


def test_the_engine_of_the_very_shape_comes_first_then_the_narrowest_range(model: ModelRuntime) -> None:
    for low, high in ((1, 64), (2, 8), (4, 16)):
        model.add_engine(make_engine(model.folder, make_range(low, high)))
    for batch in (1, 2, 4, 8, 9, 17, 64):
        [found] = model.run(0, 0, [ones(batch)]) or []
        np.testing.assert_array_equal(found, 2 * ones(batch))
    assert count_calls(model) == {"x=1x4": 1, "x=2x4": 1, "x=3x4": 0, "x=2..8x4": 2, "x=4..16x4": 1, "x=1..64x4": 2}
    assert model.list_stats()["signatures"]["serving_default"] == {"engine_calls": 7, "native_calls": 0}


def test_outside_of_a_range_a_call_is_native_and_told(model: ModelRuntime, caplog: pytest.LogCaptureFixture) -> None:
    model.add_engine(make_engine(model.folder, make_range(4, 8)))
    with caplog.at_level(logging.WARNING, "beforehand"):
        assert model.run(0, 0, [ones(9)]) is None
        assert model.run(0, 0, [np.ones((4, 5), np.float32)]) is None
        assert model.run(0, 0, [np.ones((4,), np.float32)]) is None
    assert "9x4 (it has engines for 3 shape sets and 1 range)" in caplog.text
    assert len(caplog.records) == 3


def test_a_range_added_again_replaces_the_first_and_is_closed_with_the_others(
    model: ModelRuntime, backend: Doubling
) -> None:
    for _ in range(2):
        model.add_engine(make_engine(model.folder, make_range(4, 8)))
    assert len(model.list_stats()["engines"]) == 4
    for _ in range(2):
        assert model.run(0, 0, [ones(5)]) is not None
        model.close()
    assert len(backend.loads) == 2
    assert len(model.list_files()) == 4


def test_where_an_engine_cannot_answer_a_wider_range_does(
    model: ModelRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    """One failure does not stand in the way of others that serve the same shapes."""
    for low, high in ((4, 8), (1, 64)):
        model.add_engine(make_engine(model.folder, make_range(low, high)))
    (model.folder / "4-8x4.engine").write_text("altered")
    with caplog.at_level(logging.WARNING, "beforehand"):
        for _ in range(3):
            assert model.run(0, 0, [ones(5)]) is not None
    assert "BH503" in caplog.text
    assert len(caplog.records) == 1
    assert count_calls(model)["x=1..64x4"] == 3


def test_an_engine_that_cannot_be_opened_keeps_no_inputs_of_the_calls_it_failed(model: ModelRuntime) -> None:
    """The same error raised again would keep the frames of every call, and so what it was given."""
    (model.folder / "1x4.engine").write_text("altered")
    given = [ones(1) for _ in range(5)]
    references = [weakref.ref(array) for array in given]
    for array in given:
        assert model.run(0, 0, [array]) is None
    del given, array
    gc.collect()
    assert sum(reference() is not None for reference in references) <= 1  # last_error() has its traceback
