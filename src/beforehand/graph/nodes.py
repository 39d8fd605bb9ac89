"""Nodes and tensors of a flat graph: names, outputs, order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow as tf

from beforehand.errors import GraphError
from beforehand.graph.edges import name_node

FindOpDef = Callable[[str], Any]


def list_outputs(node: Any, find_op_def: FindOpDef) -> list[tuple[str, int]]:
    """Of each output tensor of a node, its name within a function ("output:index") and its dtype's number.

    Raises:
        GraphError: BH205, the op is not known.
    """
    definition = find_op_def(node.op)
    if definition is None:
        raise GraphError(f"the op {node.op} of {node.name} is not known to TensorFlow {tf.__version__}")
    found: list[tuple[str, int]] = []
    for output in definition.output_arg:
        if output.type_list_attr:
            types = list(_find_attribute(node, output.type_list_attr, definition).list.type)
        else:
            dtype = _find_attribute(node, output.type_attr, definition).type if output.type_attr else output.type
            types = [dtype] * (_find_attribute(node, output.number_attr, definition).i if output.number_attr else 1)
        found.extend((f"{output.name}:{index}", dtype) for index, dtype in enumerate(types))
    return found


def _find_attribute(node: Any, name: str, definition: Any) -> Any:
    """A node's attribute, or its default, which exporters leave out (and to read a missing one would be to add it, empty)."""
    if name in node.attr:
        return node.attr[name]
    return next(attribute.default_value for attribute in definition.attr if attribute.name == name)


def make_placeholder(name: str, dtype: str, shape: Any) -> Any:
    """A Placeholder node."""
    node = tf.compat.v1.NodeDef(name=name, op="Placeholder")
    node.attr["dtype"].type = tf.as_dtype(dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return node


def prune(nodes: dict[str, Any], roots: Iterable[str]) -> None:
    """Keep the ancestors of `roots`, in place."""
    waiting, kept = [name_node(root) for root in roots], set()
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept.add(name)
            waiting.extend(name_node(tensor) for tensor in nodes[name].input)
    for name in [name for name in nodes if name not in kept]:
        del nodes[name]


def sort_nodes(nodes: Mapping[str, Any]) -> list[str]:
    """Names in topological order, the same for equal graphs. Loops of TF1 control flow are cut at NextIteration."""
    order: list[str] = []
    state: dict[str, int] = {}
    for root in sorted(nodes):
        stack = [(root, False)]
        while stack:
            name, done = stack.pop()
            if done:
                order.append(name)
            elif name not in state:
                state[name] = 1
                stack.append((name, True))
                if nodes[name].op != "NextIteration":
                    stack.extend(
                        (name_node(t), False) for t in reversed(nodes[name].input) if name_node(t) not in state
                    )
    return order
