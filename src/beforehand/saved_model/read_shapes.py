"""Shapes named outright, instead of samples; any dimension may be a range."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from beforehand.errors import SampleError
from beforehand.records import Shape, Signature
from beforehand.saved_model.read_samples import read_samples
from beforehand.saved_model.sample_range import SampleRange


def read_shapes(shapes: Any, signature: Signature) -> Iterator[SampleRange]:
    """Samples of zeros of the shapes asked for, checked as any others are.

    Args:
        shapes: A mapping from input names to shapes, or an iterable of such. A dimension may be a pair
            (smallest, largest); each varies by itself.
        signature: What the samples are for.

    Raises:
        SampleError: BH122. NoSamplesError: BH121.
    """
    several = [shapes] if isinstance(shapes, Mapping) else list(shapes)
    ends = [_find_ends(item, signature) for item in several]
    zeros = (make_zeros(end, signature) for low, high in ends for end in ([low] if low == high else [low, high]))
    samples = read_samples(lambda: zeros, signature)
    return _pair_samples(samples, [low != high for low, high in ends])


def _pair_samples(samples: Iterator[Any], are_ranges: list[bool]) -> Iterator[SampleRange]:
    for is_range in are_ranges:
        low = next(samples)
        yield SampleRange(low, next(samples) if is_range else low)


def _find_ends(item: Any, signature: Signature) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """The smallest and the largest shapes that one mapping names."""
    try:
        pairs = {name: [_read_dim(dim) for dim in shape] for name, shape in item.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise SampleError(
            f"shapes={item!r} is no mapping from input names to shapes",
            why=str(error),
            advice=f"a mapping for these inputs: {signature.describe_inputs()}",
        ) from error
    _check_ranges(pairs, item)
    low, high = ({name: tuple(dim[end] for dim in dims) for name, dims in pairs.items()} for end in (0, 1))
    return low, high


def _read_dim(dim: Any) -> tuple[int, int]:
    """A dimension, or a pair of them, as smallest and largest."""
    if isinstance(dim, (tuple, list)):
        low, high = dim
        return operator.index(low), operator.index(high)
    return operator.index(dim), operator.index(dim)


def _check_ranges(pairs: Mapping[str, list[tuple[int, int]]], item: Any) -> None:
    for name, dims in pairs.items():
        for low, high in dims:
            if low != high and not 1 <= low < high:
                raise SampleError(f"shapes={item!r} has a range from {low} to {high} for the input `{name}`")


def make_zeros(shapes: Mapping[str, Shape], signature: Signature) -> dict[str, np.ndarray[Any, Any]]:
    """A sample of zeros, and of empty texts, of these shapes; it takes no memory until it is written to."""
    # Of NumPy's own text zeros are empty texts; of its objects they are numbers.
    dtypes = {spec.name: "S1" if spec.dtype == "string" else spec.dtype for spec in signature.inputs}
    try:
        return {name: np.zeros(shape, dtypes.get(name, "float32")) for name, shape in shapes.items()}
    except (TypeError, ValueError) as error:
        raise SampleError(
            f"shapes={dict(shapes)!r} are no shapes",
            why=str(error),
            advice=f"a mapping for these inputs: {signature.describe_inputs()}",
        ) from error
