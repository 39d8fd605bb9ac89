"""Whether a graph has attention: a product of two values, a softmax over it, and a product with a third."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from beforehand.precision.onnx_graph import OnnxGraph

# What may stand between a product and the softmax: scales, masks, and changes of layout.
_BETWEEN = frozenset({
    "Add", "Cast", "Div", "Dropout", "Identity", "Mul", "Reshape", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
_STEPS = 8


def find_attention(model: OnnxGraph) -> int:
    """How many softmaxes stand between two products of values that are no weights."""
    makers = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def list_makers(node: Any) -> Iterable[Any]:
        return (makers[name] for name in node.input if name in makers)

    def list_readers(node: Any) -> Iterable[Any]:
        return (reader for name in node.output for reader in readers.get(name, ()))

    return sum(
        _reaches(model, node, list_makers) and _reaches(model, node, list_readers)
        for node in model.graph.node
        if node.op_type == "Softmax"
    )


def _reaches(model: OnnxGraph, start: Any, follow: Callable[[Any], Iterable[Any]]) -> bool:
    """Whether a product of two values is found within some steps."""
    front = list(follow(start))
    for _ in range(_STEPS):
        if any(node.op_type in ("MatMul", "Einsum") and not any(map(model.is_constant, node.input)) for node in front):
            return True
        front = [other for node in front if node.op_type in _BETWEEN for other in follow(node)]
    return False
