"""Events in words: the same for every display that a person reads."""

from __future__ import annotations

from beforehand.build_engines import events
from beforehand.build_engines.events import BuildEvent

_UNKNOWN = "no past builds to go by"
_ENDS = (events.FINISHED, events.CACHED, events.FAILED)


def describe_event(event: BuildEvent) -> str:
    """One line for an event, without a line break: a backend's words may have many."""
    if event.kind == events.PLAN:
        text = event.message if event.left_s == 0 else f"{event.message}; {describe_left(event)}"
    elif event.engine == 0:
        text = f"{event.kind}: {event.message}"
    else:
        text = f"engine {event.engine} of {event.engines} {describe_engine(event)}: {describe_state(event)}"
        if event.kind in _ENDS and event.left_s:
            text += f"; {describe_left(event)}"
    return " ".join(text.split())


def describe_engine(event: BuildEvent) -> str:
    """Which engine: `TRTEngineOp_000_000 x=1x224x224x3, openvino`."""
    return f"{event.segment} {event.shapes}, {event.backend}"


def describe_state(event: BuildEvent) -> str:
    """What became of it, or what it is at."""
    if event.kind == events.STARTED:
        return (
            f"started; it takes {describe_seconds(event.estimate_s)} by past builds"
            if event.estimate_s
            else f"started; {_UNKNOWN}"
        )
    if event.kind == events.FINISHED:
        memory = f", {describe_bytes(event.memory_bytes)} of memory at most" if event.memory_bytes else ""
        return f"built in {describe_seconds(event.elapsed_s)}, {describe_bytes(event.bytes)}{memory}"
    if event.kind == events.CACHED:
        return f"found in the cache, {describe_bytes(event.bytes)}"
    if event.kind == events.FAILED:
        return f"FAILED after {describe_seconds(event.elapsed_s)}: {event.error or event.message}"
    if event.kind == events.CANCELLED:
        return f"cancelled after {describe_seconds(event.elapsed_s)}"
    is_unknown = event.estimate_s is None and event.phase != events.WAITING
    return describe_progress(event) + (f", {_UNKNOWN}" if is_unknown else "")


def describe_progress(event: BuildEvent) -> str:
    """A build at work: phase, time, memory, and what past builds took, where there are any."""
    parts = [event.phase or "at work", describe_seconds(event.elapsed_s)]
    if event.memory_bytes:
        parts.append(f"{describe_bytes(event.memory_bytes)} of memory")
    if event.estimate_s and event.phase != events.WAITING:
        word = "it takes" if event.elapsed_s <= event.estimate_s else "longer than"
        parts.append(f"{word} {describe_seconds(event.estimate_s)} by past builds")
    if event.message:
        parts.append(event.message)
    return ", ".join(parts)


def describe_left(event: BuildEvent) -> str:
    """How long the whole still takes, if past builds tell."""
    if event.left_s is None:
        return _UNKNOWN
    return f"{describe_seconds(event.left_s)} left by past builds"


def describe_seconds(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds is None:
        return "unknown time"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def describe_bytes(count: int) -> str:
    """`12 bytes`, `3.4 kB`, `56.7 MB`, `8.9 GB`; decimal units."""
    if count < 1000:
        return f"{count} bytes"
    for unit, size in (("kB", 1e3), ("MB", 1e6)):
        if count < size * 999.95:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e9:.1f} GB"
