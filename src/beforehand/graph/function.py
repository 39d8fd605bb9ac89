"""A function as nodes of a flat graph, and as TensorFlow keeps functions."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from beforehand.graph.edges import name_node
from beforehand.graph.nodes import FindOpDef, list_outputs, sort_nodes


@dataclasses.dataclass
class Body:
    """A function as nodes of one flat graph, in the form of `inline_functions`; passes change it in place.

    Attributes:
        nodes: By name.
        arguments: Names of the placeholders that stand for the arguments, in their order.
        outputs: Tensors, in the order of the results.
        effects: A NoOp that waits for whatever the function does besides, as a control input.
    """

    nodes: dict[str, Any]
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    effects: str


def encode_function(body: Body, find_op_def: FindOpDef) -> Any:
    """A body as a FunctionDef; its name is a hash of its content."""
    function = tf.compat.v1.GraphDef().library.function.add()
    shapes = function.attr["_input_shapes"].list
    outputs: dict[str, list[tuple[str, int]]] = {}
    for name in body.arguments:
        placeholder = body.nodes[name]
        dtype = placeholder.attr["dtype"].type
        function.signature.input_arg.add(name=name, type=dtype)
        shapes.shape.add().CopyFrom(placeholder.attr["shape"].shape)
        outputs[name] = [("", dtype)]
    for name in sort_nodes(body.nodes):
        is_idle = name == name_node(body.effects) and not body.nodes[name].input
        if name not in outputs and not is_idle:
            outputs[name] = list_outputs(body.nodes[name], find_op_def)
            function.node_def.add().CopyFrom(body.nodes[name])
    for node in function.node_def:
        inputs = [_encode_tensor(tensor, outputs) for tensor in node.input]
        del node.input[:]
        node.input.extend(inputs)
    for index, output in enumerate(body.outputs):
        dtype = outputs[name_node(output)][int(output.partition(":")[2] or 0)][1]
        function.signature.output_arg.add(name=f"output_{index}", type=dtype)
        function.ret[f"output_{index}"] = _encode_tensor(output, outputs)
    if body.nodes[name_node(body.effects)].input:
        function.signature.control_output.append("effects")
        function.control_ret["effects"] = name_node(body.effects)
        function.signature.is_stateful = True
    digest = hashlib.sha256(function.SerializeToString(deterministic=True)).hexdigest()
    function.signature.name = f"body_{digest[:16]}"
    return function


def _encode_tensor(tensor: str, outputs: Mapping[str, list[tuple[str, int]]]) -> str:
    """A tensor's name ("node:index") as functions have it; arguments and control inputs are plain names."""
    if tensor.startswith("^"):
        return tensor
    name, _, index = tensor.partition(":")
    output = outputs[name][int(index or 0)][0]
    return f"{name}:{output}" if output else name


def decode_function(function: Any, find_op_def: FindOpDef) -> Body:
    """A FunctionDef without calls as a body; the inverse of `encode_function`."""
    nodes: dict[str, Any] = {}
    shapes = function.attr["_input_shapes"].list.shape
    for argument, shape in zip(function.signature.input_arg, shapes, strict=True):
        nodes[argument.name] = tf.compat.v1.NodeDef(name=argument.name, op="Placeholder")
        nodes[argument.name].attr["dtype"].type = argument.type
        nodes[argument.name].attr["shape"].shape.CopyFrom(shape)
    arguments = tuple(nodes)
    outputs = {
        node.name: {output: index for index, (output, _) in enumerate(list_outputs(node, find_op_def))}
        for node in function.node_def
    }

    def decode(tensor: str) -> str:
        if tensor.startswith("^"):
            return tensor
        name, _, output = tensor.partition(":")
        return f"{name}:{outputs[name][output]}" if output else f"{name}:0"

    for node in function.node_def:
        copy = tf.compat.v1.NodeDef()
        copy.CopyFrom(node)
        del copy.input[:]
        copy.input.extend(decode(tensor) for tensor in node.input)
        nodes[node.name] = copy
    results = tuple(decode(function.ret[output.name]) for output in function.signature.output_arg)
    effects = function.control_ret.get("effects", "")
    return Body(nodes, arguments, results, effects)


def make_body_graph(body: Body, caller: Any) -> Any:
    """A body as a GraphDef, with the functions of the GraphDef in which it is called."""
    graph_def = tf.compat.v1.GraphDef()
    graph_def.versions.CopyFrom(caller.versions)
    graph_def.library.CopyFrom(caller.library)
    graph_def.node.extend(body.nodes.values())
    return graph_def
