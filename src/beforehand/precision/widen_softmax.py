"""A softmax of a model's own half precision, computed in float32 between casts: TensorFlow sums it so, whatever it is given.

One of float16 that is summed in float16 gave zeros of 70,000 equal values on an H100.
"""

from __future__ import annotations

import onnx
from onnx import helper

from beforehand.precision.onnx_graph import FLOAT, OnnxGraph, copy_node

_OPS = ("LogSoftmax", "Softmax")
_HALVES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def widen_softmax(model: OnnxGraph) -> int:
    """Widen all of the main graph; how many. Requires nodes in topological order, and keeps them so."""
    if not any(node.op_type in _OPS for node in model.graph.node):
        return 0
    types = model.infer().types
    nodes = []
    for node in model.graph.node:
        kind = types.get(node.input[0], FLOAT) if node.op_type in _OPS else FLOAT
        if kind not in _HALVES:
            nodes.append(node)
            continue
        wide = copy_node(node)
        wide.input[0], wide.output[0] = (model.make_name(name) for name in (node.input[0], node.output[0]))
        nodes += [
            helper.make_node("Cast", [node.input[0]], [wide.input[0]], name=model.make_name(node.name), to=FLOAT),
            wide,
            helper.make_node("Cast", [wide.output[0]], [node.output[0]], name=model.make_name(node.name), to=kind),
        ]
    count = (len(nodes) - len(model.graph.node)) // 2
    model.replace_nodes(nodes)
    return count
