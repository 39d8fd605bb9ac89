"""A signature to a flat graph: calls inlined, variables that are only read as placeholders with handles."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from beforehand.errors import GraphError
from beforehand.freeze.drop_idle_nodes import VARIABLE_OPS, drop_idle_control_edges
from beforehand.freeze.find_resources import find_resources, list_assets, take_out_constants
from beforehand.freeze.flatten_control_flow import Variable, flatten_control_flow
from beforehand.freeze.inline_functions import inline_functions, list_functions
from beforehand.freeze.read_variables import (
    find_consumers,
    find_reads,
    follow,
    redirect_reads,
    replace_reads,
)
from beforehand.freeze.to_graph_def import to_graph_def
from beforehand.graph.edges import name_node
from beforehand.graph.nodes import FindOpDef, list_outputs, make_placeholder, prune
from beforehand.records import PART, FlatGraph, Signature, Weight

_NONE: Mapping[str, str] = {}


def freeze_signature(
    meta_graph: Any,
    signature: Signature,
    input_tensors: tuple[str, ...],
    output_tensors: tuple[str, ...],
    checkpoint_keys: CheckpointKeys,
    find_op_def: FindOpDef,
) -> FlatGraph:
    """One signature as a flat graph. No weight is read.

    Args:
        meta_graph: The MetaGraphDef; not changed.
        signature: What to freeze.
        input_tensors: Its inputs in the MetaGraph.
        output_tensors: Its outputs in the MetaGraph.
        checkpoint_keys: See `find_checkpoint_keys`.
        find_op_def: The OpDef of a stock op.

    Raises:
        GraphError: BH205.
    """
    nodes, moved = inline_functions(meta_graph.graph_def, [*output_tensors, *input_tensors], find_op_def)
    outputs = tuple(moved[tensor] for tensor in output_tensors)
    inputs = tuple(moved[tensor] for tensor in input_tensors)
    inputs, outputs = _cut_at_inputs(nodes, inputs, outputs, signature, find_op_def)
    prune(nodes, [*outputs, *inputs])
    library = list_functions(meta_graph.graph_def)
    library.update(flatten_control_flow(nodes, library, _list_variables(nodes), find_op_def))
    weights, outputs = _replace_variables(nodes, checkpoint_keys.variables, outputs)
    drop_idle_control_edges(nodes, find_op_def)
    prune(nodes, [*outputs, *inputs])
    constants = take_out_constants(nodes)
    assets = list_assets(meta_graph)
    return FlatGraph(
        signature,
        to_graph_def(nodes, library, meta_graph.graph_def.versions),
        inputs,
        outputs,
        tuple(weight for weight in (*weights.read, *constants) if weight.node in nodes and weight.node not in assets),
        tuple(weight for weight in weights.assigned if weight.node in nodes),
        find_resources(nodes, find_op_def),
        tuple((name, assets[name]) for name in sorted(nodes) if name in assets),
        tuple((weight.checkpoint_key, value) for weight, value in constants.items()),
    )


@dataclasses.dataclass(frozen=True)
class CheckpointKeys:
    """Where the checkpoint has what: of each variable's node its key, of each table's node those of keys and values."""

    variables: Mapping[str, str]
    tables: Mapping[str, tuple[str, str]]


def find_checkpoint_keys(
    meta_graph: Any, find_op_def: FindOpDef, object_keys: Mapping[str, str] = _NONE
) -> CheckpointKeys:
    """The keys in the checkpoint, read off the graph's own restore op, which TF1 and TF2 SavedModels have alike.

    Args:
        meta_graph: The MetaGraphDef.
        find_op_def: The OpDef of a stock op.
        object_keys: The keys of variables by their nodes, so far as the objects of the SavedModel tell them.
    """
    restore = meta_graph.saver_def.restore_op_name
    if not restore:
        return CheckpointKeys(object_keys, {})
    # In a TF2 SavedModel it names a tensor of the call of a traced function, in a TF1 one an op.
    output = restore if ":" in restore else f"^{restore}"
    nodes, _ = inline_functions(meta_graph.graph_def, [output], find_op_def)
    variables = dict(object_keys)
    tables: dict[str, tuple[str, str]] = {}
    for node in nodes.values():
        if node.op in ("AssignVariableOp", "Assign"):
            key = _find_restored(nodes, node.input[1])
            if key:
                variables[name_node(follow(nodes, node.input[0]))] = key
        elif node.op == "LookupTableImportV2":
            keys = [_find_restored(nodes, tensor) for tensor in node.input[1:3]]
            if all(keys):
                tables[name_node(follow(nodes, node.input[0]))] = (keys[0], keys[1])
    return CheckpointKeys(variables, tables)


def _find_restored(nodes: Mapping[str, Any], tensor: str) -> str:
    """The checkpoint's key of a tensor, empty if it does not come from the checkpoint.

    A variable that was partitioned has one key for all of its parts; which one this is follows after `PART`.
    """
    name, _, index = follow(nodes, tensor).partition(":")
    if nodes[name].op != "RestoreV2":
        return ""
    keys, parts = (
        tf.make_ndarray(nodes[name_node(tensor)].attr["value"].tensor).reshape(-1)[int(index)].decode()
        for tensor in nodes[name].input[1:3]
    )
    return f"{keys}{PART}{parts}" if parts else str(keys)


def _cut_at_inputs(
    nodes: dict[str, Any], inputs: Iterable[str], outputs: Iterable[str], signature: Signature, find_op_def: FindOpDef
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Make every input a placeholder of its own, whatever made it before (TF1 signatures may name any tensor).

    Returns:
        The inputs and the outputs by their tensors now.
    """
    moved: dict[str, str] = {}
    for tensor, spec in zip(inputs, signature.inputs, strict=True):
        node = nodes[name_node(tensor)]
        if node.op == "Placeholder":
            continue
        name = node.name
        if len(list_outputs(node, find_op_def)) != 1:
            name = f"{name}/{spec.name}"
            moved[tensor] = f"{name}:0"
        nodes[name] = make_placeholder(name, spec.dtype, spec.shape)
    for node in nodes.values():
        if any(tensor in moved for tensor in node.input):
            tensors = [moved.get(tensor, tensor) for tensor in node.input]
            del node.input[:]
            node.input.extend(tensors)
    return tuple(moved.get(tensor, tensor) for tensor in inputs), tuple(moved.get(tensor, tensor) for tensor in outputs)


def _list_variables(nodes: Mapping[str, Any]) -> dict[str, Variable]:
    """The variables of fixed shape, by the node that is their handle."""
    found = {}
    for name, node in nodes.items():
        shape = node.attr["shape"].shape if node.op == "VarHandleOp" else None
        if shape is not None and not shape.unknown_rank and all(dim.size >= 0 for dim in shape.dim):
            dtype = tf.as_dtype(node.attr["dtype"].type).name
            found[name] = Variable(dtype, tuple(dim.size for dim in shape.dim))
    return found


@dataclasses.dataclass
class _Weights:
    read: list[Weight] = dataclasses.field(default_factory=list)
    assigned: list[Weight] = dataclasses.field(default_factory=list)


def _replace_variables(
    nodes: dict[str, Any], keys: Mapping[str, str], outputs: tuple[str, ...]
) -> tuple[_Weights, tuple[str, ...]]:
    """Variables that are only read become placeholders; reads of them disappear."""
    consumers = find_consumers(nodes, outputs)
    weights, replaced = _Weights(), {}
    for name in sorted(name for name, node in nodes.items() if node.op in VARIABLE_OPS):
        weight = _describe_weight(nodes[name], keys)
        reads = _find_reads(nodes, name, consumers)
        if reads is None:
            weights.assigned.append(weight)
            continue
        weights.read.append(weight)
        replaced.update(replace_reads(nodes, reads, weight.dtype))
        nodes[name] = make_placeholder(name, weight.dtype, weight.shape)
    redirect_reads(nodes, replaced)
    return weights, tuple(replaced.get(tensor, tensor) for tensor in outputs)


def _find_reads(nodes: Mapping[str, Any], variable: str, consumers: Mapping[str, list[str]]) -> list[str] | None:
    if nodes[variable].op != "VarHandleOp":  # a variable of TF1 is its own value
        assigned = any(nodes[c].op.startswith("Assign") for c in consumers.get(variable, []) if c)
        return None if assigned else []
    return find_reads(nodes, variable, consumers)


def _describe_weight(node: Any, keys: Mapping[str, str]) -> Weight:
    shape = node.attr["shape"].shape
    if shape.unknown_rank or any(dim.size < 0 for dim in shape.dim):
        raise GraphError(f"the variable {node.name} has no fixed shape", advice="give it one, then export again")
    dtype = tf.as_dtype(node.attr["dtype"].type).name
    return Weight(node.name, keys.get(node.name, ""), dtype, tuple(dim.size for dim in shape.dim))
