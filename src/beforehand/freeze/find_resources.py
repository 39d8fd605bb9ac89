"""What a signature needs besides variables: tables with their initialisers, files, and constants too large for a graph."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from beforehand.errors import GraphError
from beforehand.freeze.drop_idle_nodes import has_effect
from beforehand.freeze.inline_functions import inline_functions
from beforehand.freeze.read_variables import follow
from beforehand.freeze.to_graph_def import to_graph_def
from beforehand.graph.edges import name_node
from beforehand.graph.nodes import FindOpDef, prune
from beforehand.records import Initializer, Resource, Weight

_INIT_SIGNATURE = "__saved_model_init_op"
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op", "table_initializer")
_ASSETS_COLLECTION = "saved_model_assets"
# Tables of `experimental_is_anonymous`, by the op of the same table with a name.
_NAMED = {
    "AnonymousHashTable": "HashTableV2",
    "AnonymousMutableDenseHashTable": "MutableDenseHashTableV2",
    "AnonymousMutableHashTable": "MutableHashTableV2",
    "AnonymousMutableHashTableOfTensors": "MutableHashTableOfTensorsV2",
}
# Constants of more bytes are kept with the weights: not in the graph, once for all signatures.
LARGE_CONSTANT_BYTES = 1 << 16


def is_resource(node: Any, find_op_def: FindOpDef) -> bool:
    """Whether a node makes something with a state that outlives a call: a table, named or anonymous, but no variable."""
    definition = find_op_def(node.op)
    if definition is None or node.op == "VarHandleOp" or not definition.is_stateful:
        return False
    makes = [output.type for output in definition.output_arg] == [tf.resource.as_datatype_enum]
    has_name = any(attribute.name == "shared_name" for attribute in definition.attr)
    return makes and (has_name or node.op in _NAMED)


def identify_resource(node: Any) -> str:
    """Equal for nodes, of whatever signature, that stand for one resource."""
    shared = node.attr["shared_name"].s.decode() if "shared_name" in node.attr else ""
    return f"{node.op}/{shared or node.name}"


def find_resources(nodes: Mapping[str, Any], find_op_def: FindOpDef) -> tuple[Resource, ...]:
    """The resources of a flat graph."""
    found = []
    for name in sorted(nodes):
        if is_resource(nodes[name], find_op_def):
            graph_def = _cut_ancestors(nodes, [name], {})
            for node in graph_def.node:  # an anonymous one would be another at each run of a session
                node.op = _NAMED.get(node.op, node.op)
            found.append(Resource(name, identify_resource(nodes[name]), graph_def))
    return tuple(found)


def list_assets(meta_graph: Any) -> dict[str, str]:
    """The files of a SavedModel, by the nodes that stand for their path: constants, or variables set by the init op."""
    files = {name_node(asset.tensor_info.name): asset.filename for asset in _list_asset_protos(meta_graph)}
    for node in meta_graph.graph_def.node:
        if node.op == "AssignVariableOp" and name_node(node.input[1]) in files:
            files[name_node(node.input[0])] = files[name_node(node.input[1])]
    return files


def _list_asset_protos(meta_graph: Any) -> list[Any]:
    """AssetFileDefs; TensorFlow 1 had them in a collection."""
    found = list(meta_graph.asset_file_def)
    if not found and _ASSETS_COLLECTION in meta_graph.collection_def:
        for packed in meta_graph.collection_def[_ASSETS_COLLECTION].any_list.value:
            found.append(tf.compat.v1.MetaGraphDef().asset_file_def.add())
            packed.Unpack(found[-1])
    return found


def take_out_constants(nodes: dict[str, Any]) -> dict[Weight, Any]:
    """Put placeholders in the place of large constants, in place; they become weights, with their TensorProtos."""
    taken: dict[Weight, Any] = {}
    for name in sorted(nodes):
        node = nodes[name]
        if node.op != "Const" or node.attr["value"].tensor.ByteSize() <= LARGE_CONSTANT_BYTES:
            continue
        tensor = node.attr["value"].tensor
        dtype, shape = tf.as_dtype(tensor.dtype), tuple(dim.size for dim in tensor.tensor_shape.dim)
        if dtype == tf.string:
            continue
        digest = hashlib.sha256(tensor.SerializeToString(deterministic=True)).hexdigest()
        weight = Weight(name, f"constant/{digest}", dtype.name, shape)
        taken[weight] = tensor
        placeholder = tf.compat.v1.NodeDef(name=name, op="Placeholder")
        placeholder.attr["dtype"].type = tensor.dtype
        placeholder.attr["shape"].shape.CopyFrom(tensor.tensor_shape)
        nodes[name] = placeholder
    return taken


def find_initializers(
    meta_graph: Any, saved_keys: Mapping[str, tuple[str, str]], find_op_def: FindOpDef
) -> dict[str, Initializer]:
    """Of each resource (by its identity), what fills it when a SavedModel is loaded.

    Args:
        meta_graph: The MetaGraphDef.
        saved_keys: Of tables whose content is in the checkpoint, by node, the keys of it (see `find_checkpoint_keys`).
        find_op_def: The OpDef of a stock op.
    """
    starts = _find_init_nodes(meta_graph)
    nodes, _ = inline_functions(meta_graph.graph_def, [f"^{name}" for name in starts], find_op_def)
    files = list_assets(meta_graph)
    for name, node in nodes.items():
        if node.op == "ReadVariableOp" and name_node(follow(nodes, node.input[0])) in files:
            files[name] = files[name_node(follow(nodes, node.input[0]))]
    found: dict[str, Initializer] = {}
    for name in sorted(nodes):
        if is_resource(nodes[name], find_op_def):
            found[identify_resource(nodes[name])] = _describe_initializer(nodes, name, files, find_op_def)
    for node in meta_graph.graph_def.node:
        if node.name in saved_keys:
            found[identify_resource(node)] = Initializer(
                node.name, tf.compat.v1.GraphDef(), (), (), saved_keys[node.name]
            )
    return found


def _find_init_nodes(meta_graph: Any) -> list[str]:
    """The ops that every loader runs once the variables are restored."""
    if _INIT_SIGNATURE in meta_graph.signature_def:
        return [name_node(info.name) for info in meta_graph.signature_def[_INIT_SIGNATURE].outputs.values()]
    nodes = {node.name for node in meta_graph.graph_def.node}
    for collection in _INIT_COLLECTIONS:
        if collection in meta_graph.collection_def:
            return [
                name for name in map(name_node, meta_graph.collection_def[collection].node_list.value) if name in nodes
            ]
    return []


def _describe_initializer(
    nodes: Mapping[str, Any], resource: str, files: Mapping[str, str], find_op_def: FindOpDef
) -> Initializer:
    targets = [
        name
        for name in sorted(nodes)
        if nodes[name].op != "Identity"
        and has_effect(nodes[name], find_op_def)
        and any(name_node(follow(nodes, t)) == resource for t in nodes[name].input if not t.startswith("^"))
    ]
    placeholders = {**dict.fromkeys(files, tf.string), resource: tf.resource}
    graph_def = _cut_ancestors(nodes, targets, placeholders)
    for node in graph_def.node:
        if node.op in ("VarHandleOp", "VariableV2", "Variable") or is_resource(node, find_op_def):
            raise GraphError(
                f"the table {resource} is initialised from {node.name}, a {node.op}",
                advice="initialise tables from constants or files, then export again",
            )
    assets = tuple((node.name, files[node.name]) for node in graph_def.node if node.name in files)
    return Initializer(resource, graph_def, tuple(targets), assets)


def _cut_ancestors(nodes: Mapping[str, Any], roots: Iterable[str], placeholders: Mapping[str, Any]) -> Any:
    """The nodes that `roots` need, as a graph of their own; control edges, and what lies behind `placeholders`, are cut."""
    kept: dict[str, Any] = {}
    for name, node in nodes.items():
        copy = tf.compat.v1.NodeDef()
        if name in placeholders:
            copy.name, copy.op = name, "Placeholder"
            copy.attr["dtype"].type = placeholders[name].as_datatype_enum
        else:
            copy.CopyFrom(node)
            del copy.input[:]
            copy.input.extend(tensor for tensor in node.input if not tensor.startswith("^"))
        kept[name] = copy
    prune(kept, roots)
    return to_graph_def(kept, {}, tf.compat.v1.GraphDef().versions)
