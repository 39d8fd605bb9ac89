"""Functional control flow in one plain form: bodies without calls, variables that are only read passed by value.

A loop's body reads a variable through a handle that is an argument of the loop. With the value as the argument instead, a
loop has no state: it may be lowered like any other node, and the variable's value need not be a variable of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from beforehand.freeze.drop_idle_nodes import drop_idle_control_edges, has_effect
from beforehand.freeze.inline_functions import inline_body
from beforehand.freeze.read_variables import (
    find_consumers,
    find_reads,
    follow,
    redirect_reads,
    replace_reads,
)
from beforehand.graph.control_flow import CONTROL_FLOW_OPS, list_function_slots
from beforehand.graph.edges import name_node
from beforehand.graph.function import Body, encode_function
from beforehand.graph.nodes import FindOpDef, make_placeholder, prune

# Op: the attribute with the dtypes of its arguments, and how many inputs come before these.
_TYPES = {"While": ("T", 0), "If": ("Tin", 1), "Case": ("Tin", 1)}


@dataclasses.dataclass(frozen=True)
class Variable:
    """What is known of a variable behind a handle."""

    dtype: str
    shape: tuple[int, ...]


def flatten_control_flow(
    nodes: dict[str, Any], library: Mapping[str, Any], variables: Mapping[str, Variable], find_op_def: FindOpDef
) -> dict[str, Any]:
    """Bring every control-flow node into the plain form, from the inside out.

    Args:
        nodes: Nodes of a flat graph by name; changed in place.
        library: All functions of the source, by name.
        variables: What the nodes are that are handles of variables.
        find_op_def: The OpDef of a stock op.

    Returns:
        The functions that the nodes now call, by name. Equal bodies have equal names.
    """
    functions: dict[str, Any] = {}
    for name in sorted(nodes):
        if nodes[name].op in CONTROL_FLOW_OPS:
            functions.update(_ControlFlow(nodes, name, find_op_def).flatten(library, variables))
    return functions


class _ControlFlow:
    """One node of functional control flow, on its way to the plain form."""

    def __init__(self, nodes: dict[str, Any], name: str, find_op_def: FindOpDef) -> None:
        self._nodes = nodes
        self._node = tf.compat.v1.NodeDef()
        self._node.CopyFrom(nodes[name])
        self._find_op_def = find_op_def
        kind = self._node.op.removeprefix("Stateless")
        self._is_loop = kind == "While"
        self._types, self._skipped = _TYPES[kind]

    def flatten(self, library: Mapping[str, Any], variables: Mapping[str, Variable]) -> dict[str, Any]:
        slots = list_function_slots(self._node)
        bodies = [inline_body(slot, library, self._find_op_def) for slot in slots]
        given = self._find_variables(variables)
        functions: dict[str, Any] = {}
        for body in bodies:
            inner = {body.arguments[index]: variable for index, variable in given.items()}
            functions.update(flatten_control_flow(body.nodes, library, inner, self._find_op_def))
        for index, variable in given.items():
            reads = [self._find_reads(body, index) for body in bodies]
            if all(found is not None for found in reads):
                self._pass_by_value(index, variable)
                for body, found in zip(bodies, reads, strict=True):
                    _read_argument(body, index, variable, found or [])
        for body in bodies:
            _tidy(body, self._find_op_def)
        self._mark_stateless(bodies)
        for slot, body in zip(slots, bodies, strict=True):
            function = encode_function(body, self._find_op_def)
            functions[function.signature.name] = function
            slot.Clear()
            slot.name = function.signature.name
        self._nodes[self._node.name] = self._node
        return functions

    def _find_variables(self, variables: Mapping[str, Variable]) -> dict[int, Variable]:
        """Which arguments are handles of known variables."""
        data = [tensor for tensor in self._node.input if not tensor.startswith("^")][self._skipped :]
        found = {index: variables.get(name_node(follow(self._nodes, tensor))) for index, tensor in enumerate(data)}
        types = self._node.attr[self._types].list.type
        resource = tf.resource.as_datatype_enum
        return {index: variable for index, variable in found.items() if variable and types[index] == resource}

    def _find_reads(self, body: Body, index: int) -> list[str] | None:
        """The nodes that read an argument; None if it is used in another way. A loop's body hands it on as it is."""
        argument = body.arguments[index]
        outputs = list(body.outputs)
        is_body = self._is_loop and len(outputs) == len(body.arguments)
        if is_body and name_node(follow(body.nodes, outputs[index])) == argument:
            outputs[index] = ""
        elif is_body:
            return None
        consumers = find_consumers(body.nodes, [output for output in outputs if output])
        return find_reads(body.nodes, argument, consumers)

    def _pass_by_value(self, index: int, variable: Variable) -> None:
        place = index + self._skipped
        control = [tensor for tensor in self._node.input if tensor.startswith("^")]
        read = tf.compat.v1.NodeDef(name=f"{self._node.name}/read_{index}", op="ReadVariableOp")
        read.input.extend([self._node.input[place], *control])
        read.attr["dtype"].type = tf.as_dtype(variable.dtype).as_datatype_enum
        self._nodes[read.name] = read
        self._node.input[place] = f"{read.name}:0"
        self._node.attr[self._types].list.type[index] = read.attr["dtype"].type
        shapes = self._node.attr["output_shapes"].list.shape
        if self._is_loop and index < len(shapes):
            shapes[index].CopyFrom(tf.TensorShape(variable.shape).as_proto())

    def _mark_stateless(self, bodies: Iterable[Body]) -> None:
        # Nested nodes have been marked themselves: theirs is the effect of their bodies.
        stateless = all(not has_effect(node, self._find_op_def) for body in bodies for node in body.nodes.values())
        kind = self._node.op.removeprefix("Stateless")
        self._node.op = f"Stateless{kind}" if stateless else kind


def _read_argument(body: Body, index: int, variable: Variable, reads: Iterable[str]) -> None:
    argument = body.arguments[index]
    replaced = replace_reads(body.nodes, reads, variable.dtype)
    body.nodes[argument] = make_placeholder(argument, variable.dtype, variable.shape)
    redirect_reads(body.nodes, replaced)
    body.outputs = tuple(replaced.get(output, output) for output in body.outputs)


def _tidy(body: Body, find_op_def: FindOpDef) -> None:
    roots = [*body.outputs, *body.arguments, body.effects]
    prune(body.nodes, roots)
    drop_idle_control_edges(body.nodes, find_op_def)
    prune(body.nodes, roots)
