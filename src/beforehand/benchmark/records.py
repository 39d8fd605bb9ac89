"""What `beforehand.bench` measured, as frozen data; `docs/bench.md` has the form of its JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

VERSION = 1


@dataclasses.dataclass(frozen=True)
class Speedup:
    """How many times faster a way is than TensorFlow's own, round by round: the median and its 95 % interval.

    `verdict` is "faster", "slower", or "inconclusive" where the interval holds 1 or the rounds are too few for one (`low` and `high` are
    then None).
    """

    median: float
    low: float | None
    high: float | None
    rounds: int
    verdict: str


@dataclasses.dataclass(frozen=True)
class CallRow:
    """Calls of one way to run a signature, at one set of shapes, by so many callers at once, in a process that is warm.

    Attributes:
        way: "native", "frozen", "xla", "converted" or "standalone".
        signature: Key.
        shapes: Of the inputs, by name.
        callers: Threads that call at once.
        median_ms: Of all calls; of several callers each call's own time, in which it may have waited.
        p95_ms: As above.
        p99_ms: As above.
        per_second: Calls answered in a second, by all callers together.
        samples_ms: At most 200 of the times, evenly taken, in order.
        rss_mb: Resident memory of the way's process after these calls, TensorFlow and all.
        first_ms: The first call at these shapes in its process, which is apart.
        calls: How many were timed.
        answered_by: "engines", "TensorFlow", or "both"; of a converted model, by its counters.
        speedup: Against native at the same shapes and callers; None of native itself, or where native is not known.
        error: Why it could not run; None if it did, and then the numbers are None.
    """

    way: str
    signature: str
    shapes: dict[str, list[int]]
    callers: int
    median_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    per_second: float | None = None
    samples_ms: tuple[float, ...] = ()
    rss_mb: float | None = None
    first_ms: float | None = None
    calls: int = 0
    answered_by: str = ""
    speedup: Speedup | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class ColdRow:
    """A start in a new process: medians over `processes`, in seconds, files in the system's cache. `error`: why there is none.

    `cold_s` is load and first call together; `speedup` is that of the model never converted by this one's.
    """

    way: str
    import_s: float | None = None
    load_s: float | None = None
    first_call_s: float | None = None
    second_call_s: float | None = None
    cold_s: float | None = None
    processes: int = 0
    speedup: Speedup | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Steady:
    """Whether the machine was quiet enough: a fixed loop was timed before and after.

    `spread` is that of the loop's times (10 % to 90 %) by their median, the larger of the two; `drift` how much its median changed;
    `load` the load average of the last minute before, by core. `told` says it in words.
    """

    ok: bool
    told: str
    spread: float
    drift: float
    load: float


@dataclasses.dataclass(frozen=True)
class Bench:
    """What `beforehand.bench` measured; `when` in UTC."""

    when: str
    machine: dict[str, str]
    versions: dict[str, str]
    rows: tuple[CallRow, ...]
    cold: tuple[ColdRow, ...]
    steady: Steady
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in the JSON file."""
        return {"version": VERSION, **dataclasses.asdict(self)}
