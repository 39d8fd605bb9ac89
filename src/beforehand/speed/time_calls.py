"""Calls of several ways to compute the same, by turns, in a new random order each round: what disturbs falls on all of them."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Sequence

Times = Sequence[Sequence[float]]  # seconds: of each way, one call of each round
FEWEST_ROUNDS = 3
MOST_ROUNDS = 200
# After so many rounds and seconds, and then after every fifth round, it is asked whether more are needed.
_FIRST_LOOK, _LEAST_S = 10, 0.15
# Calls shorter than this come once untimed in each turn: threads and caches are then its own, not those of the way before.
_SHORT_S = 0.02
# Calls shorter than this are timed several at once.
_TURN_S, _MOST_CALLS = 1e-3, 10
# Where the fewest rounds take longer than this many times the time allowed, it is given up.
_PATIENCE = 4


@dataclasses.dataclass(frozen=True)
class Way:
    """What is called, and what is done before each turn of it, which is not timed."""

    call: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def time_calls(ways: Sequence[Way], is_decided: Callable[[Times], bool], seconds: float) -> Times | None:
    """Seconds of one call of each way in each round; None where not even three rounds could be had.

    Args:
        ways: What to time.
        is_decided: Whether the times so far answer the question.
        seconds: No round is begun after so long, once three are done.
    """
    shuffle = random.Random(1).shuffle  # noqa: S311 (an order of calls is no secret)
    times: list[list[float]] = [[] for _ in ways]
    start = time.perf_counter()
    end, give_up = start + seconds, start + _PATIENCE * seconds
    last = [_warm_up(way) for way in ways]
    order = list(range(len(ways)))
    for number in range(MOST_ROUNDS):
        now = time.perf_counter()
        if number >= FEWEST_ROUNDS and now > end:
            break
        if number < FEWEST_ROUNDS and now > give_up:
            return None
        if number >= _FIRST_LOOK and number % 5 == 0 and now > start + _LEAST_S and is_decided(times):
            break
        shuffle(order)
        for index in order:
            last[index] = _time_turn(ways[index], last[index])
            times[index].append(last[index])
    return times


def _warm_up(way: Way) -> float:
    """Seconds of the second call; of a long one, of the first."""
    way.prepare()
    start = time.perf_counter()
    way.call()
    spent = time.perf_counter() - start
    if spent > 25 * _SHORT_S:
        return spent
    start = time.perf_counter()
    way.call()
    return time.perf_counter() - start


def _time_turn(way: Way, last: float) -> float:
    way.prepare()
    if last < _SHORT_S:
        way.call()
    count = max(1, min(_MOST_CALLS, int(_TURN_S / max(last, 1e-9))))
    start = time.perf_counter()
    for _ in range(count):
        way.call()
    return (time.perf_counter() - start) / count
