"""Run work that can hang, crash or eat all memory in a process of its own, and end it when it must end.

Whatever happens there, this interpreter lives: the child gets nothing of it but its command line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import psutil

from beforehand import causes
from beforehand.build_engines.bound_log import bound_log
from beforehand.build_engines.events import HEARTBEAT_S, STARTING, Progress, Report
from beforehand.build_engines.measure_memory import count_oom_kills, find_available, measure_tree
from beforehand.build_engines.settings import BuildSettings
from beforehand.build_engines.status_file import Failure, StatusReader
from beforehand.errors import BuildError

_POLL_S = 0.05
_LAST_WORDS_S = 5.0  # for a killed process to be gone
OnStart = Callable[["subprocess.Popen[bytes]"], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a child ended.

    Attributes:
        code: Its exit code; negative: the signal that ended it.
        stopped: Why it was ended from here, one of the causes TIMEOUT, HOST_MEMORY, CANCELLED; "" if it was not.
        failure: What it told of its failure.
        result: What it told of its success.
        seconds: How long it ran.
        phase: What it was at last.
        memory_bytes: The last resident memory seen, of it and its children.
        peak_bytes: The most seen.
        cap_bytes: The most allowed.
        oom_kills: The kernel's count of processes killed for lack of memory, before and after, and where it was read.
        log: What it wrote.
    """

    code: int
    stopped: str
    failure: Failure | None
    result: str
    seconds: float
    phase: str
    memory_bytes: int
    peak_bytes: int
    cap_bytes: int
    oom_kills: tuple[int, int, str] | None
    log: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Watch:
    """Who watches a child: gets progress, may cancel it, and sees its process.

    Attributes:
        report: Called at each new phase, and every `HEARTBEAT_S`.
        cancel: Once it is set, the child is ended.
        on_start: Called with the process, which may be ended at any time.
    """

    report: Report = lambda progress: None
    cancel: threading.Event | None = None
    on_start: OnStart = lambda process: None


def run_child(
    module: str, arguments: Sequence[str], folder: pathlib.Path, name: str, limits: BuildSettings, watch: Watch
) -> Outcome:
    """Run `python -m MODULE STATUS PARENT ARGUMENTS...`, where STATUS is the file for `StatusWriter`, until it ends.

    Args:
        module: Calls `prepare_child` first.
        arguments: What else it is given.
        folder: Its working directory, where NAME.log and NAME.status are written.
        name: As above.
        limits: Deadline and cap of memory.
        watch: Who watches.

    Raises:
        BuildError: BH401, no Python can be started from here.
    """
    log, status = folder / f"{name}.log", folder / f"{name}.status"
    status.unlink(missing_ok=True)
    cap = limits.max_build_memory_bytes or find_available()
    kills = count_oom_kills()
    command = [*_find_python(), "-m", module, str(status), str(os.getpid()), *arguments]
    with _start(command, folder, log) as process:
        watch.on_start(process)
        watcher = _Watcher(process, StatusReader(status), limits.timeout_s, cap, log)
        stopped = watcher.wait(watch)
    after = count_oom_kills()
    seen = (kills[0], after[0], after[1]) if kills and after and kills[1] == after[1] else None
    return Outcome(
        process.returncode, stopped, watcher.status.failure, watcher.status.result, watcher.elapsed, watcher.phase, watcher.memory, watcher.peak,
        cap, seen, log,
    )  # fmt: skip


def _find_python() -> list[str]:
    """This interpreter. In a program that embeds Python, `sys.executable` may be empty, or the program itself."""
    if not sys.executable or not os.access(sys.executable, os.X_OK):
        raise BuildError(
            "no process can be started to build in",
            cause=causes.FAILED,
            why=f"sys.executable is {sys.executable!r}, as in a program that embeds Python",
            advice="set sys.executable to the path of this Python's interpreter, or build in a script of its own",
        )
    return [sys.executable]


@contextlib.contextmanager
def _start(command: Sequence[str], folder: pathlib.Path, log: pathlib.Path) -> Iterator[subprocess.Popen[bytes]]:
    """The child, in a session of its own: Ctrl-C in a terminal is not for it, and its children can be ended with it."""
    # It must find the same packages, wherever the user's script put them on the path; nothing of the working directory,
    # where a user's json.py may lie.
    paths = [os.path.abspath(path) for path in sys.path if path]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environ, cwd=folder,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and its children, at once: no backend can be asked to stop. Harmless if it has ended, but for its children."""
    left = _list_children(process.pid)  # also those that have left its session
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    for child in left:
        with contextlib.suppress(psutil.Error):
            child.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LAST_WORDS_S)


def _list_children(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return list(psutil.Process(pid).children(recursive=True))
    return []


class _Watcher:
    """Looks at a child 20 times a second. The clock is ours: a backend may be silent for minutes."""

    def __init__(
        self, process: subprocess.Popen[bytes], status: StatusReader, timeout_s: float, cap: int, log: pathlib.Path
    ) -> None:
        self._process, self._timeout_s, self._cap, self._log = process, timeout_s, cap, log
        self._begun = time.monotonic()
        self.status = status
        self.phase = STARTING
        self.memory = self.peak = 0

    @property
    def elapsed(self) -> float:
        return round(time.monotonic() - self._begun, 3)

    def wait(self, watch: Watch) -> str:
        """Until it ends, or must be ended: why, as a cause; "" if it ended by itself."""
        told = -HEARTBEAT_S
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_S)
            has_ended = self._process.returncode is not None
            told = self._look(watch.report, told)
            if has_ended:
                return ""
            if stopped := self._find_reason(watch.cancel):
                _end(self._process)
                self.status.read_phases()
                return stopped

    def _look(self, report: Report, told: float) -> float:
        """See what is new; returns when progress was last reported."""
        self.memory = measure_tree(self._process.pid) or self.memory
        self.peak = max(self.peak, self.memory)
        bound_log(self._log)
        phases = self.status.read_phases()
        for phase in phases or ([self.phase] if self.elapsed - told >= HEARTBEAT_S else []):
            self.phase, told = phase, self.elapsed
            report(Progress(phase, told, self.memory, self.peak))
        return told

    def _find_reason(self, cancel: threading.Event | None) -> str:
        if cancel is not None and cancel.is_set():
            return causes.CANCELLED
        if self._timeout_s and self.elapsed >= self._timeout_s:
            return causes.TIMEOUT
        return causes.HOST_MEMORY if self.memory > self._cap else ""
