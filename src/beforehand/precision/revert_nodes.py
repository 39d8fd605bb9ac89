"""Nodes of a quantised graph put back to floating point: what they read is not quantised any more; all else stays as it is.

Weights are those that were quantised; where SmoothQuant has scaled them, it has scaled what they are multiplied by as well. A bias
that was corrected for what quantisation does to a node's mean stays corrected.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from beforehand.precision.onnx_graph import OnnxGraph, copy_node

# Quantisation stands before these, where what follows them is quantised.
_LAYOUT = frozenset({
    "Concat", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Slice", "Squeeze", "Tile", "Transpose",
    "Unsqueeze",
})  # fmt: skip


def revert_nodes(model: OnnxGraph, names: Collection[str]) -> int:
    """Have the nodes of these names read values that are not quantised; how many of them read any that were.

    Requires nodes in topological order, and keeps them so.
    """
    writer = _Writer(model)
    for node in model.graph.node:
        writer.add(node, is_reverted=node.name in names)
    model.replace_nodes(writer.nodes)
    model.drop_unused()
    return writer.count


def list_quantized(model: OnnxGraph) -> list[Any]:
    """The nodes that compute with quantised values: all that read one, but for those that only move values, and quantise."""
    makers = {name: node for node in model.graph.node for name in node.output}

    def is_quantized(name: str) -> bool:
        maker = makers.get(name)
        if maker is None:
            return False
        return maker.op_type == "DequantizeLinear" or (maker.op_type in _LAYOUT and any(map(is_quantized, maker.input)))

    moving = {*_LAYOUT, "QuantizeLinear", "DequantizeLinear"}
    return [node for node in model.graph.node if node.op_type not in moving and any(map(is_quantized, node.input))]


class _Writer:
    def __init__(self, model: OnnxGraph) -> None:
        self._model = model
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._floats: dict[str, str] = {}
        self.nodes: list[Any] = []
        self.count = 0

    def add(self, node: Any, *, is_reverted: bool) -> None:
        """The next node."""
        if is_reverted:
            floats = [self._find_float(name) for name in node.input]
            if floats != list(node.input):
                self.count += 1
                node = copy_node(node)
                node.input[:] = floats
        self.nodes.append(node)

    def _find_float(self, name: str) -> str:
        """The same value, but not quantised; itself where it is not."""
        if name not in self._floats:
            self._floats[name] = self._make_float(name)
        return self._floats[name]

    def _make_float(self, name: str) -> str:
        maker = self._makers.get(name)
        if maker is None or maker.op_type not in (*_LAYOUT, "DequantizeLinear"):
            return name
        if maker.op_type == "DequantizeLinear":
            source = self._makers.get(maker.input[0])
            if source is not None and source.op_type == "QuantizeLinear":
                return str(source.input[0])
            return name if not self._model.is_constant(maker.input[0]) else self._dequantize(maker)
        inputs = [self._find_float(value) for value in maker.input]
        if inputs == list(maker.input):
            return name
        copied = copy_node(maker)
        copied.input[:] = inputs
        copied.output[0] = copied.name = self._model.make_name(name)
        self.nodes.append(copied)
        return str(copied.output[0])

    def _dequantize(self, node: Any) -> str:
        value, scale = (np.asarray(self._model.read(name)) for name in node.input[:2])
        has_zero = len(node.input) > 2 and node.input[2]
        zero = np.asarray(self._model.read(node.input[2])) if has_zero else np.zeros_like(scale, np.int8)
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        shape = [-1 if place == axis % value.ndim else 1 for place in range(value.ndim)] if scale.ndim else []
        steps = value.astype(np.int32) - zero.astype(np.int32).reshape(shape if zero.ndim else [])
        return self._model.add_constant(f"{node.output[0]}_float", (steps * scale.reshape(shape)).astype(np.float32))
