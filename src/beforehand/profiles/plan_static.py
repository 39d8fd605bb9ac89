"""TF-TRT's static mode: an engine serves every batch up to the one that it was built for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from beforehand.build_engines.open_batch import open_batch
from beforehand.records import ShapeSet, TensorSpec


def plan_static(
    seen: Iterable[ShapeSet], inputs: Sequence[TensorSpec], built: Iterable[ShapeSet] = ()
) -> list[ShapeSet]:
    """What to build for these sets of shapes of one segment, in the order in which they came.

    A set that an engine fits (`built`, or planned for an earlier set) needs none: same ranks, a batch that is at least
    as large, all other dimensions equal. The batch is dimension 0 of all inputs, and the same for all. Each other set
    gets an engine for batches from 1 to its own, which run as they are, without padding. Sets that have no batch in
    common, and ranges, get an engine of their own.

    Args:
        seen: The sets of shapes.
        inputs: The segment's inputs: a batch that these fix is no range.
        built: What there are engines for.
    """
    engines, planned = list(built), []
    for shapes in seen:
        if any(engine.holds(shapes) for engine in engines):
            continue
        wanted = open_batch(shapes, inputs)
        engines.append(wanted)
        planned.append(wanted)
    return planned
