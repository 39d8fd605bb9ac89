"""TF-TRT's four strategies for dynamic shapes: the same profiles, in the same order, with the same accept sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from beforehand.build_engines.pair_shapes import make_range
from beforehand.errors import SampleError
from beforehand.profiles.measure_shapes import find_most_frequent, list_ranks, make_hull
from beforehand.records import Shape, ShapeSet, TensorSpec


def apply_strategy(strategy: str, seen: Sequence[ShapeSet], inputs: Sequence[TensorSpec]) -> list[ShapeSet]:
    """The profiles for these sets of shapes of one segment.

    - "Range": one, from the smallest to the largest size of each dimension of each input. It admits combinations that
      never came. To be fastest at (`opt_shapes`): what came most often, where TF-TRT takes the largest.
    - "Optimal": each set by itself.
    - "Range+Optimal": each set by itself, then the range of them all.
    - "ImplicitBatchModeCompatible": for each set, every batch from 1 to its own; each input by itself, as in TF-TRT.

    Args:
        strategy: One of `options.PROFILE_STRATEGIES`.
        seen: The sets of shapes in the order in which they came; at least one.
        inputs: The segment's inputs: a dimension that these fix stays as it is.

    Raises:
        SampleError: BH122, a range of sets that are of different ranks.
    """
    distinct = list(dict.fromkeys(seen))
    if strategy == "ImplicitBatchModeCompatible":
        profiles = [_open_batches(shapes, inputs) for shapes in distinct]
    elif strategy == "Optimal":
        profiles = distinct
    else:
        profiles = [*(distinct if strategy == "Range+Optimal" else ()), _make_range(seen)]
    return list(dict.fromkeys(profiles))


def _make_range(seen: Sequence[ShapeSet]) -> ShapeSet:
    first = seen[0]
    for other in seen:
        if list_ranks(other) != list_ranks(first):
            raise SampleError(
                f"a range cannot hold both {first.describe()} and {other.describe()}",
                why="their ranks differ, and a range is of one rank",
                advice='dynamic_shape_profile_strategy="Optimal", or samples of one rank',
            )
    hull, opt = make_hull(seen), find_most_frequent(seen)
    return dataclasses.replace(hull, opt_shapes=opt) if hull.is_range and opt != hull.max_shapes else hull


def _open_batches(shapes: ShapeSet, inputs: Sequence[TensorSpec]) -> ShapeSet:
    low = tuple(_open_batch(shape, spec) for shape, spec in zip(shapes.shapes, inputs, strict=True))
    return make_range(shapes.names, low, shapes.max_shapes or shapes.shapes)


def _open_batch(shape: Shape, spec: TensorSpec) -> Shape:
    is_fixed = not shape or (spec.shape is not None and spec.shape[0] is not None)
    return shape if is_fixed else (1, *shape[1:])
