"""Whether a machine is steady: the spread and drift of a fixed loop, and its load average."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence

from beforehand.benchmark.records import Steady

_REPEATS = 40
_LOOP = 60_000
MOST_SPREAD, MOST_DRIFT, MOST_LOAD = 0.10, 0.05, 0.3


def time_loop(repeats: int = _REPEATS) -> list[float]:
    """Milliseconds of a fixed loop of one thread, each time anew; about 0.1 s in all."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        total = 0
        for number in range(_LOOP):
            total += number & 3
        times.append(1000 * (time.perf_counter() - begun))
    return times


def find_load() -> float:
    """The load average of the last minute by core; 0 where the system has none."""
    if not hasattr(os, "getloadavg"):
        return 0.0
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def judge_steady(before: Sequence[float], after: Sequence[float], load: float) -> Steady:
    """What the loop's times before and after tell."""
    spread = max(_find_spread(before), _find_spread(after))
    drift = abs(statistics.median(after) / statistics.median(before) - 1)
    told = []
    if load > MOST_LOAD:
        told.append(f"others were at work before it began: load average {load:.2f} a core")
    if spread > MOST_SPREAD:
        told.append(f"a fixed loop took times that differ by {100 * spread:.0f} % (10 % to 90 % of them)")
    if drift > MOST_DRIFT:
        told.append(
            f"the same loop took {100 * drift:.0f} % longer or shorter afterwards: the clock rate changed, or others were at work"
        )
    text = (
        "; ".join(told)
        or f"steady: a fixed loop's times differ by {100 * spread:.1f} %, and by {100 * drift:.1f} % afterwards"
    )
    return Steady(not told, text, round(spread, 4), round(drift, 4), round(load, 3))


def _find_spread(times: Sequence[float]) -> float:
    ordered = sorted(times)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    return (high - low) / statistics.median(ordered)
