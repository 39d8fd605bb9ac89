"""Reductions that drop axes, as reductions that keep them with a Squeeze after: for graphs that are quantised.

OpenVINO 2026.4.1 takes a product with one factor a channel, and the quantisation after it, into a reduction that drops an axis,
and then reads the factors along the wrong axis: answers were off by a third of their spread (SmoothQuant after Keras's
GlobalAveragePooling1D). With kept axes they are right.
"""

from __future__ import annotations

from typing import Any

from onnx import helper

from beforehand.precision.onnx_graph import OnnxGraph, copy_node


def keep_reduced(model: OnnxGraph) -> int:
    """Rewrite reductions along constant axes; how many there were. Requires nodes in topological order, and keeps them so."""
    nodes: list[Any] = []
    count = 0
    for node in model.graph.node:
        keeps = next((attribute.i for attribute in node.attribute if attribute.name == "keepdims"), 1)
        if (
            not node.op_type.startswith("Reduce")
            or keeps
            or len(node.input) < 2
            or not model.is_constant(node.input[1])
        ):
            nodes.append(node)
            continue
        count += 1
        kept, name = copy_node(node), model.make_name(node.output[0])
        kept.output[0] = name
        for attribute in kept.attribute:
            if attribute.name == "keepdims":
                attribute.i = 1
        squeeze = helper.make_node("Squeeze", [name, node.input[1]], [node.output[0]], name=model.make_name(node.name))
        nodes += [kept, squeeze]
    if count:
        model.replace_nodes(nodes)
    return count
