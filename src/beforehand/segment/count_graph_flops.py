"""Floating-point operations of all nodes of a graph, those in the bodies of loops and branches included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beforehand.graph.control_flow import CONTROL_FLOW_OPS, list_function_slots
from beforehand.graph.function import decode_function, make_body_graph
from beforehand.graph.nodes import FindOpDef
from beforehand.records import TensorSpec
from beforehand.segment.count_flops import count_flops
from beforehand.segment.describe_tensors import describe_graph_def


def count_graph_flops(graph_def: Any, tensors: Mapping[str, TensorSpec], find_op_def: FindOpDef) -> dict[str, int]:
    """Operations of each node, by name: of a loop those of one iteration, of a branch those of all its ways.

    Args:
        graph_def: The graph, with the functions that it calls.
        tensors: Its tensors (see `describe_tensors`).
        find_op_def: The OpDef of a stock op.
    """
    library = {function.signature.name: function for function in graph_def.library.function}
    counts: dict[str, int] = {}
    for node in graph_def.node:
        counts[node.name] = count_flops(node, tensors)
        if node.op in CONTROL_FLOW_OPS:
            counts[node.name] = sum(
                _count_body(library[slot.name], graph_def, find_op_def)
                for slot in list_function_slots(node)
                if slot.name in library
            )
    return counts


def _count_body(function: Any, caller: Any, find_op_def: FindOpDef) -> int:
    graph_def = make_body_graph(decode_function(function, find_op_def), caller)
    return sum(count_graph_flops(graph_def, describe_graph_def(graph_def), find_op_def).values())
