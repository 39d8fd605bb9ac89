"""The scheduler: what is finished stays, what fails or is stopped costs nothing else, and every step is told."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import psutil
import pytest

from beforehand import causes
from beforehand.build_engines import events
from beforehand.build_engines.build_all import BuildHooks, BuildResult, build_all
from beforehand.build_engines.events import BuildEvent
from beforehand.build_engines.plan_engines import make_key
from beforehand.build_engines.settings import BuildSettings
from beforehand.errors import BuildCancelledError, BuildError
from beforehand.records import Engine, EngineSpec, ShapeSet
from beforehand.store.cache_folder import CacheFolder
from beforehand.store.hashing import hash_file

COUNT = 4


def make_spec(folder: pathlib.Path, batch: int, **changed: Any) -> EngineSpec:
    onnx_file = folder / "segment.onnx"
    if not onnx_file.exists():
        onnx_file.write_bytes(b"a model")
    spec = EngineSpec(
        "TRTEngineOp_000_000", 0, str(onnx_file), ("i",), ("o",), ShapeSet(("x",), ((batch, 4),)),
        "fake", "1", "FP32", "cpu", (), "", graph="digest",
    )  # fmt: skip
    spec = dataclasses.replace(spec, **changed)
    return dataclasses.replace(spec, key=make_key(spec))


class Run:
    """One call of `build_all`, with what it told."""

    def __init__(self, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, **told: str) -> None:
        monkeypatch.setenv("BEFOREHAND_FAKE", json.dumps(told))
        self.folder = folder / "engines"
        self.folder.mkdir(exist_ok=True)
        self.cache = CacheFolder(folder / "cache")
        self.specs: Sequence[EngineSpec] = [make_spec(folder, batch) for batch in range(1, COUNT + 1)]
        self.events: list[BuildEvent] = []
        self.made: list[Engine] = []
        self.cancel = threading.Event()

    def build(self, on_event: Any = None, hooks: BuildHooks | None = None, **settings: Any) -> BuildResult:
        def tell(event: BuildEvent) -> None:
            self.events.append(event)
            if on_event is not None:
                on_event(event)

        hooks = dataclasses.replace(hooks or BuildHooks(), on_engine=self.made.append, on_event=tell)
        return build_all(self.specs, self.folder, BuildSettings(**settings), self.cache, hooks, self.cancel)

    def list_kinds(self) -> list[str]:
        return [event.kind for event in self.events if event.kind not in (events.PHASE, events.HEARTBEAT)]


@pytest.fixture
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda **told: Run(tmp_path, monkeypatch, **told)


def check_nothing_left(run: Run) -> None:
    """No child, nothing half-made."""
    deadline = time.monotonic() + 2
    while left := [child for child in psutil.Process().children(recursive=True) if is_build(child)]:
        assert time.monotonic() < deadline, left
    assert list((run.cache.folder / "building").iterdir()) == []
    assert not list(run.cache.folder.rglob("*.tmp"))


def is_build(process: psutil.Process) -> bool:
    try:
        return any("beforehand.build_engines" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def test_every_engine_is_built_once_and_told(run: Any) -> None:
    first = run()
    result = first.build()
    assert result.failures == ()
    assert [engine.shapes for engine in result.engines] == [spec.shapes for spec in first.specs]
    assert list(result.engines) == first.made
    for engine in result.engines:
        assert hash_file(first.folder / engine.file) == engine.sha256
    assert first.list_kinds() == [events.PLAN, *[events.STARTED, events.FINISHED] * COUNT]
    assert {event.engines for event in first.events} == {COUNT}
    finished = [event for event in first.events if event.kind == events.FINISHED]
    assert [event.engine for event in finished] == [1, 2, 3, 4]
    assert all(event.bytes > 0 and event.elapsed_s > 0 and event.memory_bytes > 0 for event in finished)

    second = run()
    again = second.build()
    assert second.list_kinds() == [events.PLAN, *[events.CACHED] * COUNT]
    assert again.engines == result.engines
    check_nothing_left(second)


def test_the_plan_says_what_past_builds_took_and_nothing_where_there_are_none(run: Any, tmp_path: pathlib.Path) -> None:
    first = run()
    first.build()
    assert first.events[0].estimate_s is None
    for record in (first.cache.engines).iterdir():  # the engines are gone, what is known of their builds is not
        record.unlink()
    second = run()
    second.build()
    assert second.events[0].estimate_s is not None
    assert second.events[0].estimate_s > 0
    started = [event for event in second.events if event.kind == events.STARTED]
    assert all(event.estimate_s is not None for event in started)
    assert second.events[-1].left_s == 0


def test_a_failure_does_not_stop_the_others(run: Any) -> None:
    told = run(**{"x=2x4": "signal 11"})
    result = told.build()
    assert [engine.shapes.shapes[0][0] for engine in result.engines] == [1, 3, 4]
    [error] = result.failures
    assert (error.cause, error.shapes) == (causes.CRASHED, "x=2x4")
    [failed] = [event for event in told.events if event.kind == events.FAILED]
    assert failed.error is error
    assert failed.to_dict()["error"]["cause"] == "crashed"
    check_nothing_left(told)


def test_stop_begins_nothing_after_a_failure(run: Any) -> None:
    told = run(**{"x=2x4": "signal 11"})
    result = told.build(on_build_failure="stop")
    assert [engine.shapes.shapes[0][0] for engine in result.engines] == [1]
    assert len(result.failures) == 1


def test_retry_tries_again_once_alone_and_last(run: Any) -> None:
    told = run(**{"x=2x4": "signal 9"})
    result = told.build(on_build_failure="retry", workers=2)
    assert sorted(engine.shapes.shapes[0][0] for engine in result.engines) == [1, 3, 4]
    assert [error.cause for error in result.failures] == [causes.KILLED]
    phases = [event for event in told.events if event.phase == events.WAITING and "tried again" in event.message]
    assert [event.engine for event in phases] == [2]
    assert told.list_kinds()[-2:] == [events.STARTED, events.FAILED]


def test_what_replaces_a_failure_is_built_next(run: Any, tmp_path: pathlib.Path) -> None:
    told = run(**{"x=2x4": "refuse range it is a constant inside"})
    other = make_spec(tmp_path, 20)
    hooks = BuildHooks(replace=lambda spec, error, made: [other, told.specs[2]])
    result = told.build(hooks=hooks)
    assert [engine.shapes.shapes[0][0] for engine in result.engines] == [1, 20, 3, 4]
    assert result.failures == ()
    assert told.events[-1].engines == COUNT + 1


def test_cancel_ends_a_build_that_hangs_and_keeps_what_was_finished(run: Any) -> None:
    told = run(**{"x=3x4": "hang"})

    def cancel_third(event: BuildEvent) -> None:
        if event.engine == 3 and event.kind == events.HEARTBEAT:
            told.cancel.set()
            told.cancelled_at = time.monotonic()

    with pytest.raises(BuildCancelledError, match="2 engines finished and 2 not"):
        told.build(on_event=cancel_third)
    assert time.monotonic() - told.cancelled_at < 5
    assert [engine.shapes.shapes[0][0] for engine in told.made] == [1, 2]
    assert told.list_kinds()[-2:] == [events.CANCELLED, events.CANCELLED]
    check_nothing_left(told)
    resumed = run()
    assert len(resumed.build().engines) == COUNT
    assert resumed.list_kinds().count(events.CACHED) == 2


def test_cancel_is_raised_also_where_the_last_build_ended_first(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it was not: the build that was cancelled was no longer counted among those left."""
    from beforehand.build_engines import build_all as module

    monkeypatch.setattr(module, "_WAKE_S", 30.0)  # so that the news of its end comes before `cancel` is looked at
    monkeypatch.setattr(module.Teller, "tell_progress", lambda self, job, progress: None)
    told = run(**{"*": "hang"})
    told.specs = told.specs[:1]
    threading.Timer(1.0, told.cancel.set).start()
    with pytest.raises(BuildCancelledError, match="0 engines finished and 1 not"):
        told.build()
    check_nothing_left(told)


def test_ctrl_c_is_raised_and_leaves_nothing(run: Any) -> None:
    told = run(**{"*": "hang"})

    def interrupt(event: BuildEvent) -> None:
        if event.kind == events.HEARTBEAT and not told.interrupted_at:
            told.interrupted_at = time.monotonic()
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    told.interrupted_at = 0.0
    with pytest.raises(KeyboardInterrupt):
        told.build(on_event=interrupt, workers=2)
    assert time.monotonic() - told.interrupted_at < 5
    assert told.list_kinds().count(events.CANCELLED) == 3
    check_nothing_left(told)


def test_an_error_of_the_callers_own_ends_all_builds(run: Any) -> None:
    told = run(**{"x=2x4": "hang"})

    def refuse(engine: Engine) -> None:
        raise RuntimeError("the disk of the model is gone")

    hooks = BuildHooks()
    with pytest.raises(RuntimeError, match="the disk of the model"):
        build_all(
            told.specs, told.folder, BuildSettings(workers=2), told.cache, dataclasses.replace(hooks, on_engine=refuse)
        )
    check_nothing_left(told)


def test_workers_build_at_once(run: Any) -> None:
    told = run(**{"*": "sleep 1"})
    at_work, most = set(), 0
    for_all = {events.STARTED: at_work.add, events.FINISHED: at_work.discard}

    def count(event: BuildEvent) -> None:
        nonlocal most
        for_all.get(event.kind, lambda engine: None)(event.engine)
        most = max(most, len(at_work))

    assert len(told.build(on_event=count, workers=3).engines) == COUNT
    assert most == 3


def test_memory_bounds_workers(run: Any, tmp_path: pathlib.Path) -> None:
    told = run(**{"*": "sleep 1"})
    too_much = psutil.virtual_memory().total
    told.specs = [make_spec(tmp_path, batch, weight_bytes=too_much) for batch in range(1, 3)]
    told.build(workers=2)
    assert told.list_kinds() == [events.PLAN, *[events.STARTED, events.FINISHED] * 2]
    assert any("GB are free" in event.message for event in told.events if event.phase == events.WAITING)


def test_two_processes_of_one_key_build_it_once(run: Any, tmp_path: pathlib.Path) -> None:
    told = run(**{"*": "sleep 2"})
    told.specs = told.specs[:1]
    other = run(**{"*": "sleep 2"})
    other.specs = told.specs
    other.folder = tmp_path / "others"
    other.folder.mkdir()
    thread = threading.Thread(target=other.build)
    thread.start()
    told.build()
    thread.join()
    kinds = sorted(kind for one in (told, other) for kind in one.list_kinds())
    assert kinds.count(events.FINISHED) == 1
    assert kinds.count(events.CACHED) == 1
    assert any("another process" in event.message for one in (told, other) for event in one.events)


def test_a_cache_that_cannot_be_written_is_told_and_costs_no_engine(
    tmp_path: pathlib.Path, run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file, where a folder should be")
    told = run()
    result = told.build()
    assert len(result.engines) == COUNT
    assert all((told.folder / engine.file).is_file() for engine in result.engines)
    assert "cannot be written" in caplog.text


def test_a_failure_of_many_names_the_others() -> None:
    first, second = (BuildError("no engine", cause="timeout", segment=name, shapes="x=1") for name in "ab")
    first.failures = (first, second)
    assert str(first).endswith("Failed too: b for x=1 (timeout).")
