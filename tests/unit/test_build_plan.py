"""Plans: what is cached, what past builds say, and never a number that nobody measured."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beforehand.build_engines.build_plan import BuildPlan, PlannedEngine, make_plan
from beforehand.cli.format_plan import format_budget, format_plan
from beforehand.records import Engine, EngineSpec, ShapeSet
from beforehand.store import build_history
from beforehand.store.build_history import BuildHistory, Estimate
from beforehand.store.cache_folder import CacheFolder
from beforehand.store.hashing import hash_file


def make_spec(batch: int, **changed: Any) -> EngineSpec:
    shapes = ShapeSet(("x",), ((batch, 4),))
    spec = EngineSpec(
        "TRTEngineOp_000_000", 0, "", ("i",), ("o",), shapes, "openvino", "1", "FP32", "cpu", (), f"key{batch}",
        graph="digest", weight_bytes=1_000_000,
    )  # fmt: skip
    return dataclasses.replace(spec, **changed)


def make_engine(spec: EngineSpec, seconds: float = 2.0, peak: int = 300_000_000, size: int = 1_100_000) -> Engine:
    facts = {name: getattr(spec, name) for name in Engine.__dataclass_fields__ if hasattr(spec, name)}
    return Engine(**facts, file="engine", bytes=size, sha256="", build_seconds=seconds, build_peak_bytes=peak)


@pytest.fixture
def cache(tmp_path: pathlib.Path) -> CacheFolder:
    (tmp_path / "cache").mkdir()
    return CacheFolder(tmp_path / "cache")


def test_of_what_was_never_built_here_nothing_is_claimed(cache: CacheFolder) -> None:
    plan = make_plan([make_spec(1), make_spec(2)], cache)
    assert [(e.is_cached, e.seconds, e.peak_bytes, e.engine_bytes, e.basis) for e in plan.engines] == [
        (False, None, None, None, "")
    ] * 2
    assert (plan.seconds, plan.peak_bytes, plan.disk_bytes, plan.is_disk_known) == (None, None, 2_000_000, False)
    text = "\n".join(format_plan(plan))
    assert "not known: no past builds to go by" in text
    assert "1.0 MB or more" in text
    assert plan.fit(1e9) == ()


def test_the_same_engine_then_the_same_segment(cache: CacheFolder) -> None:
    for batch, seconds in ((1, 5.0), (1, 2.0), (2, 4.0), (8, 30.0)):
        cache.history.add(make_spec(batch), make_engine(make_spec(batch), seconds))
    assert cache.history.estimate(make_spec(1)) == Estimate(2.0, 300_000_000, 1_100_000, "same engine")  # the newest
    assert cache.history.estimate(make_spec(3)) == Estimate(4.5, 300_000_000, 1_100_000, "same segment")  # the median
    for other in ({"graph": "another"}, {"backend": "fake"}, {"target": "cpu+avx2"}, {"graph": ""}):
        assert cache.history.estimate(make_spec(3, **other)) == Estimate()


def test_other_machines_say_nothing(cache: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(build_history, "describe_machine", lambda: "a faster one")
        cache.history.add(make_spec(1), make_engine(make_spec(1)))
    assert cache.history.estimate(make_spec(1)) == Estimate()


def test_damaged_lines_are_skipped(cache: CacheFolder) -> None:
    file = cache.folder / "history.jsonl"
    cache.history.add(make_spec(1), make_engine(make_spec(1)))
    whole = file.read_bytes()
    bad = [b"{", b"[]", b"7", b'{"key": "key1"}', b"\xff\xfe", whole.strip().replace(b"2.0", b'"soon"')]
    file.write_bytes(b"\n".join(bad) + b"\n" + whole + whole[: len(whole) // 2])
    assert cache.history.estimate(make_spec(1)).seconds == 2.0


def test_the_history_is_bounded_and_keeps_the_newest(cache: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_history, "_MOST_BYTES", 5000)
    for number in range(200):
        cache.history.add(make_spec(1), make_engine(make_spec(1), float(number)))
    assert (cache.folder / "history.jsonl").stat().st_size < 6000
    assert cache.history.estimate(make_spec(1)).seconds == 199.0
    assert not list(cache.folder.glob(".*"))


def test_a_note_that_cannot_be_written_costs_nothing(tmp_path: pathlib.Path) -> None:
    history = BuildHistory(tmp_path / "no" / "such" / "folder")
    history.add(make_spec(1), make_engine(make_spec(1)))
    assert history.estimate(make_spec(1)) == Estimate()


def add_to_cache(cache: CacheFolder, spec: EngineSpec, size: int) -> None:
    with cache.lock(spec.key), cache.make_scratch(spec.key) as scratch:
        built = scratch / "engine"
        built.write_bytes(os.urandom(size))
        cache.add_engine(dataclasses.replace(make_engine(spec), bytes=size, sha256=hash_file(built)), spec, built)


@pytest.fixture
def plan(cache: CacheFolder) -> BuildPlan:
    """One cached, two that take 4.5 s, and one of another segment."""
    add_to_cache(cache, make_spec(1), 5000)
    for batch, seconds in ((2, 4.0), (8, 5.0)):
        cache.history.add(make_spec(batch), make_engine(make_spec(batch), seconds))
    other = make_spec(4, segment="TRTEngineOp_000_001", graph="other", key="other")
    return make_plan([make_spec(1), make_spec(3), make_spec(5), other], cache)


def test_a_budget_takes_engines_in_order_up_to_the_first_unknown(plan: BuildPlan) -> None:
    assert [len(plan.fit(seconds)) for seconds in (0.0, 4.4, 4.6, 9.0, 1000.0)] == [1, 1, 2, 3, 3]
    assert "1 of 4 engines fit in 3.0 s" in format_budget(plan, 3.0)[0]
    assert "x=3x4 would take it beyond that" in format_budget(plan, 3.0)[0]
    assert "of TRTEngineOp_000_001 for x=4x4 no time is known" in format_budget(plan, 3600)[0]
    known = BuildPlan(plan.engines[:3])
    assert format_budget(known, 60) == ["budget      all 3 engines fit in 1 min 0 s"]
    assert (known.seconds, known.peak_bytes, known.disk_bytes) == (9.0, 300_000_000, 5000 + 2 * 1_100_000)


def test_workers_take_engines_in_turn_and_memory_adds_up(plan: BuildPlan) -> None:
    two = BuildPlan(plan.engines[:3], workers=2)
    assert (two.seconds, two.peak_bytes) == (4.5, 600_000_000)
    assert len(two.fit(4.6)) == 3
    assert BuildPlan(plan.engines[1:2], workers=4).seconds == 4.5  # one engine is no faster for more workers
    many = BuildPlan(tuple(dataclasses.replace(plan.engines[1], spec=make_spec(n)) for n in range(10, 14)), workers=3)
    assert many.seconds == 9.0
    assert len(many.fit(5.0)) == 3
    assert "3 of 4 engines fit in 5.0 s (about 4.5 s)" in format_budget(many, 5.0)[0]


@given(st.lists(st.floats(0.0, 100.0), max_size=12), st.integers(1, 5), st.floats(0.0, 500.0))
def test_no_schedule_is_shorter_than_its_work_or_longer_than_one_worker_takes(
    times: list[float], workers: int, budget: float
) -> None:
    engines = tuple(PlannedEngine(make_spec(n), False, seconds, 1, 1, "same engine") for n, seconds in enumerate(times))
    plan = BuildPlan(engines, workers)
    assert plan.seconds is not None
    longest = max(times, default=0.0)
    assert max(longest, sum(times) / workers) - 1e-6 <= plan.seconds <= sum(times) / workers + longest + 1e-6
    assert (len(plan.fit(budget)) == len(engines)) == (plan.seconds <= budget)


def test_what_was_not_measured_is_not_zero(cache: CacheFolder) -> None:
    cache.history.add(make_spec(1), make_engine(make_spec(1), peak=0))
    assert cache.history.estimate(make_spec(1)).peak_bytes is None
    cache.history.add(make_spec(2), make_engine(make_spec(2), peak=500))
    assert cache.history.estimate(make_spec(3)).peak_bytes == 500
    [line] = [line for line in format_plan(make_plan([make_spec(1)], cache)) if "to build" in line and "about" in line]
    assert "of memory" not in line


def test_equal_segments_are_built_once(cache: CacheFolder) -> None:
    cache.history.add(make_spec(1), make_engine(make_spec(1), 3600.0))
    twin = make_spec(1, segment="TRTEngineOp_000_001", segment_index=1)
    plan = make_plan([make_spec(1), twin], cache)
    assert (len(plan.to_build), plan.seconds) == (1, 3600.0)
    assert plan.engines[1].basis == "built above"
    assert "built above" in "\n".join(format_plan(plan))


def test_a_plan_as_text_and_as_data(plan: BuildPlan) -> None:
    text = "\n".join(format_plan(plan))
    assert text.startswith("target cpu: 4 engines, 3 to build")
    assert "in the cache" in text
    assert "about 4.5 s, 300.0 MB of memory" in text
    assert "as the same segment before" in text
    data = json.loads(json.dumps(plan.to_dict()))
    assert [engine["is_cached"] for engine in data["engines"]] == [True, False, False, False]
    assert (data["to_build"], data["seconds"]) == (3, None)


def test_targets_are_told_apart(cache: CacheFolder) -> None:
    both = make_plan([make_spec(1), make_spec(1, target="cpu+avx2", key="elsewhere")], cache)
    assert both.list_targets() == ("cpu", "cpu+avx2")
    assert [len(both.select_target(target).engines) for target in both.list_targets()] == [1, 1]
    assert both.to_dict()["targets"]["cpu"] == {
        "engines": 1, "to_build": 1, "seconds": None, "peak_bytes": None, "disk_bytes": 1_000_000,
    }  # fmt: skip
    assert "\n".join(format_plan(both)).count("to build    1 of 1 engines") == 2
    assert "\n".join(format_plan(both)).count("target cpu") == 2


def test_a_line_that_was_torn_does_not_take_the_next_one_with_it(cache: CacheFolder) -> None:
    (cache.folder / "history.jsonl").write_bytes(b'{"time": 17')
    cache.history.add(make_spec(1), make_engine(make_spec(1)))
    assert cache.history.estimate(make_spec(1)).seconds == 2.0


def test_the_history_stays_private(cache: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_history, "_MOST_BYTES", 500)
    for _ in range(5):
        cache.history.add(make_spec(1), make_engine(make_spec(1)))
    assert (cache.folder / "history.jsonl").stat().st_mode & 0o777 == 0o600
