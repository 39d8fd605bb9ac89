"""Variables that are only read: find the reads, and put the value in the place of the handle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from beforehand.graph.edges import name_node

READ_OPS = frozenset({"ReadVariableOp", "ResourceGather", "ResourceGatherNd"})
PASS_OPS = frozenset({"Identity"})
# A handle may go into a loop or branch of TensorFlow 1 before it is read there; so may the value.
_ENTRIES = frozenset({"Enter", "Identity", "Switch"})


def follow(nodes: Mapping[str, Any], tensor: str) -> str:
    """Through identities, to where a tensor comes from."""
    while nodes[name_node(tensor)].op in PASS_OPS:
        tensor = nodes[name_node(tensor)].input[0]
    return tensor


def find_consumers(nodes: Mapping[str, Any], outputs: Iterable[str]) -> dict[str, list[str]]:
    """Of each node, the nodes that read its tensors; "" stands for the outputs of the graph."""
    consumers: dict[str, list[str]] = {}
    for node in nodes.values():
        for tensor in node.input:
            if not tensor.startswith("^"):
                consumers.setdefault(name_node(tensor), []).append(node.name)
    for tensor in outputs:
        consumers.setdefault(name_node(tensor), []).append("")
    return consumers


def find_reads(nodes: Mapping[str, Any], handle: str, consumers: Mapping[str, list[str]]) -> list[str] | None:
    """The nodes that read the variable of the node `handle`; None if it is also used in another way.

    The nodes that hand the handle on to a read come along.
    """
    reads: list[str] = []
    waiting = [handle]
    while waiting:
        for consumer in consumers.get(waiting.pop(), []):
            op = nodes[consumer].op if consumer else ""
            if op in _ENTRIES:
                waiting.append(consumer)
            elif op not in READ_OPS:
                return None
            reads.append(consumer)
    return reads


def replace_reads(nodes: dict[str, Any], reads: Iterable[str], dtype: str) -> dict[str, str]:
    """Let a handle stand for the value, of `dtype`; returns by which tensor each plain read is replaced.

    Args:
        nodes: Changed in place: gathers, and what hands the handle on.
        reads: As `find_reads` gives them.
        dtype: The variable's.
    """
    replaced = {}
    for name in reads:
        node = nodes[name]
        if node.op in _ENTRIES:
            copy = tf.compat.v1.NodeDef()
            copy.CopyFrom(node)
            copy.attr["T"].type = tf.as_dtype(dtype).as_datatype_enum
            nodes[name] = copy
        elif node.op == "ReadVariableOp":
            replaced[f"{name}:0"] = follow(nodes, node.input[0])
        elif node.op == "ResourceGather":
            _make_gather(nodes, node)
        else:
            _make_gather_nd(nodes, node)
    return replaced


def redirect_reads(nodes: dict[str, Any], replaced: Mapping[str, str]) -> None:
    """Read the values themselves; who waited for a read now waits for what the read waited for."""
    reads = {name_node(tensor) for tensor in replaced}
    waits = {f"^{name}": [t for t in nodes[name].input if t.startswith("^")] for name in reads}
    for node in nodes.values():
        data = [replaced.get(tensor, tensor) for tensor in node.input if not tensor.startswith("^")]
        control = [after for tensor in node.input if tensor.startswith("^") for after in waits.get(tensor, [tensor])]
        inputs = [*data, *dict.fromkeys(control)]
        if inputs != list(node.input):
            del node.input[:]
            node.input.extend(inputs)


def _make_gather(nodes: dict[str, Any], node: Any) -> None:
    """A gather from a variable is a gather from its value."""
    batch_dims, dtype, indices = node.attr["batch_dims"].i, node.attr["dtype"].type, node.attr["Tindices"].type
    axis = f"{node.name}/axis"
    nodes[axis] = _make_const(axis, batch_dims)
    gather = tf.compat.v1.NodeDef(name=node.name, op="GatherV2", input=[*node.input[:2], f"{axis}:0"])
    gather.input.extend(tensor for tensor in node.input if tensor.startswith("^"))
    gather.attr["Tparams"].type, gather.attr["Tindices"].type = dtype, indices
    gather.attr["Taxis"].type, gather.attr["batch_dims"].i = tf.int32.as_datatype_enum, batch_dims
    nodes[node.name] = gather


def _make_gather_nd(nodes: dict[str, Any], node: Any) -> None:
    gather = tf.compat.v1.NodeDef(name=node.name, op="GatherNd", input=node.input)
    gather.attr["Tparams"].type, gather.attr["Tindices"].type = node.attr["dtype"].type, node.attr["Tindices"].type
    nodes[node.name] = gather


def _make_const(name: str, value: int) -> Any:
    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tf.int32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.int32))
    return node
