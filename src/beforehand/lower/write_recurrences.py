"""Recurrent layers as ONNX GRU and LSTM, in place of the loops that tf2onnx was given.

ONNX's own way to skip steps, lengths of sequences, covers masks at the end alone, and OpenVINO 2026.4 runs it as a loop. So
each sequence's steps that count are moved to its front, in their order; what comes after them does not change what came
before, and each step's output is then that of the last step that counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from beforehand.lower.find_recurrences import Recurrence

_GATES = {"GRU": (0, 1, 2), "LSTM": (0, 3, 1, 2)}  # Keras has i, f, c, o; ONNX i, o, f, c


def make_rewriter(found: Mapping[str, Recurrence]) -> Callable[[Any, Any], Any]:
    """A rewriter of tf2onnx that replaces the loops that have these bodies."""

    def write_recurrences(graph: Any, nodes: Any) -> Any:
        # Bodies come before the loops that run them: what tf2onnx's own rewriters know of them they are to forget, for
        # their layers have the transpose that `_turn` is about.
        graph.lstm_rewriter_context = graph.gru_rewriter_context = None
        for node in list(nodes):
            recurrence = found.get(node.get_attr_str("body")) if node.is_while() else None
            if recurrence and any(_is_used(graph, value) for value in node.output):
                _Writer(graph, node, recurrence).write()
        return graph.get_nodes()

    return write_recurrences


def _is_used(graph: Any, value: str) -> bool:
    return bool(graph.find_output_consumers(value)) or value in graph.outputs


class _Writer:
    """One loop and the nodes that replace it."""

    def __init__(self, graph: Any, loop: Any, found: Recurrence) -> None:
        self._graph = graph
        self._loop = loop
        self._found = found
        self._units = graph.get_shape(loop.input[found.cell.recurrent])[0]
        self._x = _find_made_of(loop.inputs[found.sequence])
        size = self._make("Shape", [self._x])
        self._batch = self._make("Gather", [size, self._const([1])])
        self._rows = self._make("Concat", [self._batch, self._const([self._units])], axis=0)

    def write(self) -> None:
        """Replace the loop."""
        found = self._found
        if found.mask is None:
            every, last, carry = self._run(self._turn())
            results = {found.hidden: last, found.carry: carry}
            stacked = every if found.every else self._unsqueeze(last, 0)
        else:
            every, last, hidden = self._run_masked(_find_made_of(self._loop.inputs[found.mask]))
            results = {found.hidden: hidden, found.fill: last}
            stacked = every if found.every else self._unsqueeze(last, 0)
        stacks = self._graph.find_output_consumers(self._loop.output[found.outputs])
        renamed = [(stack.output[0], stacked) for stack in stacks]
        for index, value in results.items():
            if index is not None and _is_used(self._graph, self._loop.output[index]):
                renamed.append((self._loop.output[index], value))
        shapes = {old: (self._graph.get_shape(old), self._graph.get_dtype(old)) for old, _ in renamed}
        for node in (*stacks, self._loop):
            self._graph.remove_node(node.name)
        for old, new in renamed:
            shape, dtype = shapes[old]
            self._graph.make_node("Identity", [new], outputs=[old], shapes=[shape], dtypes=[dtype])

    def _run(self, x: str) -> tuple[str, str, str]:
        """All outputs of the layer, its last output, and its last other state, if it has one."""
        cell = self._found.cell
        inputs = [x, self._arrange(cell.kernel), self._arrange(cell.recurrent), self._make_bias(), ""]
        inputs.append(self._unsqueeze(self._expand(self._found.hidden), 0))
        attributes: dict[str, Any] = {"hidden_size": self._units, "direction": "forward"}
        if self._found.carry is not None:
            inputs.append(self._unsqueeze(self._expand(self._found.carry), 0))
        else:
            attributes["linear_before_reset"] = int(cell.reset_after)
        count = 2 if self._found.carry is None else 3
        node = self._graph.make_node(
            cell.kind, inputs, attr=attributes, output_count=count, name=_make_name(self._loop.name)
        )
        last = [self._squeeze(value, 0) for value in node.output[1:]]
        return self._squeeze(node.output[0], 1), last[0], last[-1]

    def _turn(self) -> str:
        """The inputs by sequences, in such a way that OpenVINO has no transpose in front of the layer.

        OpenVINO's reader puts a transpose before and after a layer. Where they are not cancelled by others, its CPU plug-in
        (2026.4) takes both out and keeps in mind that time comes first; it forgets that when the compiled model is
        exported, and an imported engine mixes up sequences and steps.
        """
        width = self._const([-1, self._graph.get_shape(self._x)[2]])
        length = self._make("Gather", [self._make("Shape", [self._x]), self._const([0])])
        steps = self._make("Mul", [self._range(length), self._cast(self._batch)])
        rows = self._make("Add", [self._unsqueeze(self._range(self._batch), 1), self._unsqueeze(steps, 0)])
        turned = self._make("Gather", [self._make("Reshape", [self._x, width]), rows])
        return self._make("Transpose", [turned], perm=[1, 0, 2])

    def _run_masked(self, mask: str) -> tuple[str, str, str]:
        """All outputs, the last one, and the last state."""
        found = self._found
        kept = self._squeeze(mask, 2)
        ones = self._cast(kept)
        axis = self._const(0, np.int64)
        counts = self._make("CumSum", [ones, axis])
        total = self._make("ReduceSum", [ones, self._const([0])], keepdims=1)
        one = self._const(1, np.int32)
        skipped = self._make("CumSum", [self._make("Sub", [one, ones]), axis])
        behind = self._make("Sub", [self._make("Add", [total, skipped]), one])
        moved = self._make("Where", [kept, self._make("Sub", [counts, one]), behind])
        flat = self._make("Reshape", [self._x, self._const([-1, self._graph.get_shape(self._x)[2]])])
        length = self._make("Gather", [self._make("Shape", [self._x]), self._const([0])])
        starts = self._make("Mul", [self._range(self._batch), self._cast(length)])
        places = self._make("Reshape", [self._make("Add", [moved, starts]), self._const([-1, 1])])
        # Not into `flat` itself: OpenVINO would scatter in place, over rows that are still to be moved.
        empty = self._make("ConstantOfShape", [self._make("Shape", [flat])])
        front = self._make("ScatterND", [empty, places, flat])
        # By sequences, then by time: see `_turn`.
        sizes = self._make("Concat", [self._batch, length, self._const([self._graph.get_shape(self._x)[2]])], axis=0)
        outputs, _, _ = self._run(self._make("Transpose", [self._make("Reshape", [front, sizes])], perm=[1, 0, 2]))

        filled = self._expand(found.fill)
        every = self._look_up(outputs, filled, counts)
        if found.zeros:
            every = self._make("Where", [mask, every, filled])
        ending = self._make("Gather", [every, self._const(-1, np.int64)]) if found.zeros else ""
        last = ending or self._squeeze(self._look_up(outputs, filled, total), 0)
        hidden = self._squeeze(self._look_up(outputs, self._expand(found.hidden), total), 0)
        return every, last, hidden

    def _look_up(self, outputs: str, first: str, counts: str) -> str:
        """Of each sequence, the output after so many steps; after none, `first`."""
        joined = self._make("Concat", [self._unsqueeze(first, 0), outputs], axis=0)
        flat = self._make("Reshape", [joined, self._const([-1, self._units])])
        return self._make("Gather", [flat, self._number(counts)])

    def _number(self, steps: str) -> str:
        """Rows of outputs by time, then by sequence."""
        return self._make("Add", [self._make("Mul", [steps, self._cast(self._batch)]), self._range(self._batch)])

    def _range(self, count: str) -> str:
        stop = self._squeeze(self._cast(count), 0)
        return self._make("Range", [self._const(0, np.int32), stop, self._const(1, np.int32)])

    def _arrange(self, weight: int) -> str:
        turned = self._make("Transpose", [self._loop.input[weight]], perm=[1, 0])
        return self._unsqueeze(self._order(turned), 0)

    def _order(self, value: str) -> str:
        """Rows of a weight, gate after gate as ONNX has them."""
        gates = _GATES[self._found.cell.kind]
        if gates == tuple(sorted(gates)):
            return value
        rows = np.arange(len(gates) * self._units).reshape(len(gates), -1)[list(gates)]
        return self._make("Gather", [value, self._const(rows.ravel())])

    def _make_bias(self) -> str:
        cell = self._found.cell
        width = len(_GATES[cell.kind]) * self._units
        parts = []
        for weight, row in cell.biases:
            value = self._loop.input[weight]
            parts.append(self._order(self._make("Gather", [value, self._const(row, np.int64)]) if row >= 0 else value))
        while len(parts) < 2:
            parts.append(self._const(np.zeros(width), np.float32))
        return self._unsqueeze(self._make("Concat", parts, axis=0), 0)

    def _expand(self, argument: int | None) -> str:
        assert argument is not None  # noqa: S101
        return self._make("Expand", [self._loop.input[argument], self._rows])

    def _cast(self, value: str) -> str:
        return self._make("Cast", [value], to=6)  # int32

    def _squeeze(self, value: str, axis: int) -> str:
        return self._make("Squeeze", [value, self._const([axis])])

    def _unsqueeze(self, value: str, axis: int) -> str:
        return self._make("Unsqueeze", [value, self._const([axis])])

    def _const(self, value: Any, dtype: Any = np.int64) -> str:
        name: str = self._graph.make_const(_make_name("const"), np.array(value, dtype)).output[0]
        return name

    def _make(self, op: str, inputs: list[str], **attributes: Any) -> str:
        node = self._graph.make_node(op, inputs, attr=attributes, name=_make_name(f"{self._loop.name}/{op}"))
        name: str = node.output[0]
        return name


def _find_made_of(node: Any) -> str:
    """The tensor that a list was made of."""
    while node.type == "Identity":
        node = node.inputs[0]
    name: str = node.input[0]
    return name


def _make_name(base: str) -> str:
    from tf2onnx import utils  # noqa: PLC0415

    name: str = utils.make_name(base)
    return name
