"""Shapes that depend on the values given: an engine takes these dimensions as they come."""

from __future__ import annotations

from beforehand.build_engines.pair_shapes import make_range
from beforehand.records import UNBOUNDED, Segment, Shape, ShapeSet


def free_dimensions(shapes: ShapeSet, segment: Segment) -> ShapeSet:
    """The shapes measured of a segment, with a range from 1 without end where they depend on values."""
    if not any(segment.free_inputs):
        return shapes
    low, high = list(shapes.shapes), list(shapes.max_shapes or shapes.shapes)
    for index, (is_free, spec) in enumerate(zip(segment.free_inputs, segment.inputs, strict=True)):
        if is_free:
            known = spec.shape or (None,) * len(low[index])
            low[index] = _fill(known, low[index], 1)
            high[index] = _fill(known, high[index], UNBOUNDED)
    return make_range(shapes.names, tuple(low), tuple(high))


def _fill(known: tuple[int | None, ...], measured: Shape, value: int) -> Shape:
    return tuple(value if dim is None else size for dim, size in zip(known, measured, strict=True))
