"""Weights that the graph turns or reshapes before it reads them, turned once: builders want the kernels of convolutions as constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from beforehand.precision.onnx_graph import OnnxGraph


def fold_constants(model: OnnxGraph) -> int:
    """Fold layout changes of constants; how many nodes are gone. Requires nodes in topological order, and keeps them so."""
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
    if node.op_type not in ("Transpose", "Reshape", "Squeeze", "Unsqueeze") or not all(map(model.is_constant, inputs)):
        return None
    value = np.asarray(model.read(inputs[0]))
    if node.op_type == "Transpose":
        axes = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        return np.transpose(value, axes)
    if len(inputs) != 2 or node.attribute:  # Squeeze of every 1, and Reshape that copies no zeros
        return None
    wanted = model.read(inputs[1]).reshape(-1).tolist()
    if node.op_type == "Reshape":
        shape = [value.shape[i] if size == 0 else size for i, size in enumerate(wanted)]
        return value.reshape(shape)
    if node.op_type == "Squeeze":
        return np.squeeze(value, tuple(wanted))
    return np.expand_dims(value, tuple(wanted))
