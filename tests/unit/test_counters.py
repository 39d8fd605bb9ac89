"""Counters: of calls, of seconds, and of unseen shapes, whose table is bounded."""

from __future__ import annotations

import logging
import pathlib
import time

import pytest
from doubling import Doubling, Multiplying, call, count_calls, make_engine, make_model, make_range, make_shapes, ones

from beforehand.runtime import loaded_engine
from beforehand.runtime.counters import MOST_UNSEEN, CallCounts, Seen, UnseenShapes
from beforehand.runtime.model_runtime import ModelRuntime


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> ModelRuntime:
    backend = Doubling()
    monkeypatch.setattr(loaded_engine, "find_backend", lambda name: backend)
    return make_model(tmp_path, *map(make_shapes, (1, 2)), make_range(4, 8))


def test_seconds_are_counted_by_signature_and_engine_and_apart_from_loading(
    model: ModelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, load = Multiplying.run, Doubling.load
    monkeypatch.setattr(Multiplying, "run", lambda *a: (time.sleep(0.01), run(*a))[1])
    monkeypatch.setattr(Doubling, "load", lambda *a, **k: (time.sleep(0.1), load(*a, **k))[1])
    start = time.perf_counter()
    for _ in range(3):
        assert model.run(0, 0, [ones(1)]) is not None
    assert model.run(1, 0, [ones(2)]) is not None
    spent = time.perf_counter() - start
    stats = model.list_stats()
    assert stats["engine_seconds"]["serve"] >= 0.01
    assert 0.03 <= stats["engine_seconds"]["serving_default"] < spent - 0.2
    assert sum(stats["engine_seconds"].values()) == pytest.approx(sum(e["engine_seconds"] for e in stats["engines"]))
    assert [engine["load_seconds"] > 0.1 for engine in stats["engines"]] == [True, True, False]


def test_reset_counts_from_zero_and_tells_nothing_twice(model: ModelRuntime, caplog: pytest.LogCaptureFixture) -> None:
    def use() -> None:
        call(model, 1)
        call(model, 4)
        call(model, 9)
        model.count_native(0)

    use()
    model.reset_stats()
    caplog.clear()
    stats = model.list_stats()
    assert stats["signatures"]["serving_default"] == {"engine_calls": 0, "native_calls": 0}
    assert stats["engine_seconds"] == {"serving_default": 0, "serve": 0}
    assert (stats["unseen_shapes"], stats["builds"], stats["more_unseen_calls"]) == ([], 0, 0)
    for counter in ("engine_calls", "engine_seconds", "loads", "load_seconds", "evictions", "builds"):
        assert set(count_calls(model, counter).values()) == {0}
    with caplog.at_level(logging.WARNING, "beforehand"):
        use()
    assert not caplog.records
    stats = model.list_stats()
    assert stats["signatures"]["serving_default"] == {"engine_calls": 2, "native_calls": 1}
    assert [item["count"] for item in stats["unseen_shapes"]] == [1]
    assert set(count_calls(model, "loads").values()) == {0}  # they stayed open


def test_calls_of_an_engine_that_another_replaced_still_count(model: ModelRuntime, tmp_path: pathlib.Path) -> None:
    call(model, 1)
    model.add_built(make_engine(tmp_path, make_shapes(1)), tmp_path)
    call(model, 1)
    stats = model.list_stats()
    assert stats["signatures"]["serving_default"]["engine_calls"] == 2
    assert count_calls(model)["x=1x4"] == 1
    model.reset_stats()
    assert model.list_stats()["signatures"]["serving_default"]["engine_calls"] == 0


def test_beyond_a_thousand_distinct_unseen_shapes_are_counted_together(
    model: ModelRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    beyond = 50
    with caplog.at_level(logging.WARNING, "beforehand"):
        for batch in [*range(100, 100 + MOST_UNSEEN + beyond)] * 2:
            assert not call(model, batch)
    stats = model.list_stats()
    assert len(stats["unseen_shapes"]) == MOST_UNSEEN == 1000
    assert {item["count"] for item in stats["unseen_shapes"]} == {2}
    assert stats["more_unseen_calls"] == 2 * beyond
    assert len(caplog.records) == MOST_UNSEEN + 1
    assert "so many shapes without an engine came" in caplog.records[-1].getMessage()


def test_the_tables_of_counters_by_themselves() -> None:
    counts = CallCounts()
    counts.add(0, 0.5)
    counts.add(0, 0.25)
    counts.add(2, 1.0)
    assert counts.read() == {0: (2, 0.75), 2: (1, 1.0)}
    assert (counts.calls, counts.seconds) == (3, 1.75)
    unseen = UnseenShapes(most=1)
    keys = [(0, ((1,),)), (0, ((1,),)), (0, ((2,),)), (1, ((1,),))]
    assert [unseen.add(*key) for key in keys] == [Seen.NEW, Seen.BEFORE, Seen.FIRST_TOO_MANY, Seen.TOO_MANY]
    assert unseen.read() == ({(0, ((1,),)): 2}, 2)
