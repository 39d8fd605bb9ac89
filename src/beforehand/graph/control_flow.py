"""TensorFlow's functional control flow: its ops, and the functions that they call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

CONTROL_FLOW_OPS = frozenset(f"{prefix}{op}" for prefix in ("", "Stateless") for op in ("While", "If", "Case"))


def list_function_slots(node: Any) -> list[Any]:
    """The attributes of a control-flow node that name functions, in the order of the op's definition."""
    if "branches" in node.attr:
        return list(node.attr["branches"].list.func)
    names = ("cond", "body") if node.op.endswith("While") else ("then_branch", "else_branch")
    return [node.attr[name].func for name in names]


def list_references(node: Any) -> Iterator[Any]:
    """The attributes by which a node names functions, in a fixed order."""
    for _, value in sorted(node.attr.items()):
        if value.HasField("func"):
            yield value.func
        yield from value.list.func
