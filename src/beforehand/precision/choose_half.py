"""Which nodes of an ONNX graph compute in half precision, and why the others do not.

Matrix products and convolutions do; what follows them does too as long as it neither sums nor leaves the range; softmax,
exponentials, roots, sums of squares and what is not known stay in float32. (A softmax that takes half precision is summed in
it: one of 70,000 equal values gave zeros on an H100, and was no faster in attention.) A value that a constant out of the range of half
precision went into (a mask of -1e9) is taken to be out of it as well, until something bounds it (softmax).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from beforehand.precision.formats import Half
from beforehand.precision.onnx_graph import FLOAT, OnnxGraph, list_captured

# Fast in half precision, with sums in float32 inside of them. A value is quantised by a scale of the
# type that it is read with, as NVIDIA's own tools write it: of graphs with two types TensorRT-RTX 1.4 gave NaN on an H100.
EAGER = frozenset({"Conv", "ConvTranspose", "DequantizeLinear", "Einsum", "Gemm", "MatMul", "QuantizeLinear"})
# Their scales have been rounded to half precision before (adapt_quantized.py).
_QUANTISING = frozenset({"DequantizeLinear", "QuantizeLinear"})
_FIRST_QUANTISING = 19  # the opset in which their scales may be in half precision
# As exact in half precision as their inputs, but for one rounding: they follow what they read.
TOLERANT = frozenset({
    "Abs", "Add", "AveragePool", "Clip", "Concat", "DepthToSpace", "Div", "Elu", "Erf", "Expand", "Flatten", "Gather",
    "GatherElements", "GatherND", "Gelu", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity",
    "LayerNormalization", "LeakyRelu", "Max", "MaxPool", "Min", "Mul", "Neg", "Pad", "PRelu", "ReduceMax", "ReduceMean",
    "ReduceMin", "Relu", "Reshape", "Resize", "Selu", "Sigmoid", "Slice", "Softsign", "SpaceToDepth", "Split", "Squeeze",
    "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
# Whatever goes in, what comes out is small.
_BOUNDING = frozenset({
    "Clip", "Erf", "HardSigmoid", "LayerNormalization", "QuantizeLinear", "Sigmoid", "Sign", "Sin", "Cos", "Softmax", "Softsign", "Tanh",
})  # fmt: skip
# Inputs that stay in float32 in a node of half precision: scales and regions of Resize.
ALWAYS_FLOAT: Mapping[str, tuple[int, ...]] = {"Resize": (1, 2)}

OWN = "it gives no float32"
BORDER = "nothing before it computes in half precision"
OPERATION = "operation"
RANGE = "a constant is out of the range"
LARGE = "it may leave the range, by a constant before it"
SQUARE = "square"
KEPT = "kept, for accuracy"


@dataclasses.dataclass(frozen=True)
class Choice:
    """Of each node, by its place, whether it computes in half precision; and the reasons of those that do not."""

    half: tuple[bool, ...]
    reasons: Mapping[int, str]


def choose_half(model: OnnxGraph, types: Mapping[str, int], half: Half, kept: frozenset[str] = frozenset()) -> Choice:
    """Decide for every node of the main graph, which are in topological order.

    Args:
        model: The graph.
        types: Element types of its values.
        half: Which half precision.
        kept: Names of nodes that stay in float32 whatever they are.
    """
    chooser = _Chooser(model, types, half, kept)
    reasons = [chooser.decide(node) for node in model.graph.node]
    return Choice(
        tuple(not reason for reason in reasons), {place: reason for place, reason in enumerate(reasons) if reason}
    )


class _Chooser:
    def __init__(self, model: OnnxGraph, types: Mapping[str, int], half: Half, kept: frozenset[str]) -> None:
        self._model, self._types, self._half, self._kept = model, types, half, kept
        self._in_half: set[str] = set()
        self._large: set[str] = set()

    def decide(self, node: Any) -> str:
        """Why a node stays in float32; empty if it need not."""
        reason = next(self._list_reasons(node), "")
        if not reason:
            self._in_half.update(name for name in node.output if self._types.get(name) == FLOAT)
        elif node.op_type not in _BOUNDING and (reason == RANGE or not self._large.isdisjoint(node.input)):
            self._large.update(node.output)
        return reason

    def _list_reasons(self, node: Any) -> Iterator[str]:
        """The first counts: those of the range come before those of the operation, for what they say of its outputs."""
        types = self._types
        known = all(name in types for name in (*node.input, *node.output) if name)
        is_late = node.op_type in _QUANTISING and self._model.opset < _FIRST_QUANTISING
        if not known or is_late or next(list_captured(node), None):
            yield OPERATION
            return
        if node.op_type not in _QUANTISING and all(types[name] != FLOAT for name in node.output if name):
            yield OWN
            return
        if self._has_lost_constant(node):
            yield RANGE
        if node.name in self._kept:
            yield KEPT
        if node.op_type not in EAGER and node.op_type not in TOLERANT:
            yield OPERATION
        if node.op_type == "Mul" and node.input[0] == node.input[1]:
            yield SQUARE
        if node.op_type == "Div" and not self._model.is_constant(node.input[1]):
            yield OPERATION  # a small divisor would be zero
        if not self._large.isdisjoint(node.input):
            yield LARGE
        is_embedding = node.op_type == "Gather" and self._model.is_constant(node.input[0])
        if node.op_type not in EAGER and not is_embedding and self._in_half.isdisjoint(node.input):
            yield BORDER

    def _has_lost_constant(self, node: Any) -> bool:
        """Whether a constant of the node does not survive in half precision."""
        if node.op_type in _QUANTISING:
            return False
        kept = ALWAYS_FLOAT.get(node.op_type, ())
        for index, name in enumerate(node.input):
            if index in kept or not self._model.is_constant(name) or self._types[name] != FLOAT:
                continue
            value = self._model.read(name)
            largest = float(np.max(np.abs(value))) if value.size else 0.0
            # Of a tensor some elements may be lost; all may not: then its scale is not that of half precision.
            if not np.isfinite(self._half.round_value(largest)) or 0 < largest < self._half.smallest_normal:
                return True
        return False
