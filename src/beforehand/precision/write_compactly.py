"""A quantised model as a small file beside the segment's own: weights are references to those that lie there already.

A weight that passes or SmoothQuant have turned, reshaped or scaled is written as the nodes that make it of the original
(Transpose, Reshape, Mul), which builders fold. Whatever else is new (scales, corrected biases) stands in the file itself.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from beforehand.precision.onnx_graph import OnnxGraph, copy_node

_INLINE = 1024  # bytes: smaller constants stand in the model
_CLOSE = 1e-5  # relative: a factor found again from products is off by some units in the last place


def write_compactly(quantized: Any, prepared: OnnxGraph, target: pathlib.Path) -> None:
    """Write a quantised model.

    Args:
        quantized: A ModelProto whose constants are all in it, made of what `prepared` was written as: constants that have a
            name of `prepared` have its value, or one scaled along an axis, or another.
        prepared: The segment's model after passes; its constants are in its file, or have origins there.
        target: Where to; in the folder of the segment's own file, whose second file it refers to.
    """
    writer = _Writer(prepared)
    for tensor in quantized.graph.initializer:
        writer.add(tensor)
    nodes = [*writer.nodes, *(copy_node(node) for node in quantized.graph.node)]
    model = onnx.ModelProto()
    for (
        field,
        value,
    ) in quantized.ListFields():  # all of it but the graph: with its weights it may be larger than a message can be
        if field.name in ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"):
            setattr(model, field.name, value)
    model.opset_import.extend(quantized.opset_import)
    model.functions.extend(quantized.functions)
    model.graph.name = quantized.graph.name
    model.graph.input.extend(quantized.graph.input)
    model.graph.output.extend(quantized.graph.output)
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(writer.tensors.values())
    target.write_bytes(model.SerializeToString(deterministic=True))


class _Writer:
    """Collects constants, and the nodes that make some of them."""

    def __init__(self, prepared: OnnxGraph) -> None:
        self._prepared = prepared
        self.tensors: dict[str, Any] = {}
        self.nodes: list[Any] = []

    def add(self, tensor: Any) -> None:
        """Have the value of `tensor` under its name."""
        name, value = tensor.name, numpy_helper.to_array(tensor)
        if value.nbytes < _INLINE or not self._prepared.is_constant(name) or not self._express(name, value):
            self.tensors[name] = tensor

    def _express(self, name: str, value: np.ndarray[Any, Any]) -> bool:
        """Have `value` by reference to what `prepared` calls `name`; whether that can be."""
        before = self._prepared.read(name)
        if before.shape != value.shape or before.dtype != value.dtype:
            return False
        if np.array_equal(before, value):
            return self._refer(name)
        factor = _find_factor(before, value)
        if factor is None or not self._refer(name, own := f"{name}__before"):
            return False
        self._make("Mul", own, factor, name)
        return True

    def _refer(self, name: str, called: str = "") -> bool:
        """Have the constant of `prepared`, under its own name or another; whether that takes no room."""
        called = called or name
        origin = self._prepared.origins.get(name)
        if origin is not None:
            source = f"{called}__from"
            if not self._refer(origin.parent, source):
                return False
            self._make(origin.op_type, source, origin.operand, called)
            return True
        stored = self._prepared.find_stored(name)
        if stored is None:
            return False
        copied = onnx.TensorProto()
        copied.CopyFrom(stored)
        copied.name = called
        self.tensors[called] = copied
        return True

    def _make(self, op_type: str, source: str, operand: np.ndarray[Any, Any], target: str) -> None:
        if op_type == "Transpose":
            self.nodes.append(helper.make_node(op_type, [source], [target], name=target, perm=operand.tolist()))
            return
        name = f"{target}__{op_type.lower()}"
        self.tensors[name] = numpy_helper.from_array(np.ascontiguousarray(operand), name)
        self.nodes.append(helper.make_node(op_type, [source, name], [target], name=target))


def _find_factor(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """One number for each place along one axis that `before` was multiplied by; None if it was not."""
    if before.dtype != np.float32 or before.ndim == 0:
        return None
    for axis in range(before.ndim):
        rows, scaled = (np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1) for array in (before, after))
        largest = np.argmax(np.abs(rows), axis=1)
        place = np.arange(len(rows))
        divisor = rows[place, largest]
        factor = np.where(divisor == 0, 1, scaled[place, largest] / np.where(divisor == 0, 1, divisor))
        shape = [-1 if i == axis else 1 for i in range(before.ndim)]
        factor = factor.astype(np.float32).reshape(shape)
        if np.allclose(before * factor, after, rtol=_CLOSE, atol=0):
            return np.asarray(factor)
    return None
