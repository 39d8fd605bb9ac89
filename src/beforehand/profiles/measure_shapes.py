"""The hull of several shape sets, and how large one is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from beforehand.build_engines.pair_shapes import make_range
from beforehand.records import Shape, ShapeSet

Shapes = tuple[Shape, ...]


def list_ends(several: Iterable[ShapeSet]) -> tuple[list[Shapes], list[Shapes]]:
    """The smallest and the largest shapes of each."""
    pairs = [(item.shapes, item.max_shapes or item.shapes) for item in several]
    return [low for low, _ in pairs], [high for _, high in pairs]


def make_hull(several: Sequence[ShapeSet]) -> ShapeSet:
    """The narrowest range that holds them all, each dimension of each input by itself; all are of the same ranks."""
    lows, highs = list_ends(several)
    return make_range(several[0].names, _fold(min, lows), _fold(max, highs))


def _fold(choose: Callable[[Iterable[int]], int], several: Sequence[Shapes]) -> Shapes:
    return tuple(tuple(choose(dims) for dims in zip(*shapes, strict=True)) for shapes in zip(*several, strict=True))


def list_ranks(shapes: ShapeSet) -> tuple[int, ...]:
    """The rank of each input."""
    return tuple(map(len, shapes.shapes))


def measure_volume(shapes: Shapes) -> int:
    """The number of elements of all inputs together."""
    return sum(math.prod(shape) for shape in shapes)


def find_most_frequent(several: Sequence[ShapeSet]) -> Shapes:
    """The largest shapes of the set that came most often; of equally frequent ones that of the largest volume."""
    counts = Counter(several)
    best = max(counts, key=lambda item: (counts[item], measure_volume(item.max_shapes or item.shapes)))
    return best.max_shapes or best.shapes
