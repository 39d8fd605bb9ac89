"""How events of builds are told: the words, the pace of lines, which display, and that none of it can cost a build."""

from __future__ import annotations

import itertools
import json
import logging
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from beforehand import causes
from beforehand.build_engines import events
from beforehand.build_engines.events import BuildEvent
from beforehand.errors import BuildError, OptionValueError
from beforehand.progress import pace
from beforehand.progress.choose import open_display
from beforehand.progress.describe import describe_bytes, describe_event, describe_seconds

NAME = "engine 2 of 3 TRTEngineOp_000_000 x=1x4, fake"
ERROR = BuildError(
    "TRTEngineOp_000_000 was not built", cause=causes.CRASHED, why="a crash\n\tin several\nlines", nodes=("a", "b"),
    advice="build again", log="/logs/2",
)  # fmt: skip


def make_event(kind: str, **facts: Any) -> BuildEvent:
    where = {"engine": 2, "engines": 3, "segment": "TRTEngineOp_000_000", "shapes": "x=1x4", "backend": "fake"}
    return BuildEvent(kind, 1.0, **{**where, **facts})


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEFOREHAND_PROGRESS", raising=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A list with one time in it, which is what the clock shows."""
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            make_event(events.PLAN, engine=0, message="3 engines: 1 in the cache, 2 to build", left_s=200.0),
            "3 engines: 1 in the cache, 2 to build; 3 min 20 s left by past builds",
        ),
        (make_event(events.PLAN, engine=0, message="all in the cache", left_s=0.0), "all in the cache"),
        (make_event(events.PLAN, engine=0, message="3 engines"), "3 engines; no past builds to go by"),
        (make_event(events.STARTED), f"{NAME}: started; no past builds to go by"),
        (make_event(events.STARTED, estimate_s=7500.0), f"{NAME}: started; it takes 2 h 5 min by past builds"),
        (
            make_event(events.HEARTBEAT, phase="compiling", elapsed_s=12.2, memory_bytes=1_200_000_000),
            f"{NAME}: compiling, 12 s, 1.2 GB of memory, no past builds to go by",
        ),
        (
            make_event(events.PHASE, phase="writing", elapsed_s=1.0, estimate_s=2.0),
            f"{NAME}: writing, 1.0 s, it takes 2.0 s by past builds",
        ),
        (
            make_event(events.HEARTBEAT, phase="compiling", elapsed_s=30.0, estimate_s=20.0),
            f"{NAME}: compiling, 30 s, longer than 20 s by past builds",
        ),
        (
            make_event(events.PHASE, phase=events.WAITING, elapsed_s=9.0, estimate_s=2.0, message="for memory"),
            f"{NAME}: waiting, 9.0 s, for memory",
        ),
        (
            make_event(events.FINISHED, elapsed_s=61.0, bytes=3_400, memory_bytes=56_700_000, left_s=5.0),
            f"{NAME}: built in 1 min 1 s, 3.4 kB, 56.7 MB of memory at most; 5.0 s left by past builds",
        ),
        (make_event(events.CACHED, bytes=12, left_s=0.0), f"{NAME}: found in the cache, 12 bytes"),
        (
            make_event(events.FAILED, elapsed_s=3.0, error=ERROR),
            f"{NAME}: FAILED after 3.0 s: BH401 TRTEngineOp_000_000 was not built. a crash in several lines. Try: build again. Log: /logs/2",
        ),
        (make_event(events.CANCELLED, elapsed_s=3.0), f"{NAME}: cancelled after 3.0 s"),
        (make_event(events.CANCELLED, engine=0, message="interrupted; 2 left"), "cancelled: interrupted; 2 left"),
    ],
)  # fmt: skip
def test_an_event_is_told_in_one_line(event: BuildEvent, line: str) -> None:
    assert describe_event(event) == line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown time"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.97, "10 s"),
        (59.6, "1 min 0 s"),
        (3599.7, "1 h 0 min"),
    ],
)
def test_times_have_two_units_at_most(seconds: float | None, text: str) -> None:
    assert describe_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 bytes"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (2**40, "1099.5 GB")]
)
def test_sizes_are_decimal(count: int, text: str) -> None:
    assert describe_bytes(count) == text


@pytest.mark.parametrize("between", [0.25, 1.0, 1.2, 1.7])
def test_a_silent_build_is_told_at_least_every_10_s_and_hardly_oftener(
    clock: Any, between: float, capsys: pytest.CaptureFixture[str]
) -> None:
    start, told = clock[0], [clock[0]]
    with open_display("plain") as show:
        show(make_event(events.STARTED))
        while clock[0] - start < 300:
            capsys.readouterr()
            clock[0] += between
            show(make_event(events.HEARTBEAT, phase="compiling", elapsed_s=clock[0] - start))
            if capsys.readouterr().err:
                told.append(clock[0])
    gaps = [later - earlier for earlier, later in itertools.pairwise(told)]
    assert max(gaps) <= 10
    assert min(gaps) >= 7.5


def test_phases_wait_for_the_next_sign_of_life_but_not_if_they_have_a_message(
    clock: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_display("plain") as show:
        show(make_event(events.STARTED))
        show(make_event(events.PHASE, phase="compiling"))
        show(make_event(events.PHASE, phase=events.WAITING, message="for memory"))
        clock[0] += 9
        show(make_event(events.PHASE, phase="writing"))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": engine 2 of 3 ")[0] for line in lines] == ["beforehand"] * 3
    assert ["started" in lines[0], "for memory" in lines[1], "writing" in lines[2]] == [True] * 3


def test_several_builds_at_once_each_have_their_signs_of_life(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with open_display("plain") as show:
        for engine in (1, 2):
            show(make_event(events.STARTED, engine=engine))
        clock[0] += 9
        for engine in (1, 2):
            show(make_event(events.HEARTBEAT, engine=engine, phase="compiling"))
    assert [line.split()[2] for line in capsys.readouterr().err.splitlines()] == ["1", "2", "1", "2"]


def test_json_lines_have_every_event_with_all_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    sent = [
        make_event(events.PHASE, phase="compiling"),
        make_event(events.HEARTBEAT, elapsed_s=1.5, estimate_s=3.0),
        make_event(events.FAILED, error=ERROR),
    ]
    with open_display("json") as show:
        for event in sent:
            show(event)
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert told == [event.to_dict() for event in sent]
    assert told[1]["elapsed_s"] == 1.5
    assert "error" not in told[1]
    assert told[2]["error"] == {
        "code": "BH401", "cause": "crashed", "what": ERROR.what, "why": ERROR.why, "advice": "build again",
        "nodes": ["a", "b"], "log": "/logs/2",
    }  # fmt: skip


def test_the_logger_has_levels_and_a_life_sign_at_info(
    clock: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, "beforehand")
    with open_display("log") as show:
        show(make_event(events.STARTED))
        show(make_event(events.HEARTBEAT))
        clock[0] += 9
        show(make_event(events.HEARTBEAT))
        show(make_event(events.FAILED, error=ERROR))
        show(make_event(events.CANCELLED))
    assert [record.levelname for record in caplog.records] == ["INFO", "DEBUG", "INFO", "ERROR", "WARNING"]
    assert {record.name for record in caplog.records} == {"beforehand"}
    assert capsys.readouterr().err == ""


def test_off_shows_nothing_and_still_calls_the_users_function(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[BuildEvent] = []
    with open_display("off", seen.append) as show:
        show(make_event(events.STARTED))
    assert seen == [make_event(events.STARTED)]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("progress", ["auto", "live"])
def test_what_is_no_terminal_gets_lines(progress: str, capsys: pytest.CaptureFixture[str]) -> None:
    with open_display(progress) as show:
        show(make_event(events.STARTED))
        assert capsys.readouterr().err == f"beforehand: {NAME}: started; no past builds to go by\n"


def test_the_environment_stands_above_the_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BEFOREHAND_PROGRESS", "JSON")
    with open_display("off") as show:
        show(make_event(events.STARTED))
    assert json.loads(capsys.readouterr().err)["kind"] == events.STARTED


def test_a_wrong_value_in_the_environment_is_refused_with_those_that_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEFOREHAND_PROGRESS", "loud")
    with pytest.raises(OptionValueError, match=r"BEFOREHAND_PROGRESS is 'loud'\. Try: one of auto, live, plain"):
        open_display("off").__enter__()


def test_a_function_that_raises_is_told_once_with_its_traceback_and_builds_go_on(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def fail(event: BuildEvent) -> None:
        calls.append(event)
        raise ZeroDivisionError("of the user")

    with open_display("plain", fail) as show:
        show(make_event(events.STARTED))
        show(make_event(events.FINISHED))
    assert len(calls) == 1
    [record] = caplog.records
    assert record.getMessage() == "on_event failed, and is not called again: ZeroDivisionError: of the user"
    assert record.levelname == "WARNING"
    assert record.exc_info
    assert "in fail" in caplog.text
    assert len(capsys.readouterr().err.splitlines()) >= 2  # the display heard of both


def test_ctrl_c_in_the_users_function_goes_through() -> None:
    def interrupt(event: BuildEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_display("off", interrupt) as show:
        show(make_event(events.STARTED))


# In a process of its own: what stderr is there, is what is tested. {done} is written where all of it was survived.
SURVIVE = """
import os, sys
{before}
from beforehand.build_engines.events import BuildEvent
from beforehand.progress.choose import open_display
seen = []
with open_display({progress!r}, seen.append) as show:
    for kind in ("started", "finished"):
        show(BuildEvent(kind, 1.0, engine=1, engines=1))
print(len(seen))
"""
STREAMS = {
    "closed": "sys.stderr.close()",
    "none": "sys.stderr = None",
    "closed below": "os.close(2)",
    "no reader": "read, write = os.pipe(); os.close(read); os.dup2(write, 2)",
    "not quite a stream": "sys.stderr = object()",
    "full disk": "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)",
}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("progress", ["auto", "live", "plain", "json", "log"])
@pytest.mark.parametrize("stream", STREAMS)
def test_a_stderr_that_cannot_be_written_costs_nothing(stream: str, progress: str, tmp_path: pathlib.Path) -> None:
    script = SURVIVE.format(before=STREAMS[stream], progress=progress)
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    assert done.stdout == "2\n"
