"""maximum_cached_engines: which engines are open, which are closed for others; TF-TRT's cache defects are gone."""

from __future__ import annotations

import logging
import pathlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from doubling import Doubling, call, count_calls, make_model, make_range, make_shapes, ones

from beforehand.records import Policies
from beforehand.runtime import engine_table, loaded_engine
from beforehand.runtime.choose_policies import change_policies
from beforehand.runtime.model_runtime import ModelRuntime


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Doubling:
    made = Doubling()
    monkeypatch.setattr(loaded_engine, "find_backend", lambda name: made)
    return made


def bound(engines: int | None) -> Policies:
    return Policies(maximum_cached_engines=engines)


def list_open(model: ModelRuntime) -> list[str]:
    return [
        engine.record.shapes.describe()
        for table in model._tables
        for engine in table.list_engines()
        if engine._executable is not None
    ]


def test_the_least_recently_used_engine_goes_and_not_the_first_opened(
    backend: Doubling, tmp_path: pathlib.Path
) -> None:
    """TF-TRT's own worked example: there (2,5) is evicted although it was just used, because its LRU is a FIFO."""
    model = make_model(tmp_path, *map(make_shapes, (2, 4, 7)), policies=bound(2))
    for batch in (2, 4, 2, 7):  # opened first: 2; used longest ago when 7 comes: 4
        assert call(model, batch)
    assert list_open(model) == ["x=2x4", "x=7x4"]
    assert call(model, 2)
    assert backend.loads == ["x=2x4*2", "x=4x4*2", "x=7x4*2"]
    assert count_calls(model, "evictions") == {"x=2x4": 0, "x=4x4": 1, "x=7x4": 0}


def test_an_evicted_engine_is_opened_again_from_its_file(backend: Doubling, tmp_path: pathlib.Path) -> None:
    model = make_model(tmp_path, *map(make_shapes, (1, 2)), policies=bound(1))
    for batch in (1, 2, 1, 2):
        assert call(model, batch)
    assert len(backend.loads) == 4
    assert count_calls(model, "loads") == {"x=1x4": 2, "x=2x4": 2}
    assert count_calls(model, "evictions") == {"x=1x4": 2, "x=2x4": 1}
    assert model.list_stats()["builds"] == 0


def test_without_a_bound_every_engine_stays_open(backend: Doubling, tmp_path: pathlib.Path) -> None:
    batches = [batch for batch in range(1, 60) if batch != 3]
    model = make_model(tmp_path, *map(make_shapes, batches))
    for _ in range(2):
        assert all(call(model, batch) for batch in batches)
    assert len(backend.loads) == len(batches)


def test_a_bound_set_later_closes_at_once_what_is_over_it(backend: Doubling, tmp_path: pathlib.Path) -> None:
    del backend
    model = make_model(tmp_path, *map(make_shapes, (1, 2, 4)))
    for batch in (4, 1, 2):
        call(model, batch)
    model.set_policies(change_policies(model.policies, {"maximum_cached_engines": 2}))
    assert list_open(model) == ["x=1x4", "x=2x4"]
    model.set_policies(change_policies(model.policies, {"maximum_cached_engines": None}))
    call(model, 4)
    assert len(list_open(model)) == 3


def test_a_bound_holds_for_ranges_too_and_after_a_close(backend: Doubling, tmp_path: pathlib.Path) -> None:
    del backend
    model = make_model(tmp_path, make_range(4, 8), make_range(9, 16), policies=bound(1))
    for batch in (4, 9, 5, 10):
        assert call(model, batch)
        assert len(list_open(model)) == 1
    model.close()
    assert list_open(model) == []
    assert call(model, 4)
    assert call(model, 9)
    assert list_open(model) == ["x=9..16x4"]


def test_a_call_under_way_keeps_its_engine(
    backend: Doubling, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del backend
    from doubling import Multiplying

    inside, go_on, run = threading.Event(), threading.Event(), Multiplying.run

    def wait(self: Multiplying, inputs: list) -> list:
        if len(inputs[0]) == 1:
            inside.set()
            assert go_on.wait(20)
        return run(self, inputs)

    monkeypatch.setattr(Multiplying, "run", wait)
    model = make_model(tmp_path, *map(make_shapes, (1, 2)), policies=bound(1))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(call, model, 1)
        assert inside.wait(20)
        assert call(model, 2)
        assert list_open(model) == ["x=2x4"]
        go_on.set()
        assert first.result(20)
    assert count_calls(model) == {"x=1x4": 1, "x=2x4": 1}


def test_reloads_in_more_than_one_call_of_ten_are_told_once(
    backend: Doubling, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    del backend
    model = make_model(tmp_path, *map(make_shapes, (1, 2)), policies=bound(1))
    with caplog.at_level(logging.WARNING, "beforehand"):
        for _ in range(engine_table.FEWEST_CALLS_TO_JUDGE // 2 - 1):
            call(model, 1)
            call(model, 2)
        assert not caplog.records
        for _ in range(100):
            call(model, 1)
            call(model, 2)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert message.startswith("TRTEngineOp_000_000 opened an engine again in ")
    assert "maximum_cached_engines is 1" in message


def test_few_reloads_are_not_told(backend: Doubling, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    del backend
    model = make_model(tmp_path, *map(make_shapes, (1, 2)), policies=bound(1))
    with caplog.at_level(logging.WARNING, "beforehand"):
        for _ in range(30):
            for _ in range(21):
                call(model, 1)
            call(model, 2)  # two reloads in 22 calls
    assert not caplog.records


def test_an_unserved_shape_poisons_nothing(backend: Doubling, tmp_path: pathlib.Path) -> None:
    """TF-TRT, capacity 1: a call of batch 8 evicts the engine of batch 4 for a marker, which then stands in its way."""
    model = make_model(tmp_path, make_shapes(4), policies=bound(1))
    assert call(model, 4)
    assert not call(model, 8)
    assert call(model, 4)
    assert backend.loads == ["x=4x4*2"]
    assert count_calls(model, "evictions") == {"x=4x4": 0}


def test_an_engine_that_cannot_be_opened_puts_no_other_out(backend: Doubling, tmp_path: pathlib.Path) -> None:
    """As a failed build in TF-TRT: its marker fits smaller batches, and they are native for ever."""
    model = make_model(tmp_path, make_shapes(4), make_range(1, 8), policies=bound(1))
    (tmp_path / "1-8x4.engine").write_text("altered")
    assert call(model, 4)
    for batch in (8, 5):
        assert not call(model, batch)
    assert call(model, 4)
    assert backend.loads == ["x=4x4*2"]


def test_an_engine_that_failed_at_one_shape_still_serves_the_others(backend: Doubling, tmp_path: pathlib.Path) -> None:
    del backend
    model = make_model(tmp_path, make_range(1, 8), make_shapes(9), policies=bound(1))
    assert not call(model, 3)
    assert call(model, 4)
    assert call(model, 9)  # evicts it
    assert call(model, 4)
    assert not call(model, 3)
    assert call(model, 2)


def test_two_models_of_the_same_names_in_one_process_do_not_mix(backend: Doubling, tmp_path: pathlib.Path) -> None:
    """TF-TRT keys its process-wide cache by TRTEngineOp_NNN_MMM: the second model fails to load, or runs the first's."""
    del backend
    models = []
    for factor in (2, 5):
        folder = tmp_path / str(factor)
        folder.mkdir()
        models.append((make_model(folder, *map(make_shapes, (1, 2)), policies=bound(1), factor=factor), factor))
    for _ in range(3):
        for model, factor in models:
            assert call(model, 1, factor)
            assert call(model, 2, factor)
    assert [count_calls(model, "loads") for model, _ in models] == [{"x=1x4": 6 // 2, "x=2x4": 6 // 2}] * 2


@pytest.mark.parametrize("most", [1, 2, None])
def test_sixteen_threads_get_right_answers_whatever_is_closed(
    most: int | None, backend: Doubling, tmp_path: pathlib.Path
) -> None:
    model = make_model(tmp_path, *map(make_shapes, (1, 2, 4)), make_range(5, 9), policies=bound(most))
    batches = [1 + (7 * i) % 11 for i in range(800)]
    with ThreadPoolExecutor(16) as pool:
        answered = list(pool.map(lambda batch: call(model, batch), batches))
    assert answered == [batch not in (3, 10, 11) for batch in batches]
    stats = model.list_stats()
    assert stats["signatures"]["serving_default"]["engine_calls"] == sum(answered)
    assert sum(item["count"] for item in stats["unseen_shapes"]) == len(batches) - sum(answered)
    loads = sum(engine["loads"] for engine in stats["engines"])
    assert loads == len(backend.loads)
    opened = len(list_open(model))
    assert loads - opened == sum(engine["evictions"] for engine in stats["engines"])
    assert opened <= (most or 4)
    assert model.run(0, 0, [ones(1)]) is not None
