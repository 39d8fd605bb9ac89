"""TensorFlow's names for nodes that tf2onnx has made anew: a convolution with a bias or a batch normalisation in it is just `Conv__12`.

By its name a node belongs to a Keras layer (accuracy/list_parts.py). Such a node stands for TensorFlow nodes that are gone, which
lie before those that read its result; of these it is the one that reads the same constant.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

_NUMBERED = re.compile(r"(__\d+)+$")  # of nodes that come of one TensorFlow node


def restore_names(graph: Any, graph_def: Any, outputs: Iterable[str] = ()) -> int:
    """Name nodes of a GraphProto that have no scope after nodes of the GraphDef it was made of; how many there were.

    Bodies of loops and branches are left alone.

    Args:
        graph: In topological order.
        graph_def: Its constants and large weights have the names that they have in `graph`.
        outputs: The tensors of `graph_def` that `graph` gives, in order.
    """
    sources = _Sources(graph, graph_def)
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for value in node.input:
            readers.setdefault(value, []).append(node)
    given = {value.name: tensor.partition(":")[0] for value, tensor in zip(graph.output, outputs, strict=False)}
    count = 0
    for node in reversed(graph.node):
        if "/" in node.name:
            continue
        before = [_strip(reader.name) for value in node.output for reader in readers.get(value, ())]
        ends = [given[value] for value in node.output if value in given]
        found = sources.find([value.removesuffix(":0") for value in node.input], before, ends)
        if found:
            node.name = found
            count += 1
    return count


class _Sources:
    """The TensorFlow nodes that an ONNX graph has no nodes of."""

    def __init__(self, graph: Any, graph_def: Any) -> None:
        self._nodes = {node.name: node for node in graph_def.node}
        self._there = {_strip(node.name) for node in graph.node}
        self._constants = {
            node.name
            for node in graph_def.node
            if node.op in ("Const", "Placeholder") and not node.name.startswith("input_")
        }

    def find(self, values: list[str], before: Iterable[str], ends: Iterable[str]) -> str:
        """The name of the one that reads the first of these constants, among those that are gone before others, or end the graph."""
        gone = self._list_gone(before, ends)
        for value in values:
            if value in self._constants:
                for name in gone:
                    if value in gone[name]:
                        self._there.add(name)
                        return name
        return ""

    def _list_gone(self, before: Iterable[str], ends: Iterable[str]) -> Mapping[str, list[str]]:
        """With their inputs; only such as have a scope, the nearest first."""
        waiting = deque([*ends, *(name for reader in before for name in self._list_inputs(reader))])
        gone: dict[str, list[str]] = {}
        while waiting:
            name = waiting.popleft()
            if name in gone or name in self._there or name in self._constants or name not in self._nodes:
                continue
            gone[name] = self._list_inputs(name)
            waiting += gone[name]
        return {name: inputs for name, inputs in gone.items() if "/" in name}

    def _list_inputs(self, name: str) -> list[str]:
        node = self._nodes.get(name)
        return [] if node is None else [tensor.partition(":")[0].removeprefix("^") for tensor in node.input]


def _strip(name: str) -> str:
    return _NUMBERED.sub("", name)
