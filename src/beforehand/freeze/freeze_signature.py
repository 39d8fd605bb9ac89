"""A signature to a flat graph: calls inlined, variables that are only read as placeholders with handles."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from beforehand.errors import GraphError
from beforehand.freeze.inline_functions import FindOpDef, inline_functions, name_node
from beforehand.freeze.to_graph_def import sort_nodes, to_graph_def
from beforehand.records import FlatGraph, Signature, Weight

_VARIABLE_OPS = frozenset({"VarHandleOp", "VariableV2", "Variable"})
_READ_OPS = frozenset({"ReadVariableOp", "ResourceGather"})
_PASS_OPS = frozenset({"Identity"})
_FRAME_OPS = frozenset({"Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch"})


def freeze_signature(
    meta_graph: Any,
    signature: Signature,
    input_tensors: tuple[str, ...],
    output_tensors: tuple[str, ...],
    checkpoint_keys: Mapping[str, str],
    find_op_def: FindOpDef,
) -> FlatGraph:
    """One signature as a flat graph. No weight is read.

    Args:
        meta_graph: The MetaGraphDef; not changed.
        signature: What to freeze.
        input_tensors: Its inputs in the MetaGraph.
        output_tensors: Its outputs in the MetaGraph.
        checkpoint_keys: Of each variable's node, the key in the checkpoint (see `find_checkpoint_keys`).
        find_op_def: The OpDef of a stock op.

    Raises:
        GraphError: BH205.
    """
    nodes, moved = inline_functions(meta_graph.graph_def, [*output_tensors, *input_tensors], find_op_def)
    graph = _Graph(nodes, find_op_def)
    outputs = tuple(moved[tensor] for tensor in output_tensors)
    inputs = tuple(moved[tensor] for tensor in input_tensors)
    _cut_at_inputs(nodes, inputs)
    graph.prune([*outputs, *inputs])
    weights, outputs = graph.replace_variables(checkpoint_keys, outputs)
    graph.drop_idle_control_edges()
    graph.prune([*outputs, *inputs])
    used = tuple(weight for weight in weights.read if weight.node in nodes)
    return FlatGraph(
        signature, to_graph_def(nodes, meta_graph.graph_def), inputs, outputs, used,
        tuple(weight for weight in weights.assigned if weight.node in nodes),
    )  # fmt: skip


def find_checkpoint_keys(meta_graph: Any, find_op_def: FindOpDef) -> dict[str, str]:
    """Of each variable's node, its key in the checkpoint, read off the graph's own restore op.

    The restore op is what every loader of TensorFlow runs, so this holds for TF1 and TF2 SavedModels alike.
    """
    restore = meta_graph.saver_def.restore_op_name
    if not restore:
        return {}
    # In a TF2 SavedModel it names a tensor of the call of a traced function, in a TF1 one an op.
    output = restore if ":" in restore else f"^{restore}"
    nodes, moved = inline_functions(meta_graph.graph_def, [output], find_op_def)
    del moved
    keys: dict[str, str] = {}
    for node in nodes.values():
        if node.op in ("AssignVariableOp", "Assign"):
            variable = _follow(nodes, node.input[0])
            source = _follow(nodes, node.input[1])
            name, _, index = source.partition(":")
            if nodes[name].op == "RestoreV2":
                restored = tf.make_ndarray(nodes[name_node(nodes[name].input[1])].attr["value"].tensor)
                keys[name_node(variable)] = restored.reshape(-1)[int(index)].decode()
    return keys


def _follow(nodes: Mapping[str, Any], tensor: str) -> str:
    """Through identities, to where a tensor comes from."""
    while nodes[name_node(tensor)].op in _PASS_OPS:
        tensor = nodes[name_node(tensor)].input[0]
    return tensor


def _cut_at_inputs(nodes: dict[str, Any], inputs: Iterable[str]) -> None:
    """Make every input a placeholder of its own, whatever made it before (TF1 signatures may name any tensor)."""
    for tensor in inputs:
        node = nodes[name_node(tensor)]
        if node.op != "Placeholder":
            raise GraphError(
                f"the signature's input {tensor} is a {node.op}, not a placeholder",
                advice="export the model with inputs that are placeholders",
            )


@dataclasses.dataclass
class _Weights:
    read: list[Weight] = dataclasses.field(default_factory=list)
    assigned: list[Weight] = dataclasses.field(default_factory=list)


class _Graph:
    """Nodes by name, and the passes over them."""

    def __init__(self, nodes: dict[str, Any], find_op_def: FindOpDef) -> None:
        self.nodes = nodes
        self._find_op_def = find_op_def

    def prune(self, roots: Iterable[str]) -> None:
        """Keep the ancestors of `roots`."""
        waiting, kept = [name_node(root) for root in roots], set()
        while waiting:
            name = waiting.pop()
            if name not in kept:
                kept.add(name)
                waiting.extend(name_node(tensor) for tensor in self.nodes[name].input)
        for name in [name for name in self.nodes if name not in kept]:
            del self.nodes[name]

    def replace_variables(self, keys: Mapping[str, str], outputs: tuple[str, ...]) -> tuple[_Weights, tuple[str, ...]]:
        """Variables that are only read become placeholders; reads of them disappear."""
        consumers = self._find_consumers(outputs)
        weights, replaced = _Weights(), {}
        for name in sorted(name for name, node in self.nodes.items() if node.op in _VARIABLE_OPS):
            node = self.nodes[name]
            weight = _describe_weight(node, keys)
            reads = self._find_reads(name, consumers)
            if reads is None:
                weights.assigned.append(weight)
                continue
            weights.read.append(weight)
            replaced.update(self._replace_reads(name, reads))
            self.nodes[name] = _make_placeholder(weight)
        self._redirect(replaced)
        return weights, tuple(replaced.get(tensor, tensor) for tensor in outputs)

    def _find_consumers(self, outputs: Iterable[str]) -> dict[str, list[str]]:
        consumers: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for tensor in node.input:
                if not tensor.startswith("^"):
                    consumers.setdefault(name_node(tensor), []).append(node.name)
        for tensor in outputs:
            consumers.setdefault(name_node(tensor), []).append("")
        return consumers

    def _find_reads(self, variable: str, consumers: Mapping[str, list[str]]) -> list[str] | None:
        """The nodes that read a variable; None if it is also used in another way."""
        if self.nodes[variable].op != "VarHandleOp":
            assigned = any(self.nodes[c].op.startswith("Assign") for c in consumers.get(variable, []) if c)
            return None if assigned else [variable]
        reads: list[str] = []
        waiting = [variable]
        while waiting:
            for consumer in consumers.get(waiting.pop(), []):
                op = self.nodes[consumer].op if consumer else ""
                if op in _PASS_OPS:
                    waiting.append(consumer)
                elif op in _READ_OPS:
                    reads.append(consumer)
                else:
                    return None
        return reads

    def _replace_reads(self, variable: str, reads: Iterable[str]) -> dict[str, str]:
        replaced = {}
        for name in reads:
            node = self.nodes[name]
            if node.op == "ReadVariableOp":
                replaced[f"{name}:0"] = f"{variable}:0"
            elif node.op == "ResourceGather":
                self._make_gather(node, variable)
        return replaced

    def _make_gather(self, node: Any, variable: str) -> None:
        """A gather from a variable is a gather from its value."""
        batch_dims, dtype, indices = node.attr["batch_dims"].i, node.attr["dtype"].type, node.attr["Tindices"].type
        axis = f"{node.name}/axis"
        self.nodes[axis] = _make_const(axis, batch_dims)
        gather = tf.compat.v1.NodeDef(
            name=node.name, op="GatherV2", input=[f"{variable}:0", node.input[1], f"{axis}:0"]
        )
        gather.input.extend(tensor for tensor in node.input if tensor.startswith("^"))
        gather.attr["Tparams"].type, gather.attr["Tindices"].type = dtype, indices
        gather.attr["Taxis"].type, gather.attr["batch_dims"].i = tf.int32.as_datatype_enum, batch_dims
        self.nodes[node.name] = gather

    def _redirect(self, replaced: Mapping[str, str]) -> None:
        """Read the weights themselves; who waited for a read now waits for what the read waited for."""
        reads = {tensor.partition(":")[0] for tensor in replaced}
        waits = {f"^{name}": [t for t in self.nodes[name].input if t.startswith("^")] for name in reads}
        for node in self.nodes.values():
            data = [replaced.get(tensor, tensor) for tensor in node.input if not tensor.startswith("^")]
            control = [
                after for tensor in node.input if tensor.startswith("^") for after in waits.get(tensor, [tensor])
            ]
            inputs = [*data, *dict.fromkeys(control)]
            if inputs != list(node.input):
                del node.input[:]
                node.input.extend(inputs)

    def drop_idle_control_edges(self) -> None:
        """Remove control edges from nodes that neither have an effect nor wait for one."""
        effect: dict[str, bool] = {}
        for name in sort_nodes(self.nodes):
            node = self.nodes[name]
            control = [tensor for tensor in node.input if tensor.startswith("^") and effect[tensor[1:]]]
            data = [tensor for tensor in node.input if not tensor.startswith("^")]
            del node.input[:]
            node.input.extend([*data, *control])
            # The back edge of a TF1 loop comes from a node that is later in the order.
            effect[name] = self._has_effect(node) or any(effect.get(name_node(tensor), False) for tensor in node.input)

    def _has_effect(self, node: Any) -> bool:
        if node.op in ("Placeholder", *_READ_OPS, *_VARIABLE_OPS):
            return False
        # TF1 control flow: a constant belongs to a loop by nothing but its control edge.
        definition = self._find_op_def(node.op)
        return node.op in _FRAME_OPS or definition is None or definition.is_stateful


def _describe_weight(node: Any, keys: Mapping[str, str]) -> Weight:
    shape = node.attr["shape"].shape
    if shape.unknown_rank or any(dim.size < 0 for dim in shape.dim):
        raise GraphError(f"the variable {node.name} has no fixed shape", advice="give it one, then export again")
    dtype = tf.as_dtype(node.attr["dtype"].type).name
    return Weight(node.name, keys.get(node.name, ""), dtype, tuple(dim.size for dim in shape.dim))


def _make_placeholder(weight: Weight) -> Any:
    node = tf.compat.v1.NodeDef(name=weight.node, op="Placeholder")
    node.attr["dtype"].type = tf.as_dtype(weight.dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(weight.shape).as_proto())
    return node


def _make_const(name: str, value: int) -> Any:
    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tf.int32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.int32))
    return node
