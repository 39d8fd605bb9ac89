"""Shapes named outright, instead of samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from beforehand.errors import SampleError
from beforehand.records import Signature
from beforehand.saved_model.check_sample import Sample
from beforehand.saved_model.read_samples import read_samples


def read_shapes(shapes: Any, signature: Signature) -> Iterator[Sample]:
    """Samples of zeros of the shapes asked for, checked as any others are.

    Args:
        shapes: A mapping from input names to shapes, or an iterable of such.
        signature: What the samples are for.

    Raises:
        SampleError: BH122. NoSamplesError: BH121.
    """
    several = [shapes] if isinstance(shapes, Mapping) else list(shapes)
    return read_samples(lambda: (_make_zeros(item, signature) for item in several), signature)


def _make_zeros(item: Any, signature: Signature) -> dict[str, np.ndarray[Any, Any]]:
    dtypes = {spec.name: object if spec.dtype == "string" else spec.dtype for spec in signature.inputs}
    try:
        return {
            name: np.zeros(tuple(int(dim) for dim in shape), dtypes.get(name, "float32"))
            for name, shape in item.items()
        }
    except (TypeError, ValueError, AttributeError) as error:
        raise SampleError(
            f"shapes={item!r} is no mapping from input names to shapes",
            why=str(error),
            advice=f"a mapping for these inputs: {signature.describe_inputs()}",
        ) from error
