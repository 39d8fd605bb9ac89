"""Whole numbers that OpenVINO's CPU plug-in would not compute exactly: int64 in 32 bits, sums and extremes in float32.

Seen with OpenVINO 2026.4. Numbers are followed from where they come: sizes, places, truths and bytes are small, whatever
else comes in may have all of its bits. What only points at rows (a gather's indices) is below any such limit anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from beforehand.lower.cut_segment import CutSegment

_SMALL, _INT32, _INT64 = 24, 31, 63  # bits
_MAKES_SMALL = frozenset(
    (
        *(
            "ArgMax",
            "ArgMin",
            "BroadcastArgs",
            "BroadcastGradientArgs",
            "CombinedNonMaxSuppression",
            "InvertPermutation",
        ),
        *("NonMaxSuppressionV3", "NonMaxSuppressionV4", "NonMaxSuppressionV5", "Rank", "Shape", "ShapeN", "Size"),
        *("Where",),
    )
)
# They hand on numbers of their first inputs (all, or as many as is said) as they are.
_MOVES = {
    **dict.fromkeys(
        ("BroadcastTo", "ExpandDims", "GatherNd", "GatherV2", "Identity", "Pad", "Reshape", "ReverseV2"), 1
    ),
    **dict.fromkeys(("Slice", "Snapshot", "Squeeze", "StridedSlice", "Tile", "Transpose", "Unpack"), 1),
    **dict.fromkeys(("ConcatV2", "EnsureShape", "IdentityN", "Pack", "Select", "SelectV2", "StopGradient"), 99),
}
_REDUCTIONS = frozenset(("BatchMatMulV2", "BatchMatMulV3", "Einsum", "MatMul", "Max", "Mean", "Min", "Prod", "Sum"))


def find_inexact(cut: CutSegment) -> dict[str, str]:
    """The nodes of a segment that an engine might not compute exactly, each with the reason."""
    bits: dict[str, int] = {}
    found: dict[str, str] = {}
    outputs = set(cut.outputs)
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(cut.graph_def, name="")
        for operation in graph.get_operations():
            reason = _find_reason(operation, bits)
            for tensor in operation.outputs:
                bits[tensor.name] = _measure_output(operation, tensor, bits)
                if tensor.name in outputs and bits[tensor.name] > _INT32 and operation.type != "Placeholder":
                    reason = reason or "it gives numbers of 64 bits to TensorFlow, and OpenVINO keeps 32 of them"
            if reason:
                found[operation.name] = reason
    return found


def _find_reason(operation: Any, bits: dict[str, int]) -> str:
    if operation.type in _MOVES or operation.type in _MAKES_SMALL:
        return ""
    wide = [bits.get(tensor.name, 0) for tensor in operation.inputs]
    if operation.type == "Cast" and operation.outputs[0].dtype in (tf.int32, tf.int64, tf.uint8, tf.int8):
        return ""  # the lower 32 bits are what is wanted, or what is looked at next
    if operation.type in ("OneHot", "ResourceGather") or operation.type.startswith("TensorList"):
        return ""
    if max(wide, default=0) > _INT32 and not _only_points(operation, wide):
        return "its numbers may need 64 bits, and OpenVINO computes with 32 of them"
    if operation.type in _REDUCTIONS and operation.inputs[0].dtype.is_integer and wide[0] > _SMALL:
        return "OpenVINO reduces whole numbers in float32, which is exact up to 2**24"
    return ""


def _only_points(operation: Any, wide: list[int]) -> bool:
    """Whether the wide numbers are places of rows alone."""
    places: tuple[int, ...] = {"ScatterNd": (0,), "TensorScatterUpdate": (1,), "TensorScatterAdd": (1,)}.get(
        operation.type, ()
    )
    if "Segment" in operation.type:
        places = tuple(range(1, len(wide)))
    return all(bits <= _INT32 for index, bits in enumerate(wide) if index not in places)


def _measure_output(operation: Any, tensor: Any, bits: dict[str, int]) -> int:
    """How many bits the numbers of a tensor may have; 0: they are not whole numbers, or are truths."""
    if not tensor.dtype.is_integer:
        return 0
    limit = {tf.int64: _INT64, tf.uint64: _INT64, tf.uint8: 8, tf.int8: 8}.get(tensor.dtype, _INT32)
    if operation.type == "Const":
        value = tf.make_ndarray(operation.get_attr("value"))
        return int(np.abs(value.astype(np.float64)).max(initial=0)).bit_length()
    if operation.type in _MAKES_SMALL or (operation.type == "TopKV2" and tensor.value_index == 1):
        return min(limit, _SMALL)
    return min(limit, _measure_inputs(operation, bits, limit)) if operation.inputs else limit


def _measure_inputs(operation: Any, bits: dict[str, int], limit: int) -> int:
    """As many as those of its inputs: sums and products of sizes stay sizes."""
    given = [(item, bits.get(item.name, 0)) for item in operation.inputs]
    if operation.type == "Cast":
        source, width = given[0]
        return limit if source.dtype.is_floating else max(width, 1)
    known = [width for item, width in given if item.dtype.is_integer or item.dtype == tf.bool]
    if not known or any(item.dtype.is_floating or item.dtype == tf.variant for item, _ in given):
        return limit
    moved = known[: _MOVES.get(operation.type, 99)]
    return min(limit, max(moved) if max(moved) > _SMALL else max(*moved, 1))
