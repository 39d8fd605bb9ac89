"""Nodes by name to a GraphDef, in an order that depends on nothing but the graph, with the functions that it needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from beforehand.graph.control_flow import list_references
from beforehand.graph.nodes import sort_nodes


def to_graph_def(nodes: Mapping[str, Any], library: Mapping[str, Any], versions: Any) -> Any:
    """The nodes in topological order, with the functions of `library` that control flow among them needs."""
    graph_def = tf.compat.v1.GraphDef()
    graph_def.versions.CopyFrom(versions)
    graph_def.node.extend(nodes[name] for name in sort_nodes(nodes))
    waiting, kept = _list_functions(graph_def.node), set()
    while waiting:
        name = waiting.pop()
        if name in library and name not in kept:
            kept.add(name)
            waiting.extend(_list_functions(library[name].node_def))
    _add_functions(graph_def, [library[name] for name in sorted(kept)])
    return graph_def


def _add_functions(graph_def: Any, functions: list[Any]) -> None:
    """Add functions under names that nobody else has: a process has one table of them, and refuses to redefine."""
    digest = hashlib.sha256()
    for function in functions:
        digest.update(function.SerializeToString(deterministic=True))
    names = {function.signature.name: f"{function.signature.name}_{digest.hexdigest()[:12]}" for function in functions}
    for function in functions:
        copy = graph_def.library.function.add()
        copy.CopyFrom(function)
        copy.signature.name = names[function.signature.name]
        _rename_functions(copy.node_def, names)
    _rename_functions(graph_def.node, names)


def _rename_functions(nodes: Iterable[Any], names: Mapping[str, str]) -> None:
    for node in nodes:
        node.op = names.get(node.op, node.op)
        for reference in list_references(node):
            reference.name = names.get(reference.name, reference.name)


def _list_functions(nodes: Iterable[Any]) -> list[str]:
    """Names that may be those of functions: a call has its function's name as its op."""
    return [name for node in nodes for name in (node.op, *(reference.name for reference in list_references(node)))]
