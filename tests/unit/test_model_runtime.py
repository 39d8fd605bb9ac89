"""Which calls an engine answers, what is counted, and that a failure is remembered."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from beforehand.errors import EngineRunError
from beforehand.records import Engine, SegmentRecord, ShapeSet, Signature, TensorSpec
from beforehand.runtime import loaded_engine
from beforehand.runtime.model_runtime import ModelRuntime
from beforehand.store.hashing import hash_file

SPEC = TensorSpec("x", "float32", (None, 4))
SIGNATURES = (Signature("serving_default", (SPEC,), (SPEC,)), Signature("serve", (SPEC,), (SPEC,)))
SEGMENT = SegmentRecord("TRTEngineOp_000_000", "serving_default", 3, 1.0, (SPEC,), (SPEC,), ())


class Doubling:
    """A backend whose engines double; those of batch 3 fail."""

    def __init__(self) -> None:
        self.loads = 0
        self.hints: list[str] = []

    def load(self, data: Any, inputs: Sequence[str], outputs: Sequence[str], *, performance_hint: str) -> Doubling:
        del data, inputs, outputs
        self.hints.append(performance_hint)
        self.loads += 1
        return self

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        if len(inputs[0]) == 3:
            raise MemoryError("no memory for batch 3")
        return [2 * inputs[0]]


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Doubling:
    made = Doubling()
    monkeypatch.setattr(loaded_engine, "find_backend", lambda name: made)
    return made


@pytest.fixture
def model(backend: Doubling, tmp_path: pathlib.Path) -> ModelRuntime:
    made = ModelRuntime(SIGNATURES, (SEGMENT,), tmp_path)
    (tmp_path / "engine").write_bytes(b"engine")
    for batch in (1, 2, 3):
        made.add_engine(make_engine(tmp_path, ShapeSet(("x",), ((batch, 4),))))
    return made


def make_engine(folder: pathlib.Path, shapes: ShapeSet) -> Engine:
    facts = {"backend": "b", "backend_version": "1", "precision": "FP32", "target": "cpu", "key": shapes.describe()}
    names = {"segment": SEGMENT.name, "input_names": ("i",), "output_names": ("o",), "file": "engine"}
    sha256 = hash_file(folder / "engine")
    return Engine(segment_index=0, shapes=shapes, bytes=6, sha256=sha256, build_seconds=0, **facts, **names)


def make_range(low: int, high: int) -> ShapeSet:
    return ShapeSet(("x",), ((low, 4),), ((high, 4),))


def count_calls(model: ModelRuntime) -> dict[str, int]:
    """Calls by the shapes of the engine that answered them."""
    return {
        ShapeSet(
            ("x",), (tuple(e["shapes"]["x"]),), (tuple(e["max_shapes"]["x"]),) if e["max_shapes"] else ()
        ).describe(): (e["engine_calls"])
        for e in model.list_stats()["engines"]
    }


def ones(batch: int) -> np.ndarray[Any, Any]:
    return np.ones((batch, 4), np.float32)


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
    (model.folder / "engine").write_bytes(b"altered")
    assert model.run(0, 0, [ones(1)]) is None
    (model.folder / "engine").write_bytes(b"engine")
    assert model.run(0, 0, [ones(1)]) is None
    assert backend.loads == 0


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
    assert backend.loads == 1
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
    assert backend.loads == 2
    assert len(model.list_files()) == 1  # the engines of this test share a file
