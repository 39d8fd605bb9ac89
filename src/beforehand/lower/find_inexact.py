"""Whole numbers that OpenVINO's CPU plug-in would not compute exactly: int64 in 32 bits, sums and extremes in float32.

Seen with OpenVINO 2026.4. Numbers are followed from where they come: sizes, places, truths and bytes are small, whatever
else comes in may have all of its bits. What only points at rows (a gather's indices) is below any such limit anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from beforehand.graph.control_flow import CONTROL_FLOW_OPS, list_function_slots
from beforehand.graph.function import Body, decode_function, make_body_graph
from beforehand.graph.nodes import FindOpDef
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


def find_inexact(cut: CutSegment, find_op_def: FindOpDef) -> dict[str, str]:
    """The nodes of a segment that an engine might not compute exactly, each with the reason.

    For what is in a body, the loop or branch that has it.
    """
    graph = _import_graph(cut.graph_def)
    bits, found = _Bodies(cut.graph_def, find_op_def).follow(graph, {})
    for tensor in cut.outputs:
        operation = graph.get_tensor_by_name(tensor).op
        if bits[tensor] > _INT32 and operation.type != "Placeholder":
            found.setdefault(operation.name, "it gives numbers of 64 bits to TensorFlow, and OpenVINO keeps 32 of them")
    return found


def _import_graph(graph_def: Any) -> tf.Graph:
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
    return graph


class _Bodies:
    """The bodies of a graph's loops and branches, through which numbers are followed like through the graph itself."""

    def __init__(self, graph_def: Any, find_op_def: FindOpDef) -> None:
        self._graph_def = graph_def
        self._find_op_def = find_op_def
        self._functions = {function.signature.name: function for function in graph_def.library.function}
        self._read: dict[str, tuple[tf.Graph, Body]] = {}

    def follow(self, graph: tf.Graph, given: Mapping[str, int]) -> tuple[dict[str, int], dict[str, str]]:
        """The bits of all tensors, those of some `given`; and the nodes that are not exact."""
        bits = dict(given)
        found: dict[str, str] = {}
        for operation in graph.get_operations():
            reason = _find_reason(operation, bits)
            if operation.type in CONTROL_FLOW_OPS:
                outputs, inner = self._enter(operation, bits)
                reason = reason or inner
            else:
                outputs = [_measure_output(operation, tensor, bits) for tensor in operation.outputs]
            for tensor, width in zip(operation.outputs, outputs, strict=True):
                bits.setdefault(tensor.name, width)
            if reason:
                found[operation.name] = reason
        return bits, found

    def _enter(self, operation: Any, bits: Mapping[str, int]) -> tuple[list[int], str]:
        """The bits of what a loop or branch gives, and why it is not exact."""
        node = operation.node_def
        names = [slot.name for slot in list_function_slots(node)]
        widths = [bits[tensor.name] for tensor in operation.inputs]
        if not node.op.endswith("While"):
            ways = [self._run(name, widths[1:]) for name in names]
            return [max(way) for way in zip(*(way[0] for way in ways), strict=True)], _choose(way[1] for way in ways)
        before: list[int] = []
        while before != widths:  # what one round gives is what the next one gets; numbers only grow, to 63 bits at most
            before = widths
            widths = [max(pair) for pair in zip(before, self._run(names[1], before)[0], strict=True)]
        return widths, _choose(self._run(name, widths)[1] for name in names)

    def _run(self, name: str, widths: Sequence[int]) -> tuple[list[int], str]:
        """The bits of what a body gives for arguments of so many bits, and why it is not exact."""
        if name not in self._read:
            body = decode_function(self._functions[name], self._find_op_def)
            self._read[name] = _import_graph(make_body_graph(body, self._graph_def)), body
        graph, body = self._read[name]
        given = {f"{argument}:0": width for argument, width in zip(body.arguments, widths, strict=True)}
        bits, found = self.follow(graph, given)
        return [bits[output] for output in body.outputs], _choose(
            f"its body holds {inner}: {reason}" for inner, reason in found.items()
        )


def _choose(reasons: Iterable[str]) -> str:
    """The first reason that there is."""
    return next(filter(None, reasons), "")


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
