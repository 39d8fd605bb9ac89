"""Shapes that a model cannot have, told from those that no engine was built for."""

from __future__ import annotations

from collections.abc import Sequence

from beforehand.errors import SampleError
from beforehand.records import Shape, TensorSpec, describe_shape


def check_shapes(specs: Sequence[TensorSpec], shapes: Sequence[Shape]) -> None:
    """Refuse shapes that do not fit the specifications.

    Raises:
        SampleError: BH122.
    """
    for spec, shape in zip(specs, shapes, strict=True):
        if spec.shape is not None and (
            len(shape) != len(spec.shape) or any(dim not in (None, n) for dim, n in zip(spec.shape, shape, strict=True))
        ):
            raise SampleError(f"{spec.describe()} was given {describe_shape(shape)}")
