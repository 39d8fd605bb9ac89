"""Builds as a person sees them: on a real terminal of some size, in a pipe, interrupted, killed. The fake backend builds."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence

import pytest

pty = pytest.importorskip("pty", reason="terminals of POSIX")

BUILD = """
import dataclasses, logging, pathlib, sys
from beforehand.build_engines.build_all import BuildHooks, build_all
from beforehand.build_engines.plan_engines import make_key
from beforehand.build_engines.settings import BuildSettings
from beforehand.cli.progress import show_progress
from beforehand.progress.choose import open_display
from beforehand.records import EngineSpec, ShapeSet
from beforehand.store.cache_folder import CacheFolder

folder, progress = pathlib.Path(sys.argv[1]), sys.argv[2]
(folder / "segment.onnx").write_bytes(b"a model")
specs = [
    EngineSpec("TRTEngineOp_000_000", 0, str(folder / "segment.onnx"), ("i",), ("o",), ShapeSet(("x",), ((batch, 4),)),
               "fake", "1", "FP32", "cpu", (), "", graph="digest")
    for batch in map(int, sys.argv[3].split(","))
]
specs = [dataclasses.replace(spec, key=make_key(spec)) for spec in specs]
(folder / "out").mkdir(exist_ok=True)
told = []
def tell(event):
    if event.kind == "finished":
        print("printed by the program")
        logging.getLogger("beforehand").info("logged by the program")
with show_progress(progress), open_display(progress, tell) as show:
    result = build_all(specs, folder / "out", BuildSettings(), CacheFolder(folder / "cache"), BuildHooks(on_event=show))
print(f"{len(result.engines)} engines, {len(result.failures)} failures")
"""
_SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")


class Screen:
    """What a terminal shows after some output: as much of one as the display uses; anything else is an error."""

    def __init__(self, columns: int) -> None:
        self.columns, self.lines, self.row, self.column = columns, [""], 0, 0

    def feed(self, text: str) -> None:
        while text:
            if found := _SEQUENCE.match(text):
                self._obey(found[1], found[2])
                text = text[found.end() :]
            else:
                self._type(text[0])
                text = text[1:]

    def _obey(self, numbers: str, verb: str) -> None:
        if verb == "A":
            self.row -= int(numbers or 1)
            assert self.row >= 0
        elif verb == "K":
            assert numbers == "2"
            self.lines[self.row] = ""
        else:
            assert verb == "m", f"{numbers}{verb}"

    def _type(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self._go_down()
        else:
            assert letter.isprintable(), repr(letter)
            if self.column == self.columns:
                self.column = 0
                self._go_down()
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1

    def _go_down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")


class Terminal:
    """A process on a terminal of its own, which it controls."""

    def __init__(self, folder: pathlib.Path, columns: int, argv: Sequence[str], **environ: str) -> None:
        self.columns, self.output = columns, ""
        command = [sys.executable, "-c", BUILD, str(folder), *argv]
        # Not os.environ as it is: readline, which pytest imports, adds COLUMNS behind Python's back.
        environ = {**os.environ, "TERM": "xterm-256color", **environ}
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, command, environ)  # noqa: S606 (a terminal needs a fork)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.settings = termios.tcgetattr(self.master)

    def read_until(self, pattern: str, seconds: float = 30) -> None:
        """Read until something is shown; the empty pattern waits for the end."""
        deadline = time.monotonic() + seconds
        os.set_blocking(self.master, False)
        while not (pattern and re.search(pattern, self.output)):
            assert time.monotonic() < deadline, self.output
            try:
                data = os.read(self.master, 65536)
            except BlockingIOError:
                time.sleep(0.02)
                continue
            except OSError:  # Linux's way to say that nobody has the terminal open any more
                data = b""
            if not data:
                assert not pattern, self.output
                return
            self.output += data.decode()

    def show(self) -> list[str]:
        screen = Screen(self.columns)
        screen.feed(self.output)
        while screen.lines and not screen.lines[-1]:  # where something stood once
            screen.lines.pop()
        return screen.lines

    def close(self) -> int:
        assert termios.tcgetattr(self.master) == self.settings
        os.close(self.master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def join_lines(lines: Sequence[str], columns: int) -> list[str]:
    """Lines as they were before the terminal wrapped them."""
    joined, is_full = [], False
    for line in lines:
        if is_full:
            joined[-1] += line
        else:
            joined.append(line)
        is_full = len(line) == columns
    return joined


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEFOREHAND_FAKE", json.dumps({"x=1x4": "sleep 2.5", "x=9x4": "signal 11", "x=7x4": "hang"}))
    for name in ("BEFOREHAND_PROGRESS", "BEFOREHAND_LOG", "NO_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("columns", [160, 40])
def test_a_terminal_shows_builds_live_and_keeps_only_what_has_ended(tmp_path: pathlib.Path, columns: int) -> None:
    terminal = Terminal(tmp_path, columns, ["auto", "1,2,9"])
    terminal.read_until("")
    drawn = _SEQUENCE.sub("", terminal.output).replace("\r", "").replace("\n", "")
    clocks = re.findall(r"compiling, (\d\.\d) s", drawn)
    assert len(set(clocks)) >= 2, drawn  # it moves
    assert "0 of 3 engines done; no past builds to go by" in " ".join(drawn.split())
    assert "\x1b[?" not in terminal.output  # no hidden cursor, no other screen: nothing that a kill could leave behind
    lines = join_lines(terminal.show(), columns)
    name = "TRTEngineOp_000_000 x={}x4, fake: "
    expected = [
        "3 engines: 0 in the cache, 3 to build; no past builds to go by",
        f"engine 1 of 3 {name.format(1)}built in ",
        "printed by the program",
        "beforehand: logged by the program",
        f"engine 2 of 3 {name.format(2)}built in ",
        "printed by the program",
        "beforehand: logged by the program",
        f"engine 3 of 3 {name.format(9)}FAILED after ",
        "2 engines, 1 failures",
    ]
    assert len(lines) == len(expected), "\n".join(lines)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start), lines
    assert terminal.close() == 0


def test_ctrl_c_on_a_terminal_ends_builds_and_leaves_it_as_it_was(tmp_path: pathlib.Path) -> None:
    terminal = Terminal(tmp_path, 100, ["auto", "2,7"])
    terminal.read_until("engine 2 of 2 .*compiling")
    os.write(terminal.master, b"\x03")
    start = time.monotonic()
    terminal.read_until("")
    assert time.monotonic() - start < 5
    told = "\n".join(terminal.show())
    assert "engine 1 of 2 TRTEngineOp_000_000 x=2x4, fake: built in" in told
    assert "engine 2 of 2 TRTEngineOp_000_000 x=7x4, fake: cancelled after" in told
    assert "compiling" not in told
    assert "engines done" not in told
    assert told.rstrip().endswith("KeyboardInterrupt")
    assert terminal.close() == -signal.SIGINT


def run_shell(command: str) -> str:
    """What a terminal is sent by a command of a shell in it."""
    environ = {**os.environ, "TERM": "xterm", "BUILD": BUILD}
    pid, master = pty.fork()
    if pid == 0:
        os.execve("/bin/sh", ["/bin/sh", "-c", command], environ)  # noqa: S606 (a terminal needs a fork)
    shown = b""
    try:
        while data := os.read(master, 65536):
            shown += data
    except OSError:  # the end, on Linux
        pass
    os.waitpid(pid, 0)
    os.close(master)
    return shown.decode()


def test_what_a_program_prints_into_a_file_stays_there(tmp_path: pathlib.Path) -> None:
    shown = run_shell(f'"{sys.executable}" -c "$BUILD" "{tmp_path}" auto 1 > "{tmp_path}/printed"')
    assert (tmp_path / "printed").read_text().splitlines() == ["printed by the program", "1 engines, 0 failures"]
    assert "printed" not in shown
    assert "compiling" in shown


def test_a_job_in_the_background_does_not_draw_over_the_shell(tmp_path: pathlib.Path) -> None:
    shown = run_shell(f'set -m; "{sys.executable}" -c "$BUILD" "{tmp_path}" auto 2 & wait')
    assert "\x1b" not in shown
    assert "x=2x4, fake: built in" in shown


@pytest.mark.parametrize(("progress", "term"), [("auto", "dumb"), ("plain", "xterm")])
def test_a_terminal_gets_lines_where_it_cannot_draw_or_is_not_to(
    tmp_path: pathlib.Path, progress: str, term: str
) -> None:
    terminal = Terminal(tmp_path, 100, [progress, "2"], TERM=term)
    terminal.read_until("")
    assert "\x1b" not in terminal.output
    assert "beforehand: engine 1 of 1 TRTEngineOp_000_000 x=2x4, fake: started; no past" in terminal.output
    assert terminal.close() == 0


def test_a_terminal_that_goes_away_does_not_end_the_build(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-c", BUILD, str(tmp_path), "live", "1,2"]
    master, slave = pty.openpty()
    environ = {**os.environ, "TERM": "xterm"}
    with (tmp_path / "printed").open("w") as printed:
        done = subprocess.Popen(command, stdout=printed, stderr=slave, stdin=subprocess.DEVNULL, env=environ)
    os.close(slave)
    assert os.read(master, 10)
    os.close(master)
    done.wait(60)
    assert (tmp_path / "printed").read_text().splitlines()[-1] == "2 engines, 0 failures"


def run_in_pipe(folder: pathlib.Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BUILD, str(folder), *argv]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_a_pipe_gets_lines(tmp_path: pathlib.Path) -> None:
    lines = run_in_pipe(tmp_path, "auto", "1,9").stderr.splitlines()
    assert lines[0] == "beforehand: 2 engines: 0 in the cache, 2 to build; no past builds to go by"
    expected = ["x=1x4, fake: started", "x=1x4, fake: built in", "logged by", "x=9x4, fake: started", "FAILED after"]
    assert len(lines) == 6, lines
    assert all(words in line for words, line in zip(expected, lines[1:], strict=True)), lines
    again = run_in_pipe(tmp_path, "auto", "1").stderr
    assert again.startswith("beforehand: 1 engine: 1 in the cache, 0 to build\n")
    assert "x=1x4, fake: found in the cache, " in again


def test_every_line_of_json_is_an_object_the_log_s_too(tmp_path: pathlib.Path) -> None:
    told = [json.loads(line) for line in run_in_pipe(tmp_path, "json", "1,9").stderr.splitlines()]
    kinds = [line["kind"] for line in told]
    ends = [kind for kind in kinds if kind not in ("phase", "heartbeat")]
    assert ends == ["plan", "started", "finished", "log", "started", "failed"]
    assert kinds.count("heartbeat") >= 2  # a build of 2.5 s
    assert all(line["memory_bytes"] > 0 for line in told if line["kind"] == "heartbeat")
    failed = told[kinds.index("failed")]
    assert failed["error"]["cause"] == "crashed"
    assert pathlib.Path(failed["error"]["log"]).is_file()
