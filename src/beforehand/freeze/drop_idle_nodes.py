"""What has no effect and that nobody reads goes: nodes, and control edges."""

from __future__ import annotations

from typing import Any

from beforehand.freeze.read_variables import READ_OPS
from beforehand.graph.edges import name_node
from beforehand.graph.nodes import FindOpDef, sort_nodes

VARIABLE_OPS = frozenset({"VarHandleOp", "VariableV2", "Variable"})
# TF1 control flow: a constant belongs to a loop by nothing but its control edge.
FRAME_OPS = frozenset(
    (
        *("Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch"),
        *("RefEnter", "RefExit", "RefMerge", "RefNextIteration", "RefSwitch"),
    )
)


def drop_idle_control_edges(nodes: dict[str, Any], find_op_def: FindOpDef) -> None:
    """Remove control edges from nodes that neither have an effect nor wait for one, in place."""
    effect: dict[str, bool] = {}
    for name in sort_nodes(nodes):
        node = nodes[name]
        control = [tensor for tensor in node.input if tensor.startswith("^") and effect.get(tensor[1:], True)]
        data = [tensor for tensor in node.input if not tensor.startswith("^")]
        del node.input[:]
        node.input.extend([*data, *control])
        # The back edge of a TF1 loop comes from a node that is later in the order.
        waits = any(effect.get(name_node(tensor), False) for tensor in node.input)
        effect[name] = waits or node.op in FRAME_OPS or has_effect(node, find_op_def)


def has_effect(node: Any, find_op_def: FindOpDef) -> bool:
    """Whether a node does, or depends on, more than its inputs and outputs show."""
    if node.op in ("Placeholder", *READ_OPS, *VARIABLE_OPS):
        return False
    definition = find_op_def(node.op)
    return definition is None or bool(definition.is_stateful)
