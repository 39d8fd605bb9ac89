"""Calls of several ways to compute the same, one of each a round, in a new random order each round."""

import random
import time
from collections.abc import Callable, Mapping

Times = dict[str, list[float]]
WARM_UP = 3


def alternate_calls(
    ways: Mapping[str, Callable[[], object]],
    is_decided: Callable[[Times], bool],
    *,
    rounds: tuple[int, int],
    seconds: float,
) -> Times:
    """Milliseconds of each way in each round; what disturbs the machine falls on all of them.

    Args:
        ways: What to call, by name.
        is_decided: Whether the times so far answer the question; asked after every fifth round.
        rounds: The fewest and the most rounds.
        seconds: No round is begun after so long, once the fewest are done.
    """
    shuffle = random.Random(1).shuffle  # noqa: S311 (an order of calls is no secret)
    times: Times = {name: [] for name in ways}
    order = list(ways)
    for _ in range(WARM_UP):
        for name in order:
            ways[name]()
    end = time.perf_counter() + seconds
    for number in range(rounds[1]):
        if number >= rounds[0] and (time.perf_counter() > end or (number % 5 == 0 and is_decided(times))):
            break
        shuffle(order)
        for name in order:
            start = time.perf_counter()
            ways[name]()
            times[name].append(1000 * (time.perf_counter() - start))
    return times


def list_differences(times: Times, name: str, other: str) -> list[float]:
    """Of each round, the time of `name` less that of `other`."""
    return [a - b for a, b in zip(times[name], times[other], strict=True)]


def list_ratios(times: Times, name: str, other: str) -> list[float]:
    """Of each round, how many times faster `name` was than `other`."""
    return [b / a for a, b in zip(times[name], times[other], strict=True)]
