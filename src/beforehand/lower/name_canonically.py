"""Names and order of an ONNX graph from its structure alone: tf2onnx numbers values by a counter of its process."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from beforehand.lower.capture_invariants import list_subgraphs

_NUMBERED = re.compile(r"__\d+$")


def name_canonically(graph: Any) -> None:
    """Order nodes and name values, in place; inputs and outputs of `graph` itself keep their names.

    Nodes and initializers that no output needs go. Names of nodes stay, without numbers of tf2onnx: messages show them.
    """
    names = {value.name: value.name for value in (*graph.input, *graph.output)}
    _sort_graph(graph)
    _Namer().name_graph(graph, names)


def _sort_graph(graph: Any) -> None:
    """Order nodes, in place, those of bodies first: what a body reads, and in which order, orders the graph around it."""
    for node in graph.node:
        for body in list_subgraphs(node):
            _sort_graph(body)
    makers = {output: node for node in graph.node for output in node.output}
    order = sort_nodes([value.name for value in graph.output], makers)
    del graph.node[:]
    graph.node.extend(order)


def forget_names(graph: Any) -> None:
    """Clear, in place, the names that stand in messages alone: of nodes and bodies, which hold names of TensorFlow functions."""
    graph.name = graph.doc_string = ""
    for node in graph.node:
        node.name = node.doc_string = ""
        for body in list_subgraphs(node):
            forget_names(body)


class _Namer:
    """Numbers of values, nodes and dimensions, over a graph and the bodies in it."""

    def __init__(self) -> None:
        self._count = 0
        self._nodes: Counter[str] = Counter()
        self._dims: dict[str, str] = {}

    def name_graph(self, graph: Any, scope: dict[str, str]) -> None:
        """Name what `graph` has; `scope` are the names that hold already, and gets the new ones."""
        makers = {output: node for node in graph.node for output in node.output}
        initializers = {tensor.name: tensor for tensor in graph.initializer}
        named: dict[str, None] = {}
        for node in graph.node:
            for value in (*node.input, *list_captures(node), *node.output):
                if value in makers or value in initializers:
                    named[value] = None
        named.update((value.name, None) for value in graph.output if value.name in initializers)
        for value in named:
            if value not in scope:
                scope[value] = self._make_name()
        for node in graph.node:
            self._name_node(node, scope)
        del graph.value_info[:]
        self._name_dimensions(graph)
        used = [initializers[value] for value in named if value in initializers]
        for tensor in used:
            tensor.name = scope[tensor.name]
        del graph.initializer[:]
        graph.initializer.extend(used)

    def _name_node(self, node: Any, scope: Mapping[str, str]) -> None:
        base = _NUMBERED.sub("", node.name)
        self._nodes[base] += 1
        node.name = base if self._nodes[base] == 1 else f"{base}__{self._nodes[base]}"
        _rename(node.input, scope)
        _rename(node.output, scope)
        for body in list_subgraphs(node):
            self._name_body(body, scope)

    def _name_body(self, body: Any, outer: Mapping[str, str]) -> None:
        own = {tensor.name for tensor in body.initializer} | {output for n in body.node for output in n.output}
        scope = {value: name for value, name in outer.items() if value not in own}
        for value in body.input:
            scope[value.name] = self._make_name()
        self.name_graph(body, scope)
        for value in (*body.input, *body.output):
            value.name = scope.get(value.name, value.name)

    def _make_name(self) -> str:
        self._count += 1
        return f"v{self._count - 1}"

    def _name_dimensions(self, graph: Any) -> None:
        for value in (*graph.input, *graph.output):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param:
                    dim.dim_param = self._dims.setdefault(dim.dim_param, f"d{len(self._dims)}")


def sort_nodes(outputs: list[str], makers: Mapping[str, Any]) -> list[Any]:
    """The nodes that `outputs` need, in topological order, by structure alone."""
    order: list[Any] = []
    done: set[int] = set()
    stack = [(makers[name], False) for name in reversed(outputs) if name in makers]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif id(node) not in done:
            done.add(id(node))
            stack.append((node, True))
            inputs = [*node.input, *list_captures(node)]
            stack.extend((makers[name], False) for name in reversed(inputs) if name in makers)
    return order


def list_captures(node: Any) -> list[str]:
    """Values that the bodies of a control-flow node name: among them, those of the graph around it that they read."""
    return [
        value
        for graph in list_subgraphs(node)
        for inner in graph.node
        for value in (*inner.input, *list_captures(inner))
    ] + [value.name for graph in list_subgraphs(node) for value in graph.output]


def _rename(values: Any, names: Mapping[str, str]) -> None:
    renamed = [names.get(value, value) for value in values]
    del values[:]
    values.extend(renamed)
