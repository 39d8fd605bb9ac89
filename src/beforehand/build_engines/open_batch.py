"""TF-TRT's static rule: an engine that is asked for one batch serves every smaller one too, as it is, without padding."""

from __future__ import annotations

from collections.abc import Sequence

from beforehand.build_engines.pair_shapes import make_range
from beforehand.records import ShapeSet, TensorSpec


def open_batch(shapes: ShapeSet, inputs: Sequence[TensorSpec]) -> ShapeSet:
    """The range from batch 1 to the batch of `shapes`; `shapes` itself where it has no batch that could be another.

    The batch is dimension 0 of all inputs, and the same for all.

    Args:
        shapes: Of all inputs of a segment.
        inputs: These inputs: a batch that they fix is no range.
    """
    if shapes.is_range or not all(shapes.shapes):
        return shapes
    fixed = any(spec.shape is not None and spec.shape[0] is not None for spec in inputs)
    if fixed or len({shape[0] for shape in shapes.shapes}) > 1:
        return shapes
    ranged = make_range(shapes.names, tuple((1, *shape[1:]) for shape in shapes.shapes), shapes.shapes)
    one_batch = ranged.is_range and len(shapes.names) > 1  # one input has one batch anyway
    return ShapeSet(ranged.names, ranged.shapes, ranged.max_shapes, one_batch=one_batch)
