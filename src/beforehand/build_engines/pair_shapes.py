"""Shapes measured at the two ends of a range of batches, as ranges of the segments that they came to."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from beforehand.records import SegmentRecord, Shape, ShapeSet

_log = logging.getLogger("beforehand")
Measured = list[tuple[int, ShapeSet]]


def pair_shapes(
    low: Measured, high: Measured, segments: Sequence[SegmentRecord], *, any_dimension: bool = False
) -> Measured:
    """For each segment (by its index in the manifest) the ranges between the shapes measured at both ends of a range.

    A segment that was called several times is paired call by call. A pair is a range if the shapes agree but for
    first dimensions that grow with the batch, or stay. Where they do not, the segment has no range: the shapes of
    both ends stand alone, and a WARNING says so.

    Args:
        low: Shapes measured with the smallest batch.
        high: Shapes measured with the largest.
        segments: All segments, in the order of the manifest.
        any_dimension: The range is not one of batches: any dimension may grow.
    """
    ends: dict[int, tuple[list[ShapeSet], list[ShapeSet]]] = {}
    for place, measured in enumerate((low, high)):
        for index, shapes in measured:
            ends.setdefault(index, ([], []))[place].append(shapes)
    paired: Measured = []
    for index, (smallest, largest) in ends.items():
        if len(smallest) == len(largest) and all(
            _is_range(a, b, any_dimension) for a, b in zip(smallest, largest, strict=True)
        ):
            found = [make_range(a.names, a.shapes, b.shapes) for a, b in zip(smallest, largest, strict=True)]
        else:
            found = list(dict.fromkeys([*smallest, *largest]))
            _log.warning(
                "%s has no range of %s, and an engine for either end of it alone: its inputs were %s with "
                "the smallest %s, and %s with the largest; %s.",
                segments[index].name, "shapes" if any_dimension else "batches", _describe(smallest),
                "shapes" if any_dimension else "batch", _describe(largest),
                "they do not grow" if any_dimension else "more than their first dimensions differ",
            )  # fmt: skip
        paired.extend((index, shapes) for shapes in found)
    return paired


def make_range(names: tuple[str, ...], low: tuple[Shape, ...], high: tuple[Shape, ...]) -> ShapeSet:
    """The range between two sets of shapes; the set itself if they are equal."""
    return ShapeSet(names, low, () if low == high else high)


def _is_range(smallest: ShapeSet, largest: ShapeSet, any_dimension: bool) -> bool:
    return all(
        len(low) == len(high)
        and (any_dimension or low[1:] == high[1:])
        and all(a <= b for a, b in zip(low, high, strict=True))
        for low, high in zip(smallest.shapes, largest.shapes, strict=True)
    )


def _describe(several: Iterable[ShapeSet]) -> str:
    return "; ".join(shapes.describe() for shapes in several) or "not asked for"
