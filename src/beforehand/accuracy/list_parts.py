"""The parts of a segment that can be put back to a higher precision: its ONNX nodes by Keras layer, or TensorFlow name scope."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Any

from beforehand.precision.onnx_graph import FLOAT, OnnxGraph
from beforehand.precision.revert_nodes import list_quantized

_NUMBERED = re.compile(r"(__\d+)+$")  # of nodes that come of one TensorFlow node
# Scopes that functions of TensorFlow put around everything; nobody gave a layer such a name.
_WRAPPERS = re.compile(r"^((Stateful)?PartitionedCall(_\d+)?/)+")

# These read nothing of a value but its size.
_SIZES = ("Shape", "Size")


def list_parts(onnx_file: str, *, is_quantized: bool = False) -> dict[str, tuple[str, ...]]:
    """Names of ONNX nodes that compute with floating-point numbers, by part, in the order in which they compute.

    Of a quantised graph (`is_quantized`) those that compute with quantised values: the others lose nothing by it.

    A node belongs to the scope that its name has: `model/dense_1/MatMul` to `model/dense_1`. One without a scope, as translating
    makes them of one operation, belongs where its result goes, else where its inputs come from; failing both it is its own part.
    """
    model = OnnxGraph(onnx_file)
    types = model.infer().types
    nodes = [node for node in model.graph.node if node.name]
    quantized = {node.name for node in list_quantized(model)} if is_quantized else None
    scopes = _find_scopes(nodes)
    parts: dict[str, list[str]] = {}
    for node in nodes:
        # Of a type that is not known: better one too many.
        is_of_float = any(types.get(name, FLOAT) == FLOAT for name in node.output if name)
        if is_of_float if quantized is None else node.name in quantized and node.op_type not in _SIZES:
            parts.setdefault(scopes[node.name], []).append(node.name)
    return {part: tuple(names) for part, names in parts.items()}


def _find_scopes(nodes: list[Any]) -> dict[str, str]:
    own = {node.name: _read_scope(node.name) for node in nodes}
    makers = {output: node.name for node in nodes for output in node.output}
    after: dict[str, list[str]] = {}
    before: dict[str, list[str]] = {}
    for node in nodes:
        for name in node.input:
            if name in makers:
                after.setdefault(makers[name], []).append(node.name)
                before.setdefault(node.name, []).append(makers[name])
    return {
        name: scope or _find_nearest(name, after, own) or _find_nearest(name, before, own) or _write_name(name)
        for name, scope in own.items()
    }


def _read_scope(name: str) -> str:
    return _write_name(name).rpartition("/")[0]


def _write_name(name: str) -> str:
    return _WRAPPERS.sub("", _NUMBERED.sub("", name)) or name


def _find_nearest(name: str, edges: Mapping[str, list[str]], scopes: Mapping[str, str]) -> str:
    """The scope of the nearest node along these edges that has one."""
    waiting, seen = deque([name]), {name}
    while waiting:
        for other in edges.get(waiting.popleft(), ()):
            if scopes[other]:
                return scopes[other]
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return ""
