"""Which nodes of a flat graph may enter an engine; of the others, why not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from beforehand.graph.control_flow import list_references
from beforehand.records import FlatGraph, LeftOut, Partition, TensorSpec
from beforehand.segment import reasons
from beforehand.segment.find_regions import find_regions

# Control flow whose bodies have an effect stays native; the stateless forms go where their bodies can go.
_EFFECTFUL = frozenset({"Case", "If", "PartitionedCall", "StatefulPartitionedCall", "While"})
_PURE = frozenset({"StatelessCase", "StatelessIf", "StatelessWhile"})
# Within an engine a list of tensors is a value like any other; it cannot enter or leave one.
_LISTS = frozenset(
    (
        *("TensorListFromTensor", "TensorListGetItem", "TensorListLength", "TensorListReserve", "TensorListResize"),
        *("TensorListSetItem", "TensorListStack"),
        *_PURE,
    )
)


@dataclasses.dataclass(frozen=True)
class Support:
    """What the lowering and the backend can take, and what the user excludes.

    Attributes:
        ops: TensorFlow ops that can be lowered.
        dtypes: Dtypes of tensors that the backend takes.
        denied_ops: Op types excluded by the user.
        denied_nodes: Nodes excluded by the user.
        refused: Nodes that the lowering or the backend refused when they were tried, with the reason given.
    """

    ops: frozenset[str]
    dtypes: frozenset[str]
    denied_ops: frozenset[str] = frozenset()
    denied_nodes: frozenset[str] = frozenset()
    refused: tuple[tuple[str, str], ...] = ()


def find_left_out(
    graph: FlatGraph, tensors: Mapping[str, TensorSpec], support: Support, find_op_def: Callable[[str], Any]
) -> dict[str, LeftOut]:
    """Every node that cannot enter an engine. Constants and placeholders are not nodes in this sense."""
    refused = dict(support.refused)
    regions = find_regions({node.name: node for node in graph.graph_def.node})
    bodies = _Bodies(graph, support, find_op_def)
    # A tensor that nobody reads is in nobody's way: FusedBatchNormV3 has one of unknown rank.
    read = {tensor if ":" in tensor else f"{tensor}:0" for node in graph.graph_def.node for tensor in node.input}
    read.update(graph.output_tensors)
    tensors = {name: spec if name in read else dataclasses.replace(spec, shape=()) for name, spec in tensors.items()}
    left_out = {}
    for node in graph.graph_def.node:
        if node.op in ("Placeholder", "Const"):
            continue
        found = _find_reason(node, tensors, support, refused, find_op_def)
        if node.name in regions and (found is None or found[0] not in (reasons.EXCLUDED, reasons.REFUSED)):
            found = reasons.CONTROL_FLOW, "in a loop or branch of TensorFlow 1"
        if found is None and node.op in _PURE:
            found = bodies.find_reason(node)
        if found:
            left_out[node.name] = LeftOut(node.name, node.op, *found)
    return left_out


def _find_reason(
    node: Any,
    tensors: Mapping[str, TensorSpec],
    support: Support,
    refused: Mapping[str, str],
    find_op_def: Callable[[str], Any],
) -> tuple[str, str] | None:
    """The first reason that holds, with its detail; what the user asked for comes before what is impossible."""
    definition = find_op_def(node.op)
    bad = _find_bad_tensor(node, tensors, support)
    holds = (
        (node.op in support.denied_ops or node.name in support.denied_nodes, reasons.EXCLUDED, ""),
        (node.name in refused, reasons.REFUSED, refused.get(node.name, "")),
        (node.op in _EFFECTFUL, reasons.CONTROL_FLOW, "its body has an effect"),
        (bad is not None and bad[0] == reasons.RESOURCE_OR_STRING, *(bad or ("", ""))),
        (definition is None or definition.is_stateful, reasons.STATEFUL, ""),
        (node.op not in support.ops, reasons.OP_UNSUPPORTED, ""),
        (bad is not None, *(bad or ("", ""))),
    )
    return next(((reason, detail) for true, reason, detail in holds if true), None)


class _Bodies:
    """The bodies of a graph's loops and branches, and what in them cannot enter an engine."""

    def __init__(self, graph: FlatGraph, support: Support, find_op_def: Callable[[str], Any]) -> None:
        self._functions = {function.signature.name: function for function in graph.graph_def.library.function}
        self._support = support
        self._find_op_def = find_op_def

    def find_reason(self, node: Any) -> tuple[str, str] | None:
        """Why a loop or branch stays native: the first node of its bodies that must."""
        for reference in list_references(node):
            for inner in self._functions[reference.name].node_def:
                why = self._find_inner_reason(inner)
                if why:
                    return reasons.CONTROL_FLOW, f"its body holds {inner.name} ({inner.op}): {why}"
        return None

    def _find_inner_reason(self, node: Any) -> str:
        if node.op in ("Const", "NoOp"):
            return ""
        definition = self._find_op_def(node.op)
        if node.op in self._support.denied_ops or node.name in self._support.denied_nodes:
            return reasons.EXCLUDED
        if node.op in _EFFECTFUL or definition is None or definition.is_stateful:
            return reasons.STATEFUL
        if node.op not in self._support.ops:
            return reasons.OP_UNSUPPORTED
        types = [value.type for value in node.attr.values() if value.WhichOneof("value") == "type"]
        bad = [dtype for dtype in types if not self._is_supported(dtype, node.op)]
        if bad:
            return f"{reasons.DTYPE} {tf.as_dtype(bad[0]).name}"
        found = self.find_reason(node) if node.op in _PURE else None
        return found[1] if found else ""

    def _is_supported(self, dtype: int, op: str) -> bool:
        name = tf.as_dtype(dtype).name
        return name in self._support.dtypes or (name == "variant" and op in (*_LISTS, "Identity"))


def _find_bad_tensor(node: Any, tensors: Mapping[str, TensorSpec], support: Support) -> tuple[str, str] | None:
    names = [name if ":" in name else f"{name}:0" for name in node.input if not name.startswith("^")]
    index = 0
    while f"{node.name}:{index}" in tensors:
        names.append(f"{node.name}:{index}")
        index += 1
    for name in names:
        spec = tensors[name]
        if spec.dtype == "variant" and node.op in _LISTS:
            continue
        if spec.dtype in ("resource", "variant", "string"):
            return reasons.RESOURCE_OR_STRING, f"{name} is {spec.dtype}"
        if spec.dtype not in support.dtypes:
            return reasons.DTYPE, f"{name} is {spec.dtype}"
        if spec.shape is None:
            return reasons.UNKNOWN_RANK, name
    return None


def find_crossing_lists(partition: Partition) -> dict[str, LeftOut]:
    """The nodes whose lists of tensors would enter or leave a segment; they must be native too."""
    found: dict[str, LeftOut] = {}
    for segment in partition.segments:
        lists = {
            tensor
            for tensor, spec in zip(
                (*segment.input_tensors, *segment.output_tensors), (*segment.inputs, *segment.outputs), strict=True
            )
            if spec.dtype == "variant"
        }
        for node in partition.graph.graph_def.node if lists else ():
            reads = {tensor if ":" in tensor else f"{tensor}:0" for tensor in node.input}
            makes = any(tensor.partition(":")[0] == node.name for tensor in lists)
            if node.name in segment.nodes and (makes or reads & lists):
                found[node.name] = LeftOut(
                    node.name, node.op, reasons.RESOURCE_OR_STRING, "its list of tensors is used by native nodes"
                )
    return found
