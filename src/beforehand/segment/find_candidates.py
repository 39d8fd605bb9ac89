"""Which nodes of a flat graph may enter an engine; of the others, why not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from beforehand.records import FlatGraph, LeftOut, TensorSpec
from beforehand.segment import reasons

_CONTROL_FLOW = frozenset(
    (
        *("Case", "Enter", "Exit", "If", "LoopCond", "Merge", "NextIteration", "PartitionedCall", "RefSwitch"),
        *("StatefulPartitionedCall", "StatelessCase", "StatelessIf", "StatelessWhile", "Switch", "While"),
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
    left_out = {}
    for node in graph.graph_def.node:
        if node.op in ("Placeholder", "Const"):
            continue
        found = _find_reason(node, tensors, support, refused, find_op_def)
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
        (node.op in _CONTROL_FLOW, reasons.CONTROL_FLOW, ""),
        (bad is not None and bad[0] == reasons.RESOURCE_OR_STRING, *(bad or ("", ""))),
        (definition is None or definition.is_stateful, reasons.STATEFUL, ""),
        (node.op not in support.ops, reasons.OP_UNSUPPORTED, ""),
        (bad is not None, *(bad or ("", ""))),
    )
    return next(((reason, detail) for true, reason, detail in holds if true), None)


def _find_bad_tensor(node: Any, tensors: Mapping[str, TensorSpec], support: Support) -> tuple[str, str] | None:
    names = [name if ":" in name else f"{name}:0" for name in node.input if not name.startswith("^")]
    index = 0
    while f"{node.name}:{index}" in tensors:
        names.append(f"{node.name}:{index}")
        index += 1
    for name in names:
        spec = tensors[name]
        if spec.dtype in ("resource", "variant", "string"):
            return reasons.RESOURCE_OR_STRING, f"{name} is {spec.dtype}"
        if spec.dtype not in support.dtypes:
            return reasons.DTYPE, f"{name} is {spec.dtype}"
        if spec.shape is None:
            return reasons.UNKNOWN_RANK, name
    return None
