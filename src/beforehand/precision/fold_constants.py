"""Weights that the graph turns, reshapes or scales before it reads them, made once: builders want the kernels of convolutions as constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from beforehand.precision.onnx_graph import FLOAT, OnnxGraph, Origin

_OPS = ("Mul", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
# Computed where they give a few whole numbers: the shape that a weight is brought to, from its own.
_OF_SIZES = frozenset({
    "Add", "Cast", "Concat", "Div", "Gather", "Mul", "ReduceProd", "Shape", "Slice", "Squeeze", "Sub", "Unsqueeze",
})  # fmt: skip
_MOST_SIZES = 64


def fold_constants(model: OnnxGraph) -> int:
    """Fold layout changes and products of constants, and sizes that follow from constants; how many nodes are gone. Requires nodes in topological order, and keeps them so."""
    kept: list[Any] = []
    renamed: dict[str, str] = {}
    for node in model.graph.node:
        inputs = [renamed.get(name, name) for name in node.input]
        sizes = _compute_sizes(model, inputs, node)
        value = _compute(model, inputs, node) if sizes is None else None
        if sizes is not None:
            element_type = helper.np_dtype_to_tensor_dtype(sizes.dtype)
            renamed[node.output[0]] = model.add_constant(node.output[0], sizes, element_type)
        elif value is None:
            kept.append(node)
        else:
            element_type = model.find_constant_type(inputs[0])
            origin = _describe_origin(model, inputs, node, value)
            renamed[node.output[0]] = model.add_constant(node.output[0], value, element_type, origin)
    count = len(model.graph.node) - len(kept)
    if count:
        model.replace_nodes(kept)
        model.rename_inputs(renamed)
    return count


def _compute_sizes(model: OnnxGraph, inputs: list[str], node: Any) -> np.ndarray[Any, Any] | None:
    if node.op_type not in _OF_SIZES or not all(map(model.is_constant, inputs)):
        return None
    values = [np.asarray(model.read(name)) for name in inputs]
    is_shape = node.op_type == "Shape"
    if not is_shape and any(value.dtype.kind != "i" or value.size > _MOST_SIZES for value in values):
        return None
    feeds = {f"i{place}": value for place, value in enumerate(values)}
    one = helper.make_node(node.op_type, list(feeds), ["o"])
    one.attribute.extend(node.attribute)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    graph = helper.make_graph([one], "sizes", infos, [helper.make_tensor_value_info("o", TensorProto.UNDEFINED, None)])
    result = np.asarray(ReferenceEvaluator(model.make_model(graph)).run(None, feeds)[0])
    return result if result.dtype.kind == "i" and result.size <= _MOST_SIZES else None


def _compute(model: OnnxGraph, inputs: list[str], node: Any) -> np.ndarray[Any, Any] | None:
    if node.op_type not in _OPS or not all(map(model.is_constant, inputs)):
        return None
    value = np.asarray(model.read(inputs[0]))
    if node.op_type == "Mul":
        is_float = all(model.find_constant_type(name) == FLOAT for name in inputs)
        return np.multiply(value, model.read(inputs[1])) if is_float else None
    if node.op_type == "Transpose":
        axes = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        return np.transpose(value, axes)
    if len(inputs) != 2 or node.attribute:  # Squeeze of every 1, and Reshape that copies no zeros
        return None
    return _reshape(node.op_type, value, model.read(inputs[1]).reshape(-1).tolist())


def _reshape(op_type: str, value: np.ndarray[Any, Any], wanted: list[int]) -> np.ndarray[Any, Any]:
    if op_type == "Reshape":
        return value.reshape([value.shape[i] if size == 0 else size for i, size in enumerate(wanted)])
    if op_type == "Squeeze":
        return np.squeeze(value, tuple(wanted))
    return np.expand_dims(value, tuple(wanted))


def _describe_origin(model: OnnxGraph, inputs: list[str], node: Any, value: np.ndarray[Any, Any]) -> Origin:
    if node.op_type == "Transpose":
        axes = next((list(a.ints) for a in node.attribute if a.name == "perm"), list(range(value.ndim))[::-1])
        return Origin(inputs[0], "Transpose", np.array(axes, np.int64))
    if node.op_type == "Mul":
        return Origin(inputs[0], "Mul", np.asarray(model.read(inputs[1])))
    return Origin(inputs[0], "Reshape", np.array(value.shape, np.int64))
