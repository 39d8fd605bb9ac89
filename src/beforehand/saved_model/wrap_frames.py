"""Loops and branches of TensorFlow 1 as one call of a function.

A function that is being traced orders its nodes by control edges, and TensorFlow 2.21 draws them across the frames of such
a loop ("has inputs from different frames"). What is in a function of its own, it leaves alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from beforehand.graph.edges import name_node
from beforehand.graph.function import Body, encode_function
from beforehand.runtime.tensorflow_private import find_op_def

_FRAME_OPS = frozenset({"Enter", "Exit", "Merge", "Switch", "RefEnter", "RefExit", "RefMerge", "RefSwitch"})
_CALL = "tensorflow_1_control_flow"


def has_frames(nodes: Iterable[Any]) -> bool:
    """Whether control flow of TensorFlow 1 is among the nodes."""
    return any(node.op in _FRAME_OPS for node in nodes)


def wrap_frames(chunk: Any, given: Mapping[str, tf.Tensor], outputs: Iterable[str], awaited: Iterable[str]) -> Any:
    """A graph of one call, whose function has the nodes of `chunk`.

    Args:
        chunk: A GraphDef; not changed.
        given: The tensors that it reads from outside; the call takes them in this order.
        outputs: The tensors that others read; the call gives them in this order.
        awaited: The nodes that others wait for; they wait for the call instead.
    """
    arguments = {tensor: f"argument_{index}" for index, tensor in enumerate(given)}
    nodes: dict[str, Any] = {}
    outside: dict[str, None] = {}
    inside = {node.name for node in chunk.node}
    for tensor, name in arguments.items():
        nodes[name] = tf.compat.v1.NodeDef(name=name, op="Placeholder")
        nodes[name].attr["dtype"].type = given[tensor].dtype.as_datatype_enum
        nodes[name].attr["shape"].shape.CopyFrom(given[tensor].shape.as_proto())
    for node in chunk.node:
        copy = tf.compat.v1.NodeDef()
        copy.CopyFrom(node)
        del copy.input[:]
        for tensor in node.input:
            if tensor.startswith("^") and tensor[1:] not in inside:
                outside[tensor] = None
            else:
                copy.input.append(f"{arguments[tensor]}:0" if tensor in arguments else tensor)
        nodes[node.name] = copy
    effects = tf.compat.v1.NodeDef(name="beforehand_effects", op="NoOp", input=[f"^{name}" for name in awaited])
    nodes[effects.name] = effects
    function = encode_function(Body(nodes, tuple(arguments.values()), tuple(outputs), effects.name), find_op_def)
    wrapped = tf.compat.v1.GraphDef()
    wrapped.versions.CopyFrom(chunk.versions)
    wrapped.library.CopyFrom(chunk.library)
    wrapped.library.function.append(function)
    call = wrapped.node.add(name=_CALL, op="StatefulPartitionedCall", input=[*given, *outside])
    call.attr["f"].func.name = function.signature.name
    call.attr["Tin"].list.type.extend(argument.type for argument in function.signature.input_arg)
    call.attr["Tout"].list.type.extend(argument.type for argument in function.signature.output_arg)
    return wrapped


def list_read_outside(
    nodes: Mapping[str, Any], names: set[str], graph_outputs: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Of the nodes `names`: the tensors that others read, and the nodes that others wait for."""
    read: dict[str, None] = {}
    awaited: dict[str, None] = {}
    for node in nodes.values():
        for tensor in node.input if node.name not in names else ():
            if name_node(tensor) in names:
                if tensor.startswith("^"):
                    awaited[tensor[1:]] = None
                else:
                    read[tensor] = None
    read.update((tensor, None) for tensor in graph_outputs if name_node(tensor) in names)
    return list(read), list(awaited)
