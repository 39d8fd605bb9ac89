"""Values of any dtype beside others: numbers as after builds, complex ones by their parts, text by whether it is equal."""

from __future__ import annotations

from typing import Any

import numpy as np

from beforehand.accuracy.compare_outputs import compare_output
from beforehand.records import OutputAccuracy

Array = np.ndarray[Any, Any]


def compare_values(name: str, expected: Array, found: Array) -> OutputAccuracy:
    """How `found` differs from `expected`; see `OutputAccuracy`. Of text `unequal` is the share that is not equal."""
    if expected.dtype.kind in "OSU":
        if expected.shape != found.shape:
            return OutputAccuracy(name, 0.0, 0.0, 0.0, 0.0, expected.size or 1, unequal=1.0)
        unequal = float(np.mean(expected != found)) if expected.size else 0.0
        return OutputAccuracy(name, 0.0, 0.0, 0.0, 1.0, unequal=unequal)
    return compare_output(name, _split(expected), _split(found))


def _split(array: Array) -> Array:
    return np.stack([array.real, array.imag], -1) if array.dtype.kind == "c" else array
