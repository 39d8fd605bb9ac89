"""GELU, written out by TensorFlow as five to nine nodes, to one Gelu.

TensorRT has a kernel of a matrix product that ends in it; of the nodes it makes a kernel of its own that computes in float32.

Method: each Erf and each Tanh is a candidate. Some value that its argument was made of is x: the one in which the argument is the
polynomial that GELU has there. What is made of x and the candidate e by sums and products with scalars is followed as a
polynomial in both; where it is `x / 2 + x * e / 2`, it is GELU of x, in whatever order Keras, TensorFlow or PyTorch wrote it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from beforehand.precision.onnx_graph import FLOAT, OnnxGraph, count_readers
from beforehand.precision.polynomials import Polynomial, add, multiply
from beforehand.precision.raise_opset import raise_opset

_OPSET = 20  # the first that has Gelu
# By the candidate's operation: its argument as a polynomial in x, and the attribute `approximate`.
_SLOPE = math.sqrt(2 / math.pi)
_ARGUMENTS = {
    "Erf": ({"x": math.sqrt(0.5)}, "none"),
    "Tanh": ({"x": _SLOPE, "xxx": _SLOPE * 0.044715}, "tanh"),
}
_GELU = {"x": 0.5, "ex": 0.5}
_MOST_FACTORS = 3
_FARTHEST = 6  # nodes between x and its argument, or between the candidate and the product
# How far constants may be off: each was rounded once to the type of the graph, and two of them may have been multiplied.
_TOLERANCES = {FLOAT: 2.0**-22, onnx.TensorProto.FLOAT16: 2.0**-9, onnx.TensorProto.BFLOAT16: 2.0**-6}


def join_gelu(model: OnnxGraph) -> int:
    """Join what can be joined; how many. Requires nodes in topological order, and keeps them so.

    Left apart is what something else reads a part of, and all of a graph that cannot be of opset 20.
    """
    finder = _Finder(model)
    found = (finder.find(node) for node in model.graph.node if node.op_type in _ARGUMENTS)
    joined = {gelu.output[0]: gelu for gelu in found if gelu is not None}
    if not joined or not raise_opset(model, _OPSET):
        return 0
    model.replace_nodes([joined.get(node.output[0], node) for node in model.graph.node])
    model.drop_unused()
    return len(joined)


class _Finder:
    def __init__(self, model: OnnxGraph) -> None:
        self._model = model
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._users: dict[str, list[Any]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._readers = count_readers(model.graph)
        self._inferred = model.infer()

    def find(self, candidate: Any) -> Any:
        """The Gelu that `candidate` is a part of, in place of the node that gives its value; None if there is none."""
        argument, approximate = _ARGUMENTS[candidate.op_type]
        for x in self._list_sources(candidate.input[0]):
            tolerance = _TOLERANCES.get(self._inferred.types.get(x, 0))
            if tolerance is None:
                continue
            forms = _Forms(
                self._model, self._makers, self._inferred.ranks.get(x, 0), {x: "x", candidate.output[0]: "e"}
            )
            if not _is_near(forms.read(candidate.input[0]), argument, tolerance):
                continue
            for name in self._list_results(candidate.output[0]):
                if _is_near(forms.read(name), _GELU, tolerance) and self._is_closed(forms, name, candidate):
                    node = self._makers[name]
                    return helper.make_node("Gelu", [x], [name], name=node.name, approximate=approximate)
        return None

    def _list_sources(self, name: str) -> Iterator[str]:
        """What a value was made of, near ones first."""
        level = {name: None}
        for _ in range(_FARTHEST):
            yield from level
            makers = (self._makers[name] for name in level if name in self._makers)
            level = {name: None for node in makers if node.op_type in _OPERATIONS for name in node.input}

    def _list_results(self, name: str) -> Iterator[str]:
        """What was made of a value, near ones first."""
        level = {name: None}
        for _ in range(_FARTHEST):
            users = (node for name in level for node in self._users.get(name, ()))
            level = {node.output[0]: None for node in users if node.op_type in _OPERATIONS}
            yield from level

    def _is_closed(self, forms: _Forms, result: str, candidate: Any) -> bool:
        """Whether nothing but GELU itself reads what lies between x and the result."""
        inner = forms.list_inner(result) | forms.list_inner(candidate.input[0]) | {candidate.output[0]}
        within = [name for made in inner | {result} for name in self._makers[made].input]
        return all(within.count(name) == self._readers[name] for name in inner - {result})


@dataclasses.dataclass
class _Forms:
    """Values as polynomials in the variables.

    Attributes:
        model: The graph.
        makers: The nodes that give its values.
        rank: Of x: constants of a higher one would change the result's.
        variables: The values that are variables, and their letters.
    """

    model: OnnxGraph
    makers: Mapping[str, Any]
    rank: int
    variables: Mapping[str, str]
    _read: dict[str, Polynomial | None] = dataclasses.field(default_factory=dict)

    def read(self, name: str, depth: int = 0) -> Polynomial | None:
        """The polynomial that a value is, if it is one."""
        if name in self.variables:
            return {self.variables[name]: np.ones(())}
        if name not in self._read:
            self._read[name] = self._compute(name, depth)
        return self._read[name]

    def list_inner(self, name: str) -> set[str]:
        """A value that is a polynomial, and what it was computed by; variables and constants are not among it."""
        if name in self.variables or self.model.is_constant(name):
            return set()
        return {name}.union(*(self.list_inner(made_of) for made_of in self.makers[name].input))

    def _compute(self, name: str, depth: int) -> Polynomial | None:
        if self.model.is_constant(name):
            value = self.model.read(name)
            is_scalar = value.size == 1 and value.ndim <= self.rank
            return {"": value.astype(np.float64).reshape(())} if is_scalar else None
        node = self.makers.get(name)
        if node is None or node.op_type not in _OPERATIONS or depth > _FARTHEST:
            return None
        compute = _OPERATIONS[node.op_type]
        return compute(*(self.read(made_of, depth + 1) for made_of in node.input))


def _multiply(left: Polynomial | None, right: Polynomial | None) -> Polynomial | None:
    return multiply(left, right, _MOST_FACTORS)


def _negate(form: Polynomial | None) -> Polynomial | None:
    return _multiply(form, {"": -np.ones(())})


def _subtract(left: Polynomial | None, right: Polynomial | None) -> Polynomial | None:
    return add(left, _negate(right))


def _divide(left: Polynomial | None, right: Polynomial | None) -> Polynomial | None:
    if right is None or right.keys() != {""} or right[""] == 0:
        return None
    return _multiply(left, {"": 1 / right[""]})


def _raise(base: Polynomial | None, exponent: Polynomial | None) -> Polynomial | None:
    if exponent is None or exponent.keys() != {""} or exponent[""] not in range(1, _MOST_FACTORS + 1):
        return None
    raised = base
    for _ in range(int(exponent[""]) - 1):
        raised = _multiply(raised, base)
    return raised


_OPERATIONS: Mapping[str, Callable[..., Polynomial | None]] = {
    "Add": add, "Div": _divide, "Mul": _multiply, "Neg": _negate, "Pow": _raise, "Sub": _subtract,
}  # fmt: skip


def _is_near(form: Polynomial | None, wanted: Mapping[str, float], tolerance: float) -> bool:
    """Whether `form` has these terms, and no others."""
    if form is None:
        return False
    found = {key: float(value) for key, value in form.items() if value != 0}
    return found.keys() == wanted.keys() and all(
        math.isclose(found[key], wanted[key], rel_tol=tolerance) for key in wanted
    )
