"""How many times faster one thing is than another, of times measured in pairs, with an interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from beforehand.speed.estimate_median import find_rank


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
    rank = max(1, find_rank(count))
    return Ratio(middle, ordered[rank - 1], ordered[count - rank])
