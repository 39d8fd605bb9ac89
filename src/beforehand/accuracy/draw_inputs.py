"""Values for a model's inputs where only shapes were given: drawn at random, the same ones for the same shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from beforehand.saved_model.check_sample import Sample

Array = np.ndarray[Any, Any]


def draw_inputs(zeros: Sample) -> Sample:
    """A sample of the shapes and dtypes of `zeros`.

    Floating-point numbers lie in [0, 1): what images are scaled to, and what roots and logarithms take. Whole numbers are 0 or
    1, which are indices of any table, truths are either, and text stays as it is.
    """
    shapes = [dim for array in zeros.values() for dim in array.shape]
    rng = np.random.default_rng(shapes)
    return {name: _draw(array, rng) for name, array in zeros.items()}


def _draw(zeros: Array, rng: np.random.Generator) -> Array:
    kind, drawn = zeros.dtype.kind, np.empty(zeros.shape, zeros.dtype)
    if kind in "OSU":
        return zeros
    if kind in "iub":
        drawn[...] = rng.integers(0, 2, zeros.shape)
    else:  # of kind V is bfloat16
        drawn[...] = rng.random(zeros.shape)
    return drawn
