"""A function of its own for each loop and branch: tf2onnx changes a body in place, for the node that calls it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from beforehand.graph.control_flow import list_references


def make_functions_unique(graph_def: Any) -> None:
    """Copy the functions of a graph's library, in place, so that each is called once; those that nobody calls go."""
    library = {function.signature.name: function for function in graph_def.library.function}
    copies: list[Any] = []
    _copy_called(graph_def.node, library, copies)
    del graph_def.library.function[:]
    graph_def.library.function.extend(copies)


def find_owners(graph_def: Any) -> dict[str, str]:
    """Of each node in a body, the node of the graph itself whose body it is, however deep."""
    library = {function.signature.name: function for function in graph_def.library.function}
    owners: dict[str, str] = {}
    for node in graph_def.node:
        waiting = [reference.name for reference in list_references(node)]
        while waiting:
            function = library[waiting.pop()]
            for inner in function.node_def:
                # tf2onnx puts the function's name before the names of a branch's nodes.
                owners[inner.name] = owners[f"{function.signature.name}_{inner.name}"] = node.name
                waiting.extend(reference.name for reference in list_references(inner))
    return owners


def _copy_called(nodes: Iterable[Any], library: dict[str, Any], copies: list[Any]) -> None:
    for node in nodes:
        for reference in list_references(node):
            copy = tf.compat.v1.GraphDef().library.function.add()
            copy.CopyFrom(library[reference.name])
            copy.signature.name = f"{reference.name}_{len(copies)}"
            reference.name = copy.signature.name
            copies.append(copy)
            _copy_called(copy.node_def, library, copies)
