"""Half precision in the graph: nodes chosen for it get half inputs, with one Cast for each value that crosses the border.

Inputs and outputs of the graph keep their types. Constants are rounded to nearest; those that both sides read exist twice.
"""

from __future__ import annotations

from typing import Any

from onnx import helper

from beforehand.precision.choose_half import ALWAYS_FLOAT, Choice, choose_half
from beforehand.precision.formats import Half
from beforehand.precision.onnx_graph import FLOAT, OnnxGraph, copy_node, count_readers


def cast_to_half(model: OnnxGraph, half: Half, kept: frozenset[str] = frozenset()) -> Choice:
    """Rewrite the main graph; what was chosen, for nodes as they stood before.

    Bodies of loops stay in float32, and so do nodes whose names are `kept`.

    Requires nodes in topological order, and keeps them so.
    """
    types = model.infer().types
    choice = choose_half(model, types, half, kept)
    writer = _Writer(model, half, types, choice)
    model.replace_nodes(writer.write())
    return choice


class _Writer:
    """A value made in half precision is called `NAME__half`; under its own name every value is float32."""

    def __init__(self, model: OnnxGraph, half: Half, types: Any, choice: Choice) -> None:
        self._model, self._half, self._types, self._choice = model, half, types, choice
        self._constants: dict[str, str] = {}
        nodes = model.graph.node
        self._made = {
            name
            for node, chosen in zip(nodes, choice.half, strict=True)
            for name in node.output
            if chosen and types.get(name) == FLOAT
        }
        floats = count_readers(model.graph)
        self._read_as_half: set[str] = set()
        for node, chosen in zip(nodes, choice.half, strict=True):
            for place in self._find_half_inputs(node) if chosen else ():
                self._read_as_half.add(node.input[place])
                floats[node.input[place]] -= 1
        self._read_as_float = {name for name, count in floats.items() if count > 0}

    def _find_half_inputs(self, node: Any) -> list[int]:
        """Of a node that was chosen, the places of the inputs that it reads in half precision."""
        kept = ALWAYS_FLOAT.get(node.op_type, ())
        return [i for i, n in enumerate(node.input) if n and i not in kept and self._types.get(n) == FLOAT]

    def write(self) -> list[Any]:
        """The nodes, with casts where they are due."""
        nodes = [self._cast_down(value.name, "") for value in self._model.graph.input if self._is_due(value.name)]
        for node, chosen in zip(self._model.graph.node, self._choice.half, strict=True):
            if not chosen:
                nodes.append(node)
                nodes.extend(self._cast_down(name, node.name) for name in node.output if self._is_due(name))
                continue
            nodes.append(self._convert(node))
            for name in node.output:
                if name in self._made and name in self._read_as_float:
                    nodes.append(self._cast(f"{name}__half", name, FLOAT, node.name))
        return nodes

    def _is_due(self, name: str) -> bool:
        """Whether a float32 value that is no constant is read in half precision."""
        return name in self._read_as_half and name not in self._made and not self._model.is_constant(name)

    def _cast_down(self, name: str, maker: str) -> Any:
        return self._cast(name, f"{name}__half", self._half.element_type, maker)

    def _cast(self, source: str, target: str, element_type: int, maker: str) -> Any:
        # Named after what it follows, as tf2onnx numbers nodes: a builder that blames it blames a node of the model.
        name = self._model.make_name(maker or source)
        return helper.make_node("Cast", [source], [target], name=name, to=element_type)

    def _convert(self, node: Any) -> Any:
        converted = copy_node(node)
        for place in self._find_half_inputs(node):
            converted.input[place] = self._name_half(node.input[place])
        converted.output[:] = [f"{name}__half" if name in self._made else name for name in node.output]
        return converted

    def _name_half(self, name: str) -> str:
        if not self._model.is_constant(name):
            return f"{name}__half"
        if name not in self._constants:
            value = self._half.convert(self._model.read(name))
            self._constants[name] = self._model.add_constant(name, value, self._half.element_type)
        return self._constants[name]
