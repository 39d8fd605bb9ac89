"""Scales and shifts after a convolution, into its weights and bias: batch normalisation, as Keras saves it.

Done in float32 before anything is rounded, it leaves one rounding of the weights where there would be two, and no scale that
half precision cannot hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from beforehand.precision.onnx_graph import OnnxGraph, Origin, copy_node, count_readers

_OPS = ("Add", "Mul")


def fold_into_conv(model: OnnxGraph) -> int:
    """Fold what can be folded; how many nodes are gone. Requires nodes in topological order, and keeps them so."""
    readers = count_readers(model.graph)
    next_of = {name: node for node in model.graph.node for name in node.input}
    ends: dict[str, Any] = {}  # convolutions, by the value that they give now
    for conv in model.graph.node:
        if conv.op_type == "Conv" and all(model.is_constant(name) for name in conv.input[1:]):
            folded = _fold(model, conv, readers, next_of)
            if folded is not None:
                ends[folded.output[0]] = folded
    count = len(model.graph.node)
    model.replace_nodes([ends.get(node.output[0], node) if node.output else node for node in model.graph.node])
    model.drop_unused()
    return count - len(model.graph.node)


def _fold(model: OnnxGraph, conv: Any, readers: Mapping[str, int], next_of: Mapping[str, Any]) -> Any:
    """The convolution with all that can be folded into it; None if that is nothing."""
    weights = model.read(conv.input[1])
    channels = weights.shape[0]
    scale, shift = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    end = conv.output[0]
    while readers[end] == 1 and end in next_of:
        node = next_of[end]
        value = _read_per_channel(model, node, end, weights.ndim, channels)
        if value is None:
            break
        scale, shift = (scale * value, shift * value) if node.op_type == "Mul" else (scale, shift + value)
        end = node.output[0]
    if end == conv.output[0]:
        return None
    if len(conv.input) > 2:
        shift = shift + model.read(conv.input[2]) * scale
    folded = copy_node(conv)
    factor = scale.reshape(-1, *[1] * (weights.ndim - 1)).astype(np.float32)
    weights = weights * factor
    if not (np.isfinite(weights).all() and np.isfinite(shift).all()):
        return None
    folded.input[:] = [
        conv.input[0],
        model.add_constant(
            f"{conv.input[1]}_folded", weights.astype(np.float32), origin=Origin(conv.input[1], "Mul", factor)
        ),
        model.add_constant(f"{end}_bias", shift.astype(np.float32)),
    ]
    folded.output[:] = [end]
    return folded


def _read_per_channel(model: OnnxGraph, node: Any, end: str, rank: int, channels: int) -> np.ndarray[Any, Any] | None:
    """The constant that `node` adds to `end` or multiplies it by, one value a channel."""
    if node.op_type not in _OPS or len(node.input) != 2:
        return None
    other = node.input[1] if node.input[0] == end else node.input[0]
    if not model.is_constant(other):
        return None
    value = np.asarray(model.read(other))
    if value.dtype != np.float32 or value.ndim > rank:
        return None
    shape = (1,) * (rank - value.ndim) + value.shape
    if shape[1] not in (1, channels) or any(size != 1 for axis, size in enumerate(shape) if axis != 1):
        return None
    return np.broadcast_to(value.reshape(-1), (channels,))
