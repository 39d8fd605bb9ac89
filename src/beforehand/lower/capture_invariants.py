"""ONNX loops: what a body hands on as it got it, it may as well read from outside.

TensorFlow's loops carry their weights along, for their bodies see nothing but their arguments. ONNX bodies see the
graph around them, and OpenVINO 2026.4 refuses a Loop whose body has an input that is an output ("does not match the sum of
loop carried dependencies").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import onnx

_MANDATORY_INPUTS = 2  # of a Loop: trip count and condition; of its body: iteration and condition


def capture_invariants(graph: Any) -> None:
    """Let the bodies of all loops of `graph`, in place, read from outside what does not change."""
    replaced: dict[str, str] = {}
    for node in graph.node:
        for inner in list_subgraphs(node):
            capture_invariants(inner)
        if node.op_type == "Loop":
            replaced.update(_capture(node))
    if replaced:
        _rename_reads(graph, replaced)
        _keep_outputs(graph, replaced)


def list_subgraphs(node: Any) -> list[Any]:
    """The graphs within a node of control flow."""
    graphs = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    return [*graphs, *(graph for attribute in node.attribute for graph in attribute.graphs)]


def _capture(loop: Any) -> dict[str, str]:
    """Take invariants out of one loop; returns by which value each of its outputs that went is replaced."""
    [body] = list_subgraphs(loop)
    outer, inner, gone = list(loop.input), {}, {}
    carried = range(len(outer) - _MANDATORY_INPUTS)
    invariant = [
        index for index in carried if body.input[index + _MANDATORY_INPUTS].name == body.output[index + 1].name
    ]
    for index in invariant:
        value = outer[index + _MANDATORY_INPUTS]
        inner[body.input[index + _MANDATORY_INPUTS].name] = value
        gone[loop.output[index]] = value
    for index in reversed(invariant):
        del body.input[index + _MANDATORY_INPUTS]
        del body.output[index + 1]
        del loop.input[index + _MANDATORY_INPUTS]
        del loop.output[index]
    if inner:
        _rename_reads(body, inner)
        _keep_outputs(body, inner)
    return gone


def _rename_reads(graph: Any, names: Mapping[str, str]) -> None:
    for node in graph.node:
        inputs = [names.get(value, value) for value in node.input]
        del node.input[:]
        node.input.extend(inputs)
        for inner in list_subgraphs(node):
            own = set(_list_own(inner))
            _rename_reads(inner, {old: new for old, new in names.items() if old not in own})
            _keep_outputs(inner, {old: new for old, new in names.items() if old not in own})


def _keep_outputs(graph: Any, names: Mapping[str, str]) -> None:
    """An output keeps its name: where its value is now another one, an Identity gives it."""
    for name in dict.fromkeys(value.name for value in graph.output if value.name in names):
        graph.node.append(onnx.helper.make_node("Identity", [names[name]], [name], name))


def _list_own(graph: Any) -> Iterator[str]:
    yield from (value.name for value in graph.input)
    yield from (value.name for value in graph.initializer)
    yield from (output for node in graph.node for output in node.output)
