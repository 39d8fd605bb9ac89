"""Arrays for results, which TensorFlow takes without a copy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_ALIGNMENT = 64


def make_aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array of its own, not filled, aligned so that TensorFlow takes it as it is (NumPy aligns to 16 bytes)."""
    count = math.prod(shape) * dtype.itemsize
    raw = np.empty(count + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + count].view(dtype).reshape(shape)
