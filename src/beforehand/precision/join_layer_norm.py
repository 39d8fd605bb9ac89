"""Layer normalisation, written out by TensorFlow as a dozen nodes, to one LayerNormalization.

A strongly typed builder can then compute the statistics in float32 whatever the tensors are, in one kernel; left apart, it
computes the squares in half precision, where they overflow at 256.

Method: each `1 / sqrt(mean(square(x - mean(x))) + epsilon)` is a candidate. What is made of x, the mean m and that root r by
sums and products with constants is followed as a polynomial in x, m and r; where it is `g * x * r - g * m * r + b`, it is the
normalisation with scale g and bias b, in whatever order Keras, TensorFlow or PyTorch wrote it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import helper

from beforehand.precision.onnx_graph import OnnxGraph, count_readers
from beforehand.precision.polynomials import Polynomial, add, multiply

# Monomials in x, m and r: "xr" is written "rx".
_SCALED, _SHIFTED, _CONSTANT = "rx", "mr", ""
_MOST_FACTORS = 2
_ONE = np.ones((), np.float32)


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """Names of x, its mean, and the reciprocal root; `divisor` is the root itself, which some divide by."""

    x: str
    mean: str
    centred: str
    root: str
    epsilon: float


def join_layer_norm(model: OnnxGraph) -> int:
    """Join what can be joined; how many. Requires nodes in topological order, and keeps them so."""
    makers = {name: node for node in model.graph.node for name in node.output}
    finder = _Finder(model, makers, model.infer().ranks)
    readers = count_readers(model.graph)
    joined: dict[str, Any] = {}  # by the value that it gives
    for node in model.graph.node:
        if node.op_type == "Sqrt":
            candidate = finder.find(node)
            if candidate is not None:
                joined.update(_follow(model, candidate, readers))
    if joined:
        nodes = []
        for node in model.graph.node:
            replaced = [joined[name] for name in node.output if name in joined]
            nodes.extend(replaced or [node])
        model.replace_nodes(nodes)
        model.drop_unused()
    return len(joined)


@dataclasses.dataclass(frozen=True)
class _Finder:
    model: OnnxGraph
    makers: Mapping[str, Any]
    ranks: Mapping[str, int]

    def find(self, sqrt: Any) -> _Candidate | None:
        """The candidate whose root `sqrt` is."""
        added = self.makers.get(sqrt.input[0])
        if added is None or added.op_type != "Add":
            return None
        for variance, epsilon in (added.input, reversed(added.input)):
            squares = self._find_mean(variance)
            centred = _find_root_of_square(self.makers.get(squares or ""))
            subtraction = self.makers.get(centred or "")
            if not self._is_scalar(epsilon) or subtraction is None or subtraction.op_type != "Sub":
                continue
            x, mean = subtraction.input
            if self._find_mean(mean) == x:
                value = float(self.model.read(epsilon).reshape(()))
                return _Candidate(x, mean, str(centred), sqrt.output[0], value)
        return None

    def _is_scalar(self, name: str) -> bool:
        return self.model.is_constant(name) and self.model.read(name).size == 1

    def _find_mean(self, name: str) -> str | None:
        """What `name` is the mean of, over the last dimension, which is kept."""
        node = self.makers.get(name)
        if node is None or node.op_type != "ReduceMean" or len(node.input) != 2:
            return None
        source, axes = node.input
        keeps = next((attribute.i for attribute in node.attribute if attribute.name == "keepdims"), 1)
        if not keeps or not self.model.is_constant(axes):
            return None
        last = {-1, self.ranks.get(source, 0) - 1}
        found = self.model.read(axes).reshape(-1).tolist()
        return str(source) if len(found) == 1 and found[0] in last else None


def _find_root_of_square(node: Any) -> str | None:
    """What `node` squares."""
    if node is not None and node.op_type == "Mul" and node.input[0] == node.input[1]:
        return str(node.input[0])
    return None


def _follow(model: OnnxGraph, candidate: _Candidate, readers: Mapping[str, int]) -> dict[str, Any]:
    """The normalisations that are made of a candidate and read by something else, by their value's name."""
    forms: dict[str, Polynomial] = {
        candidate.x: {"x": _ONE}, candidate.mean: {"m": _ONE}, candidate.centred: {"x": _ONE, "m": -_ONE},
    }  # fmt: skip
    read_within: dict[str, int] = {}
    for node in model.graph.node:
        form = _combine(model, node, forms, candidate)
        if form is not None:
            forms[node.output[0]] = form
            for name in node.input:
                read_within[name] = read_within.get(name, 0) + 1
    made = {}
    for name, form in forms.items():
        scale_and_bias = _read_normalisation(form)
        if scale_and_bias is not None and readers[name] > read_within.get(name, 0):
            made[name] = _write(model, candidate, name, *scale_and_bias)
    return {name: node for name, node in made.items() if node is not None}


def _combine(model: OnnxGraph, node: Any, forms: Mapping[str, Polynomial], candidate: _Candidate) -> Polynomial | None:
    """The polynomial that `node` gives, if it is one."""
    if node.op_type == "Reciprocal" and node.input[0] == candidate.root:
        return {"r": _ONE}
    if node.op_type == "Div" and node.input[1] == candidate.root:
        return multiply(_read_form(model, node.input[0], forms), {"r": _ONE}, _MOST_FACTORS)
    if node.op_type == "Neg":
        return multiply(forms.get(node.input[0]), {"": -_ONE}, _MOST_FACTORS)
    if node.op_type in ("Add", "Sub", "Mul") and any(name in forms for name in node.input):
        left, right = (_read_form(model, name, forms) for name in node.input)
        if node.op_type == "Mul":
            return multiply(left, right, _MOST_FACTORS)
        return add(left, multiply(right, {"": -_ONE}, _MOST_FACTORS) if node.op_type == "Sub" else right)
    return None


def _read_form(model: OnnxGraph, name: str, forms: Mapping[str, Polynomial]) -> Polynomial | None:
    if name in forms:
        return forms[name]
    if not model.is_constant(name):
        return None
    value = model.read(name)
    # A constant along other dimensions than the last is no scale or bias of a layer normalisation.
    return {"": np.asarray(value)} if value.dtype == np.float32 and value.size == (value.shape or (1,))[-1] else None


def _read_normalisation(form: Polynomial) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None] | None:
    """Scale and bias, if `form` is g * x * r - g * m * r + b."""
    if not {_SCALED, _SHIFTED} <= form.keys() or form.keys() - {_SCALED, _SHIFTED, _CONSTANT}:
        return None
    if not np.all(np.equal(form[_SCALED], -form[_SHIFTED])):
        return None
    return form[_SCALED], form.get(_CONSTANT)


def _write(
    model: OnnxGraph, candidate: _Candidate, name: str, scale: np.ndarray[Any, Any], bias: np.ndarray[Any, Any] | None
) -> Any:
    size = max(np.size(scale), 1 if bias is None else np.size(bias))
    if size == 1:  # how long the last dimension is, nothing tells
        return None
    inputs = [candidate.x]
    for stem, value in (("scale", scale), ("bias", bias)):
        if value is not None:
            full = np.broadcast_to(np.asarray(value, np.float32).reshape(-1), (size,))
            inputs.append(model.add_constant(f"{name}_{stem}", full))
    node = next(node for node in model.graph.node if name in node.output)
    return helper.make_node(
        "LayerNormalization", inputs, [name], name=node.name, axis=-1, epsilon=candidate.epsilon
    )  # fmt: skip
