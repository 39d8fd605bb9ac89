"""The bodies of a loop or branch as flat graphs, so that they can be divided like any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from beforehand.graph.control_flow import CONTROL_FLOW_OPS, list_function_slots
from beforehand.graph.edges import name_node
from beforehand.graph.function import Body, decode_function
from beforehand.graph.nodes import FindOpDef
from beforehand.records import FlatGraph, Signature, TensorSpec, Weight


@dataclasses.dataclass(frozen=True)
class OpenBodies:
    """The bodies of one node, and what becomes of its arguments.

    Attributes:
        graphs: In the order of the op's functions. Their inputs are the captured and carried arguments, in that order.
        carried: Indices of the arguments that change from one iteration to the next; a body gives new values of these.
        captured: Indices of the arguments that stay. Weights are neither: bodies have them as their own.
    """

    graphs: tuple[FlatGraph, ...]
    carried: tuple[int, ...]
    captured: tuple[int, ...]


def open_bodies(graph: FlatGraph, name: str, find_op_def: FindOpDef) -> OpenBodies | None:
    """The bodies of the node `name` of a graph; None where it is no loop or branch, or not one that can be made anew."""
    node = next((node for node in graph.graph_def.node if node.name == name), None)
    if node is None or node.op not in CONTROL_FLOW_OPS:
        return None
    library = {function.signature.name: function for function in graph.graph_def.library.function}
    bodies = [decode_function(library[slot.name], find_op_def) for slot in list_function_slots(node)]
    is_loop = node.op.endswith("While")
    data = [tensor for tensor in node.input if not tensor.startswith("^")][0 if is_loop else 1 :]
    kept = _list_kept(bodies[1]) if is_loop else set(range(len(data)))
    given = {weight.node: weight for weight in graph.weights}
    weights = {i: given[name_node(t)] for i, t in enumerate(data) if i in kept and name_node(t) in given}
    handles = {index for index in range(len(data)) if _is_handle(bodies[0], index)}
    captured = tuple(index for index in range(len(data)) if (not is_loop or index in handles) and index not in weights)
    carried = tuple(index for index in range(len(data)) if index not in captured and index not in weights)
    if is_loop and (handles - kept or _reads_any(graph, name, {*captured, *weights})):
        return None
    taken = (*captured, *carried)
    graphs = tuple(
        _make_graph(graph, body, taken, weights, carried if is_loop and place == 1 else None)
        for place, body in enumerate(bodies)
    )
    return OpenBodies(graphs, carried, captured)


def _list_kept(body: Body) -> set[int]:
    """The arguments that a loop's body hands on as they are."""
    return {
        index
        for index, (argument, output) in enumerate(zip(body.arguments, body.outputs, strict=True))
        if name_node(output) == argument
    }


def _is_handle(body: Body, index: int) -> bool:
    return bool(body.nodes[body.arguments[index]].attr["dtype"].type == tf.resource.as_datatype_enum)


def _reads_any(graph: FlatGraph, name: str, outputs: set[int]) -> bool:
    """Whether anybody reads one of these outputs of a node."""
    tensors = {f"{name}:{index}" for index in outputs}
    tensors.update({name} if 0 in outputs else ())
    read = {tensor for node in graph.graph_def.node for tensor in node.input}
    return bool(tensors & (read | set(graph.output_tensors)))


def _make_graph(
    graph: FlatGraph, body: Body, taken: tuple[int, ...], weights: Mapping[int, Weight], results: tuple[int, ...] | None
) -> FlatGraph:
    """A body as a graph; `results` are the outputs that it has to give, None: all."""
    graph_def = tf.compat.v1.GraphDef()
    graph_def.versions.CopyFrom(graph.graph_def.versions)
    graph_def.library.CopyFrom(graph.graph_def.library)
    own = []
    for index, weight in weights.items():
        own.append(dataclasses.replace(weight, node=body.arguments[index]))
        shape = tf.TensorShape(weight.shape).as_proto()
        body.nodes[body.arguments[index]].attr["shape"].shape.CopyFrom(shape)
    arguments = [body.arguments[index] for index in taken]
    placeholders = {body.arguments[index] for index in (*taken, *weights)}
    graph_def.node.extend(node for name, node in body.nodes.items() if name in placeholders)
    graph_def.node.extend(node for name, node in body.nodes.items() if name not in body.arguments)
    outputs = body.outputs if results is None else tuple(body.outputs[index] for index in results)
    signature = Signature(
        graph.signature.key,
        tuple(_describe_argument(body.nodes[name]) for name in arguments),
        tuple(TensorSpec(output, "", None) for output in outputs),
    )
    return FlatGraph(signature, graph_def, tuple(f"{name}:0" for name in arguments), outputs, tuple(own))


def _describe_argument(node: Any) -> TensorSpec:
    shape = node.attr["shape"].shape
    dims = None if shape.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
    return TensorSpec(node.name, tf.as_dtype(node.attr["dtype"].type).name, dims)
