"""How many times faster one thing is than another, of times measured in pairs, with an interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A median of ratios, and the interval that holds it with 95 %."""

    median: float
    low: float
    high: float


def estimate_ratio(ratios: Sequence[float]) -> Ratio:
    """The median and the interval between two order statistics; of fewer than six, the smallest and the largest.

    How many of n values lie below the true median is binomial with p = 1/2, whatever the distribution is: nothing is assumed
    but that the pairs are alike.

    Args:
        ratios: At least one.
    """
    ordered = sorted(ratios)
    count = len(ordered)
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    rank = max(1, _find_rank(count))
    return Ratio(middle, ordered[rank - 1], ordered[count - rank])


def _find_rank(count: int) -> int:
    """The largest k for which the k-th smallest and the k-th largest value are such an interval; 0: there is none."""
    tail, term, rank = 0.0, 0.5**count, 0
    while rank < count // 2:
        tail += term  # the chance that at most `rank` values lie below the median
        if 2 * tail > 1 - CONFIDENCE:
            break
        term *= (count - rank) / (rank + 1)
        rank += 1
    return rank
