"""QuantizeLinear and DequantizeLinear side by side, as backends know them: tf2onnx's optimizer moves layout changes between.

What changes the layout of activations comes after the pair, what changes that of weights before it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

from onnx import NodeProto

_LAYOUT = ("Reshape", "Squeeze", "Transpose", "Unsqueeze")


def pair_quantization(graph: Any, weights: frozenset[str]) -> int:
    """Reorder nodes of a GraphProto, in place; how many chains were changed. `weights` are inputs that become constants."""
    pairer = _Pairer(graph, weights)
    count = sum(pairer.pair(node) for node in list(graph.node) if node.op_type == "DequantizeLinear")
    if count:
        _sort(graph)
    return count


class _Pairer:
    def __init__(self, graph: Any, weights: frozenset[str]) -> None:
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._weights = weights | self._constants.keys()
        self._makers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = Counter(value.name for value in graph.output)

    def pair(self, dequantize: Any) -> bool:
        """Bring a DequantizeLinear and its QuantizeLinear together; whether anything changed."""
        between = list(self._walk_up(dequantize.input[0]))
        source = between[-1].input[0] if between else dequantize.input[0]
        quantize = self._makers.get(source)
        if quantize is None or quantize.op_type != "QuantizeLinear" or not self._is_single(source):
            return False
        if quantize.input[0] in self._weights:
            after = list(self._walk_down(dequantize.output[0]))
            return self._hoist(quantize, between[::-1], dequantize, after)
        if between:
            self._sink(quantize, between[::-1], dequantize)
        return bool(between)

    def _sink(self, quantize: Any, between: list[Any], dequantize: Any) -> None:
        """Q, layout, DQ -> Q, DQ, layout."""
        end = dequantize.output[0]
        dequantize.input[0], dequantize.output[0] = quantize.output[0], f"{end}_paired"
        _set_axis(dequantize, _get_axis(quantize))
        between[0].input[0] = dequantize.output[0]
        between[-1].output[0] = end

    def _hoist(self, quantize: Any, between: list[Any], dequantize: Any, after: list[Any]) -> bool:
        """Weights, Q, layout, DQ, layout -> weights, layout, Q, DQ."""
        moved = [*between, *after]
        axis = _get_axis(quantize)
        if axis is not None:
            for node in moved:
                axis = self._map_axis(node, axis)
                if axis is None:
                    return False
        if not moved:
            return False
        end = moved[-1].output[0] if after else dequantize.output[0]
        moved[0].input[0] = quantize.input[0]
        for node, following in itertools.pairwise(moved):
            following.input[0] = node.output[0]
        moved[-1].output[0] = f"{end}_turned"
        quantize.input[0], dequantize.input[0], dequantize.output[0] = moved[-1].output[0], quantize.output[0], end
        for node in (quantize, dequantize):
            _set_axis(node, axis)
        return True

    @staticmethod
    def _map_axis(node: Any, axis: int) -> int | None:
        """Where an axis comes to; None where that is not known."""
        if node.op_type == "Transpose":
            perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
            return None if perm is None else perm.index(axis % len(perm))
        return None

    def _walk_up(self, name: str) -> Iterator[Any]:
        while self._is_single(name) and name in self._makers and self._makers[name].op_type in _LAYOUT:
            yield self._makers[name]
            name = self._makers[name].input[0]

    def _walk_down(self, name: str) -> Iterator[Any]:
        while self._is_single(name) and self._readers[name][0].op_type in _LAYOUT:
            node = self._readers[name][0]
            yield node
            name = node.output[0]

    def _is_single(self, name: str) -> bool:
        return len(self._readers.get(name, ())) == 1 and not self._outputs[name]


def _get_axis(node: Any) -> int | None:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), None)


def _set_axis(node: Any, axis: int | None) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != "axis"]
    del node.attribute[:]
    node.attribute.extend(kept)
    if axis is not None:
        node.attribute.add(name="axis", type=2, i=axis)  # AttributeProto.INT


def _sort(graph: Any) -> None:
    """Nodes in topological order, in place."""
    known = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input} | {""}
    waiting, nodes = list(graph.node), []
    made = {name for node in waiting for name in node.output}
    while waiting:
        ready = [node for node in waiting if all(name in known or name not in made for name in node.input)]
        for node in ready:
            known.update(node.output)
            copied = NodeProto()
            copied.CopyFrom(node)
            nodes.append(copied)
        done = {id(node) for node in ready}
        waiting = [node for node in waiting if id(node) not in done]
    del graph.node[:]
    graph.node.extend(nodes)
