"""The outputs of an engine beside TensorFlow's, in numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from beforehand.records import OutputAccuracy

Array = np.ndarray[Any, Any]
# Of an output that is smaller everywhere, errors are measured by this magnitude.
SMALLEST_MAGNITUDE = 1e-6
# More columns than these are no classes.
MOST_CLASSES = 100_000
_CHUNK = 1 << 20  # elements in float64 at once


def compare_output(name: str, expected: Array, found: Array) -> OutputAccuracy:
    """How `found` differs from `expected`; see `OutputAccuracy` for each number. Sums are made in float64."""
    is_float = not (expected.dtype == bool or np.issubdtype(expected.dtype, np.integer))
    if expected.shape != found.shape:
        return OutputAccuracy(name, 0.0, 0.0, 0.0, 0.0, expected.size or 1, None, None if is_float else 1.0)
    sums = _Sums()
    for wanted, given in _cut(expected, found):
        sums.add(wanted, given)
    magnitude = max(sums.magnitude, SMALLEST_MAGNITUDE)
    return OutputAccuracy(
        name,
        max_abs=sums.max_abs,
        max_rel=sums.max_abs / magnitude,
        mean_abs=sums.sum_abs / max(sums.count, 1),
        cosine=sums.find_cosine(),
        lost=sums.lost,
        top1=_compare_top(expected, found) if is_float else None,
        unequal=None if is_float else sums.unequal / max(sums.count, 1),
    )


def take_worst(several: Sequence[OutputAccuracy]) -> OutputAccuracy:
    """Of one output over several samples the worst of each number; means and shares are averaged, values lost summed."""
    top1 = [item.top1 for item in several if item.top1 is not None]
    unequal = [item.unequal for item in several if item.unequal is not None]
    return dataclasses.replace(
        several[0],
        max_abs=max(item.max_abs for item in several),
        max_rel=max(item.max_rel for item in several),
        mean_abs=math.fsum(item.mean_abs for item in several) / len(several),
        cosine=min(item.cosine for item in several),
        lost=sum(item.lost for item in several),
        top1=math.fsum(top1) / len(top1) if top1 else None,
        unequal=math.fsum(unequal) / len(unequal) if unequal else None,
    )


@dataclasses.dataclass
class _Sums:
    """Over the values that are finite in both."""

    count: int = 0
    lost: int = 0
    unequal: int = 0
    magnitude: float = 0.0
    max_abs: float = 0.0
    sum_abs: float = 0.0
    dot: float = 0.0
    squares: tuple[float, float] = (0.0, 0.0)

    def add(self, expected: Array, found: Array) -> None:
        is_known, is_finite = np.isfinite(expected), np.isfinite(found)
        self.lost += int(np.sum(is_known & ~is_finite))
        self.magnitude = max(self.magnitude, float(np.max(np.abs(expected), where=is_known, initial=0.0)))
        if not (is_known & is_finite).all():
            expected, found = expected[is_known & is_finite], found[is_known & is_finite]
        difference = np.abs(found - expected)
        self.count += difference.size
        self.unequal += int(np.count_nonzero(difference))
        self.max_abs = max(self.max_abs, float(np.max(difference, initial=0.0)))
        self.sum_abs += float(np.sum(difference))
        self.dot += float(np.dot(expected, found))
        self.squares = (
            self.squares[0] + float(np.dot(expected, expected)),
            self.squares[1] + float(np.dot(found, found)),
        )

    def find_cosine(self) -> float:
        lengths = math.sqrt(self.squares[0]) * math.sqrt(self.squares[1])
        if lengths == 0 or not math.isfinite(lengths):
            return 1.0 if self.max_abs <= SMALLEST_MAGNITUDE else 0.0
        return min(1.0, max(-1.0, self.dot / lengths))


def _cut(expected: Array, found: Array) -> Iterator[tuple[Array, Array]]:
    pair = expected.reshape(-1), found.reshape(-1)
    for start in range(0, expected.size, _CHUNK):
        wanted, given = (array[start : start + _CHUNK].astype(np.float64) for array in pair)
        yield wanted, given


def _compare_top(expected: Array, found: Array) -> float | None:
    """In how many rows the largest value stands where TensorFlow's does: of equal ones there, any counts."""
    if expected.ndim != 2 or not expected.size or not 2 <= expected.shape[1] <= MOST_CLASSES:
        return None
    same = 0
    for wanted, given in zip(expected, found, strict=True):
        row = wanted.astype(np.float64)
        same += bool(row[np.argmax(given.astype(np.float64))] >= row.max() or not np.isfinite(row).all())
    return same / len(expected)
