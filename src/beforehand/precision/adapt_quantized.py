"""Quantisation as TensorRT has it: int8 with zero points of 0, one scale for each activation, weights as int8 constants.

Ranges that were measured with zero points keep their larger side. Scales are rounded up to half precision, in which the rest
of the graph computes, before weights are quantised by them: so nothing is rounded by one scale and scaled back by another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from beforehand.precision.onnx_graph import OnnxGraph, copy_node
from beforehand.precision.raise_opset import raise_opset

# The first in which scales may be in half precision.
_OPSET = 19
_LEAST = 2.0**-24  # of float16
_INT8 = TensorProto.INT8
_Array = np.ndarray[Any, Any]


def adapt_quantized(model: OnnxGraph) -> int:
    """Rewrite QuantizeLinear and DequantizeLinear of the main graph; how many there are of the latter.

    Requires nodes in topological order, and keeps them so.
    """
    if not any(node.op_type == "DequantizeLinear" for node in model.graph.node) or not raise_opset(model, _OPSET):
        return 0
    makers = {node.output[0]: node for node in model.graph.node if node.op_type == "QuantizeLinear"}
    nodes = [_adapt(model, node, makers) for node in model.graph.node]
    model.replace_nodes([node for node in nodes if node is not None])
    model.drop_unused()
    return sum(node.op_type == "DequantizeLinear" for node in model.graph.node)


def _adapt(model: OnnxGraph, node: Any, makers: dict[str, Any]) -> Any:
    """The node that stands for this one; None where there is none."""
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or not model.is_constant(node.input[1]):
        return node
    maker = makers.get(node.input[0]) if node.op_type == "DequantizeLinear" else node
    is_weight = model.is_constant(maker.input[0] if maker is not None else node.input[0])
    if is_weight:
        return None if node.op_type == "QuantizeLinear" else _adapt_weight(model, node, maker)
    scale = _measure_activation(model, node)
    adapted = copy_node(node)
    names = _add(model, node, np.asarray(scale, np.float32), np.int8(0))
    adapted.input[:] = [node.input[0], *names]
    del adapted.attribute[:]
    return adapted


def _adapt_weight(model: OnnxGraph, node: Any, maker: Any) -> Any:
    """A DequantizeLinear of an int8 constant."""
    scale, zero = _read_parameters(model, node)
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    value = np.asarray(model.read(node.input[0] if maker is None else maker.input[0]))
    shape = [-1 if place == axis % value.ndim else 1 for place in range(value.ndim)] if scale.ndim else []
    wide, zeros = scale.reshape(shape), zero.astype(np.int32).reshape(shape if zero.ndim else [])
    if maker is not None:
        low, high = np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max
        steps = np.clip(np.rint(value / wide) + zeros, low, high) - zeros
    else:
        steps = value.astype(np.int32) - zeros
    axes = tuple(place for place in range(value.ndim) if not scale.ndim or place != axis % value.ndim)
    # 128 steps are as many as there are on one side; of more, the larger side decides, and weights are rounded anew.
    most = np.maximum(np.abs(steps).max(axis=axes, initial=0), 1)
    wanted = np.where(most > 128, scale * most / 127, scale)
    new = _round_up(wanted)
    # What was in float32 is rounded once, by the scale that it will be read with; what was int8 already, is read as it was.
    source = value if maker is not None and not zeros.any() else steps * wide
    quantized = np.clip(np.rint(source / new.reshape(shape)), -128, 127).astype(np.int8)
    adapted = copy_node(node)
    name = model.add_constant(f"{node.output[0]}_int8", quantized, _INT8)
    adapted.input[:] = [name, *_add(model, node, new, np.zeros(new.shape, np.int8))]
    return adapted


def _measure_activation(model: OnnxGraph, node: Any) -> np.float32:
    """One scale by which the whole range lies within int8."""
    scale, zero = _read_parameters(model, node)
    if zero.dtype == np.int8 and not zero.any():
        return np.float32(_round_up(scale.max()))
    limits = np.iinfo(zero.dtype)
    low, high = (limits.min - zero.astype(np.float64)) * scale, (limits.max - zero.astype(np.float64)) * scale
    return np.float32(_round_up(max(-low.min(), high.max()) / 127))


def _read_parameters(model: OnnxGraph, node: Any) -> tuple[_Array, _Array]:
    scale = np.asarray(model.read(node.input[1]))
    has_zero = len(node.input) > 2 and node.input[2]
    zero = np.asarray(model.read(node.input[2])) if has_zero else np.zeros(scale.shape, np.uint8)
    return scale.astype(np.float32), zero


def _round_up(scale: Any) -> _Array:
    """The next value of float16, as float32; no channel's is 0."""
    wanted = np.maximum(np.asarray(scale, np.float32), np.float32(_LEAST))
    half = wanted.astype(np.float16)
    return np.where(half.astype(np.float32) < wanted, np.nextafter(half, np.float16(np.inf)), half).astype(np.float32)


def _add(model: OnnxGraph, node: Any, scale: _Array, zero: Any) -> list[str]:
    return [
        model.add_constant(f"{node.output[0]}_scale", scale),
        model.add_constant(f"{node.output[0]}_zero", np.asarray(zero, np.int8), _INT8),
    ]
