"""Who reads whom in a flat graph; without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def name_node(tensor: str) -> str:
    """The node of a tensor or control input."""
    return tensor.lstrip("^").partition(":")[0]


def list_readers(nodes: Iterable[Any]) -> dict[str, list[str]]:
    """Of each node those that read its outputs, in the order given; nodes that wait for it alone are none."""
    nodes = list(nodes)
    readers: dict[str, list[str]] = {node.name: [] for node in nodes}
    for node in nodes:
        for name in dict.fromkeys(name_node(tensor) for tensor in node.input if not tensor.startswith("^")):
            readers[name].append(node.name)
    return readers
