"""Medians of paired measurements, with intervals that assume nothing about the noise but that pairs are alike."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A median with its interval; infinitely wide while there are too few values to have one."""

    median: float
    low: float
    high: float
    count: int

    def judge(self, threshold: float, *, at_most: bool) -> str:
        """`met`, `missed`, or `inconclusive` where the interval holds the threshold.

        Args:
            threshold: The number to compare with.
            at_most: The value should not be above it; else not below it.
        """
        if self.high <= threshold:
            return "met" if at_most else "missed"
        if self.low > threshold or (self.low == threshold and not at_most):
            return "missed" if at_most else "met"
        return "inconclusive"


def estimate_median(values: Iterable[float], confidence: float = CONFIDENCE) -> Estimate:
    """The median and the interval between two order statistics that holds it with at least `confidence`.

    How many of n values lie below the true median is binomial with p = 1/2, whatever the distribution is.
    """
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        raise ValueError("a median of nothing")
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    rank = find_rank(count, confidence)
    if rank == 0:
        return Estimate(middle, -math.inf, math.inf, count)
    return Estimate(middle, ordered[rank - 1], ordered[count - rank], count)


def find_rank(count: int, confidence: float = CONFIDENCE) -> int:
    """The largest k for which the k-th smallest and the k-th largest value are such an interval; 0: there is none."""
    tail, term, rank = 0.0, 0.5**count, 0
    while rank < count // 2:
        tail += term  # the chance that at most `rank` values lie below the median
        if 2 * tail > 1 - confidence:
            break
        term *= (count - rank) / (rank + 1)
        rank += 1
    return rank


def combine_geometric(estimates: Sequence[Estimate]) -> Estimate:
    """The geometric mean of ratios; its interval is that of all bounds at once, so it is wider than it need be."""

    def mean(numbers: Iterable[float]) -> float:
        logs = [math.log(number) if number > 0 else -math.inf for number in numbers]
        return math.exp(sum(logs) / len(logs))

    return Estimate(
        mean(item.median for item in estimates),
        mean(item.low for item in estimates),
        mean(item.high for item in estimates),
        min(item.count for item in estimates),
    )
