"""The parts of a segment that can be put back to a higher precision: its ONNX nodes by Keras layer, or TensorFlow name scope."""

from __future__ import annotations

from typing import Any

from beforehand.graph.name_layers import name_layers
from beforehand.precision.onnx_graph import FLOAT, OnnxGraph
from beforehand.precision.revert_nodes import list_quantized

# These read nothing of a value but its size.
_SIZES = ("Shape", "Size")


def list_parts(onnx_file: str, *, is_quantized: bool = False) -> dict[str, tuple[str, ...]]:
    """Names of ONNX nodes that compute with floating-point numbers, by part, in the order in which they compute.

    Of a quantised graph (`is_quantized`) those that compute with quantised values: the others lose nothing by it.

    A part is a layer: `name_layers` says which a node belongs to.
    """
    model = OnnxGraph(onnx_file)
    types = model.infer().types
    nodes = [node for node in model.graph.node if node.name]
    quantized = {node.name for node in list_quantized(model)} if is_quantized else None
    scopes = name_layers(_list_readers(nodes))
    parts: dict[str, list[str]] = {}
    for node in nodes:
        # Of a type that is not known: better one too many.
        is_of_float = any(types.get(name, FLOAT) == FLOAT for name in node.output if name)
        if is_of_float if quantized is None else node.name in quantized and node.op_type not in _SIZES:
            parts.setdefault(scopes[node.name], []).append(node.name)
    return {part: tuple(names) for part, names in parts.items()}


def _list_readers(nodes: list[Any]) -> dict[str, list[str]]:
    """Of each node the nodes that read its outputs."""
    makers = {output: node.name for node in nodes for output in node.output}
    readers: dict[str, list[str]] = {node.name: [] for node in nodes}
    for node in nodes:
        for name in node.input:
            if name in makers:
                readers[makers[name]].append(node.name)
    return readers
