"""The two half precisions: float16 and bfloat16, as ONNX and NumPy have them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx


@dataclasses.dataclass(frozen=True)
class Half:
    """One half precision.

    Attributes:
        name: As in `precision_mode`.
        element_type: ONNX's.
        smallest_normal: Smaller values lose digits; bfloat16's are float32's.
    """

    name: str
    element_type: int
    smallest_normal: float

    def convert(self, value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """float32 to half precision, to nearest, ties to even; bfloat16 as uint16, which NumPy has no type for."""
        if self is FP16:
            with np.errstate(over="ignore"):
                return np.asarray(value, np.float16)
        bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        return np.where(np.isnan(value), np.uint16(0x7FC0), rounded).astype(np.uint16).reshape(np.shape(value))

    def round_value(self, value: float) -> float:
        """What `value` comes to; infinite where it is too large."""
        converted = self.convert(np.asarray(value, np.float32))
        if self is FP16:
            return float(converted)
        return float((converted.astype(np.uint32) << 16).view(np.float32))


FP16 = Half("FP16", onnx.TensorProto.FLOAT16, 2.0**-14)
BF16 = Half("BF16", onnx.TensorProto.BFLOAT16, 2.0**-126)
HALVES = {half.name: half for half in (FP16, BF16)}
