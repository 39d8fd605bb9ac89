"""An ONNX graph declared to be of a later opset, where none of its nodes means anything else there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

from beforehand.precision.onnx_graph import OnnxGraph

_FIRST, _LAST = 18, 20
# What opsets 19 and 20 changed, as far as it was read: dtypes, modes and attributes with a default were added, and the text of
# AveragePool was put right. Not so DFT, whose axis is an input since, and GridSample, whose modes have other names.
_EXTENDED = frozenset({
    "AveragePool", "Cast", "CastLike", "Constant", "ConstantOfShape", "DequantizeLinear", "Equal", "Identity", "If", "IsInf",
    "IsNaN", "Loop", "Pad", "QuantizeLinear", "ReduceMax", "ReduceMin", "Reshape", "Resize", "Scan", "Shape", "Size",
})  # fmt: skip


def raise_opset(model: OnnxGraph, opset: int) -> bool:
    """Whether the graph is of `opset` or a later one now; if not, nothing was changed.

    Args:
        model: The graph.
        opset: At most 20: later ones were not read.
    """
    if model.opset >= opset:
        return True
    if model.opset < _FIRST or opset > _LAST:
        return False
    if any(_is_changed(node.op_type, model.opset, opset) for node in _list_nodes(model.graph) if not node.domain):
        return False
    model.opset = opset
    return True


def _is_changed(op: str, old: int, new: int) -> bool:
    if op in _EXTENDED or not onnx.defs.has(op, max_inclusive_version=old):
        return False
    before, after = (int(onnx.defs.get_schema(op, version).since_version) for version in (old, new))
    return before != after


def _list_nodes(graph: Any) -> Iterator[Any]:
    """The nodes, and those of bodies of loops and branches."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _list_nodes(body)
