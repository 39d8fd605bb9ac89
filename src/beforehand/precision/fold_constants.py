"""Weights that the graph turns, reshapes or puts together before it reads them, so once: builders want kernels as constants.

Gates of recurrent layers are reordered so; left in the graph, they would be rounded with it where the layer is not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from beforehand.precision.onnx_graph import OnnxGraph

_OPS = ("Concat", "Gather", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def fold_constants(model: OnnxGraph) -> int:
    """Fold what only moves elements of constants; how many nodes are gone. Requires nodes in topological order, and keeps them so."""
    kept: list[Any] = []
    renamed: dict[str, str] = {}
    for node in model.graph.node:
        value = _compute(model, [renamed.get(name, name) for name in node.input], node)
        if value is None:
            kept.append(node)
        else:
            renamed[node.output[0]] = model.add_constant(
                node.output[0], value, model.find_constant_type(renamed.get(node.input[0], node.input[0]))
            )
    count = len(model.graph.node) - len(kept)
    if count:
        model.replace_nodes(kept)
        model.rename_inputs(renamed)
    return count


def _compute(model: OnnxGraph, inputs: list[str], node: Any) -> np.ndarray[Any, Any] | None:
    if node.op_type not in _OPS or not all(map(model.is_constant, inputs)):
        return None
    values = [np.asarray(model.read(name)) for name in inputs]
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Transpose":
        return np.transpose(values[0], list(attributes["perm"].ints) if attributes else None)
    if node.op_type == "Concat":
        return np.concatenate(values, attributes["axis"].i)
    if node.op_type == "Gather":
        return _gather(values[0], values[1], attributes["axis"].i if attributes else 0)
    if len(inputs) != 2 or node.attribute:  # Squeeze of every 1, and Reshape that copies no zeros
        return None
    return _reshape(node.op_type, values[0], values[1].reshape(-1).tolist())


def _gather(value: np.ndarray[Any, Any], places: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any] | None:
    """Slices in another order, none of them twice: what repeats them would grow."""
    is_order = places.ndim <= 1 and len(np.unique(places)) == places.size
    return np.take(value, places, axis) if is_order else None


def _reshape(op: str, value: np.ndarray[Any, Any], wanted: list[int]) -> np.ndarray[Any, Any]:
    if op == "Reshape":
        return value.reshape([value.shape[i] if size == 0 else size for i, size in enumerate(wanted)])
    return np.squeeze(value, tuple(wanted)) if op == "Squeeze" else np.expand_dims(value, tuple(wanted))
