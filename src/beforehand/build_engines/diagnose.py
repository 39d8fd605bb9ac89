"""Why a build failed, as an error: what is claimed has evidence, all else is told in the words of who failed."""

from __future__ import annotations

import pathlib
import re
import signal

from beforehand import causes
from beforehand.build_engines import child
from beforehand.build_engines.find_nodes import find_nodes
from beforehand.build_engines.keep_log import keep_log
from beforehand.build_engines.settings import BuildSettings
from beforehand.build_engines.status_file import Failure
from beforehand.build_engines.supervise import Outcome
from beforehand.errors import BuildCancelledError, BuildError
from beforehand.records import EngineSpec

_CRASHES = frozenset({"SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS"})
_NO_MEMORY = re.compile(r"std::bad_alloc|cannot allocate memory", re.IGNORECASE)
_TAIL_BYTES = 8000
_MOST_NAMED = 4


def diagnose(spec: EngineSpec, outcome: Outcome, settings: BuildSettings) -> BuildError:
    """The error for a build that gave no engine.

    Args:
        spec: What was to be built.
        outcome: How the child ended.
        settings: Its deadline.
    """
    failure = find_failure(outcome, settings)
    shapes = spec.shapes.describe()
    nodes = () if failure.cause == causes.CANCELLED else find_nodes(spec.onnx_file, failure.nodes)
    cls = BuildCancelledError if failure.cause == causes.CANCELLED else BuildError
    return cls(
        f"the engine of {spec.segment} for {shapes} was not built by {spec.backend} ({failure.cause})",
        cause=failure.cause,
        segment=spec.segment,
        shapes=shapes,
        nodes=nodes,
        why=_join(failure.what, failure.why, _name_nodes(failure, nodes)),
        advice=failure.advice or causes.ADVICE.get(failure.cause, ""),
        log=str(keep_log(outcome.log)),
    )


def find_failure(outcome: Outcome, settings: BuildSettings) -> Failure:
    """Why a child failed, or was ended."""
    if outcome.stopped:
        return _describe_stop(outcome, settings)
    if outcome.failure is not None:
        return outcome.failure
    if outcome.code < 0:
        return _describe_signal(outcome)
    last = _read_tail(outcome.log).strip().rpartition("\n")[2]
    if outcome.code == child.DISK_FULL:
        return Failure(causes.DISK_FULL, "", f"there is no room left in {outcome.log.parent}")
    if outcome.code == 0:
        what = "the engine that it left was altered since" if outcome.result else "left no engine"
        return Failure(causes.INVALID_ENGINE, "", f"the process ended well, but {what}")
    return Failure(causes.FAILED, "", f"its process ended with code {outcome.code}. {last}")


def _describe_stop(outcome: Outcome, settings: BuildSettings) -> Failure:
    if outcome.stopped == causes.TIMEOUT:
        return Failure(
            causes.TIMEOUT, "", f"it took longer than {settings.timeout_s:g} s, and was {_describe_state(outcome)}"
        )
    if outcome.stopped == causes.HOST_MEMORY:
        limit = "max_build_memory_bytes allows" if settings.max_build_memory_bytes else "were free when it started"
        return Failure(
            causes.HOST_MEMORY,
            "",
            f"its process held {outcome.memory_bytes / 1e9:.2f} GB of memory, more than the {outcome.cap_bytes / 1e9:.2f} GB "
            f"that {limit}, and was {_describe_phase(outcome)}",
        )
    return Failure(causes.CANCELLED, "", f"it was cancelled after {outcome.seconds:.1f} s")


def _describe_signal(outcome: Outcome) -> Failure:
    number = -outcome.code
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "no signal known here"
    ended = f"its process was killed by signal {number} ({name}) while {_describe_state(outcome)}"
    kills = outcome.oom_kills
    if name == "SIGKILL" and kills and kills[1] > kills[0]:
        why = (
            f"{ended}; meanwhile the kernel's count of processes killed for lack of memory rose from {kills[0]} to {kills[1]} "
            f"({kills[2]})"
        )
        return Failure(causes.OOM_KILLED, "", why)
    if name == "SIGABRT" and _NO_MEMORY.search(_read_tail(outcome.log)):
        return Failure(causes.HOST_MEMORY, "", f"{ended}: it could not get the memory that it asked for")
    cause = causes.CRASHED if name in _CRASHES else causes.KILLED
    return Failure(cause, "", ended)


def _describe_state(outcome: Outcome) -> str:
    return f"{_describe_phase(outcome)}, with {outcome.memory_bytes / 1e9:.2f} GB of memory last seen"


def _describe_phase(outcome: Outcome) -> str:
    return f"{outcome.phase} after {outcome.seconds:.1f} s"


def _name_nodes(failure: Failure, nodes: tuple[str, ...]) -> str:
    if not nodes:
        return ""
    more = f" and {len(nodes) - _MOST_NAMED} more" if len(nodes) > _MOST_NAMED else ""
    named = ", ".join(nodes[:_MOST_NAMED]) + more
    return f"Nodes blamed: {named}" if failure.nodes else f"Nodes of the segment: {named}"


def _read_tail(log: pathlib.Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _join(*parts: str) -> str:
    return " ".join(part if part.endswith((".", "?", "!")) else f"{part}." for part in parts if part)
