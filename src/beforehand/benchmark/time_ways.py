"""Calls of several ways in turns, each way in a process of its own, until it is known which is faster."""

from __future__ import annotations

import dataclasses
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from beforehand.benchmark.alternate_calls import list_ratios
from beforehand.benchmark.open_way import NATIVE
from beforehand.benchmark.records import CallRow, Speedup
from beforehand.speed.estimate_median import Estimate, estimate_median

_TURN_MS = 150.0  # about how long a turn of one way lasts
_MOST_CALLS = 20  # in a turn
_MOST_SAMPLES = 200


class Asked(Protocol):
    """A way's process, or what stands for it in a test."""

    error: str

    def ask(self, data: dict[str, Any]) -> dict[str, Any]:
        """Its answer."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is timed: the fewest and the most rounds, the seconds after which no more than the fewest are, and the callers."""

    rounds: tuple[int, int]
    seconds: float
    callers: tuple[int, ...]


@dataclasses.dataclass
class _Times:
    """What was told of one way: of each round the median, and all of it."""

    warm: dict[str, Any]
    medians: list[float] = dataclasses.field(default_factory=list)
    all_ms: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    rss_mb: float = 0.0
    error: str = ""


def time_ways(
    ways: Mapping[str, Asked], place: int, signature: str, shapes: dict[str, list[int]], plan: Plan
) -> list[CallRow]:
    """Rows of all ways at one sample, for each number of callers. A way that fails has a row that says why.

    In each round every way has a turn, in a new random order: one call that is not timed, then some that are. Whatever disturbs
    the machine for longer than a round falls on all of them.
    """
    warm = {name: way.ask({"warm": place}) for name, way in ways.items()}
    rows = []
    for callers in plan.callers:
        found = {name: _Times(told, error=str(told.get("error") or "")) for name, told in warm.items()}
        _run_rounds(ways, found, place, callers, plan)
        rows += [make_row(name, signature, shapes, callers, times, found.get(NATIVE)) for name, times in found.items()]
    return rows


def _run_rounds(ways: Mapping[str, Asked], found: Mapping[str, _Times], place: int, callers: int, plan: Plan) -> None:
    shuffle = random.Random(1).shuffle  # noqa: S311 (an order of calls is no secret)
    order = [name for name in ways if not found[name].error]
    calls = {name: choose_calls(float(found[name].warm["second_ms"])) for name in order}
    end = time.monotonic() + plan.seconds
    for number in range(plan.rounds[1]):
        if number >= plan.rounds[0] and (time.monotonic() > end or (number % 3 == 0 and is_decided(found))):
            break
        shuffle(order)
        for name in tuple(order):
            told = ways[name].ask({"time": place, "callers": callers, "calls": calls[name]})
            times = found[name]
            if told.get("error"):
                times.error = str(told["error"])
                order.remove(name)
                continue
            times.medians.append(statistics.median(told["ms"]))
            times.all_ms += told["ms"]
            times.seconds += told["seconds"]
            times.rss_mb = float(told["rss_mb"])


def choose_calls(call_ms: float) -> int:
    """How many calls a turn has."""
    return max(1, min(_MOST_CALLS, int(_TURN_MS / max(call_ms, 1e-3))))


def is_decided(found: Mapping[str, _Times]) -> bool:
    """Whether it is known of every way whether it is faster than native or slower."""
    base = found.get(NATIVE)
    if base is None or base.error:
        return False
    others = [times for name, times in found.items() if name != NATIVE and not times.error]
    return all(compare(base.medians, times.medians).verdict != "inconclusive" for times in others)


def compare(base: Sequence[float], other: Sequence[float]) -> Speedup:
    """How many times faster `other` was than `base`, from pairs of the same round."""
    pairs = min(len(base), len(other))
    estimate = estimate_median(list_ratios({"base": list(base[:pairs]), "other": list(other[:pairs])}, "other", "base"))
    return describe_speedup(estimate)


def describe_speedup(estimate: Estimate) -> Speedup:
    """An estimate of a ratio, and whether it is known to be above or below 1."""
    verdict = {"met": "faster", "missed": "slower"}.get(estimate.judge(1.0, at_most=False), "inconclusive")
    is_known = estimate.low > -1e300  # minus infinity is no JSON
    return Speedup(
        round(estimate.median, 4), round(estimate.low, 4) if is_known else None,
        round(estimate.high, 4) if is_known else None, estimate.count, verdict,
    )  # fmt: skip


def make_row(
    way: str, signature: str, shapes: dict[str, list[int]], callers: int, times: _Times, base: _Times | None
) -> CallRow:
    """The row of one way."""
    row = CallRow(way, signature, shapes, callers)
    if times.error or not times.all_ms:
        return dataclasses.replace(row, error=times.error or "nothing was timed")
    ordered = sorted(times.all_ms)
    is_compared = way != NATIVE and base is not None and bool(base.medians)
    return dataclasses.replace(
        row,
        median_ms=round(statistics.median(ordered), 4),
        p95_ms=round(find_percentile(ordered, 0.95), 4),
        p99_ms=round(find_percentile(ordered, 0.99), 4),
        per_second=round(len(ordered) / times.seconds, 2),
        samples_ms=tuple(round(one, 4) for one in thin_out(times.all_ms)),
        rss_mb=times.rss_mb,
        first_ms=round(float(times.warm["first_ms"]), 3),
        calls=len(ordered),
        answered_by=str(times.warm["answered_by"]),
        speedup=compare(base.medians, times.medians) if is_compared and base is not None else None,
    )


def find_percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all is not above."""
    rank = -(-len(ordered) * round(1000 * share) // 1000)
    return ordered[max(0, min(len(ordered), rank) - 1)]


def thin_out(times: Sequence[float], most: int = _MOST_SAMPLES) -> list[float]:
    """At most so many of them, evenly taken, in order."""
    if len(times) <= most:
        return list(times)
    return [times[place * len(times) // most] for place in range(most)]
