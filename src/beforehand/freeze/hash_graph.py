"""Identity of a flat graph: signatures that compute the same share their segments, and so their engines."""

from __future__ import annotations

import hashlib
from typing import Any

import tensorflow as tf

from beforehand.records import FlatGraph


def hash_graph(graph: FlatGraph) -> str:
    """SHA-256 over what a graph computes, by structure; names of nodes do not count.

    Keras exports each model as two signatures, `serve` and `serving_default`, which differ in names alone. Method: a
    Merkle hash, of each node from its op, attributes and the hashes of its inputs.
    """
    nodes: dict[str, str] = {}
    for tensor, spec in zip(graph.input_tensors, graph.signature.inputs, strict=True):
        nodes[tensor.partition(":")[0]] = _hash("input", spec.name, spec.dtype, spec.shape)
    for weight in (*graph.weights, *graph.variables):
        nodes[weight.node] = _hash("weight", weight.checkpoint_key, weight.dtype, weight.shape)
    for node in graph.graph_def.node:
        if node.name not in nodes:
            nodes[node.name] = _hash(_write_node(node), *(_find_input(tensor, nodes) for tensor in node.input))
    outputs = zip(graph.output_tensors, graph.signature.outputs, strict=True)
    library = [function.SerializeToString(deterministic=True) for function in graph.graph_def.library.function]
    return _hash(*library, *((spec.name, _find_input(tensor, nodes)) for tensor, spec in outputs))


def _hash(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _find_input(tensor: str, nodes: dict[str, str]) -> tuple[str, str]:
    """What a tensor is and which output of it; the back edge of a TF1 loop is known by its name alone."""
    name, _, index = tensor.lstrip("^").partition(":")
    return nodes.get(name, name), "^" if tensor.startswith("^") else index or "0"


def _write_node(node: Any) -> bytes:
    copy = tf.compat.v1.NodeDef(op=node.op)
    for key, value in node.attr.items():
        if not key.startswith("_"):
            copy.attr[key].CopyFrom(value)
    return bytes(copy.SerializeToString(deterministic=True))
