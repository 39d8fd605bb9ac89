"""Loops over time that are a GRU or an LSTM, with or without a mask, such as Keras 3 writes them.

A Loop of OpenVINO starts its body anew for each step, which for bodies this small costs more than what they compute.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from beforehand.lower.cut_segment import CutSegment
from beforehand.lower.match_cells import Cell, match_gru, match_lstm
from beforehand.lower.match_terms import Key, Terms

_LOOPS = ("StatelessWhile", "While")


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """A loop that is a recurrent layer; places among its arguments and results.

    Attributes:
        cell: What a step computes.
        sequence: The list of inputs, made of one tensor.
        outputs: The list of outputs.
        every: Whether each step has its own output in the list; else it has one place, the last step's.
        hidden: The state that is also the output.
        carry: An LSTM's other state.
        mask: The list of masks, made of one tensor.
        fill: What a masked step gives: the output before it, of which this is the first; where `zeros`, always this.
        zeros: See `fill`.
    """

    cell: Cell
    sequence: int
    outputs: int
    every: bool
    hidden: int
    carry: int | None = None
    mask: int | None = None
    fill: int | None = None
    zeros: bool = False


def find_recurrences(graph: tf.Graph, cut: CutSegment) -> dict[str, Recurrence]:
    """By the names of their bodies, the loops of a segment (imported as `graph`) that are recurrent layers for sure."""
    library = {function.signature.name: function for function in cut.graph_def.library.function}
    found = {}
    for operation in graph.get_operations():
        if operation.type in _LOOPS:
            body = library[operation.get_attr("body").name]
            recurrence = _Frame(operation, body, library[operation.get_attr("cond").name], cut.outputs).match()
            if recurrence:
                found[body.signature.name] = recurrence
    return found


class _Frame:
    """What is around the cell: how often it runs, what it reads and writes."""

    def __init__(self, loop: Any, body: Any, condition: Any, wanted: tuple[str, ...]) -> None:
        self._loop = loop
        self._inputs = [_find_source(tensor) for tensor in loop.inputs]
        weights = {
            index: tuple(tensor.shape.as_list())
            for index, tensor in enumerate(self._inputs)
            if tensor.op.type in ("Const", "Placeholder") and tensor.dtype == tf.float32 and _is_static(tensor)
        }
        self._terms = Terms(body, weights)
        self._condition = Terms(condition, {})
        self._kept = {index for index, key in enumerate(self._terms.results) if self._terms.find_argument(key) == index}
        self._used = {index for index, tensor in enumerate(loop.outputs) if tensor.consumers() or tensor.name in wanted}

    def match(self) -> Recurrence | None:
        """The loop as a recurrent layer."""
        terms = self._terms
        for outputs, result in enumerate(terms.results):
            written = terms.match(result, "TensorListSetItem")
            if written and terms.find_argument(written[0]) == outputs:
                found = self._match_output(outputs, written[1], written[2])
                return found if found and self._is_covered(found) else None
        return None

    def _match_output(self, outputs: int, place: Key, value: Key) -> Recurrence | None:
        terms = self._terms
        masked = terms.match(value, "SelectV2")
        new = masked[1] if masked else value
        mask = self._find_mask(masked[0]) if masked else None
        fill = terms.find_argument(masked[2]) if masked else None
        every = terms.read_constant(place) != [0]
        time = terms.find_argument(place) if every else self._find_time()
        if time is None or (masked and (mask is None or fill is None)) or not self._runs_over(time):
            return None
        zeros = fill is not None and fill in self._kept
        if fill is not None and not zeros and terms.results[fill] != value:
            return None
        changing = [index for index in range(len(terms.results)) if index not in self._kept and index != fill]
        for hidden in changing:
            if self._gives(hidden, new, mask):
                for sequence in self._kept:
                    found = self._match_cell(new, sequence, hidden, changing, mask)
                    if found and self._fits(sequence, mask, outputs, every, time):
                        return dataclasses.replace(found, outputs=outputs, every=every, fill=fill, zeros=zeros)
        return None

    def _gives(self, index: int, new: Key, mask: int | None) -> bool:
        """Whether this result is `new`, or where masked what it was."""
        result = self._terms.results[index]
        if mask is None:
            return result == new
        chosen = self._terms.match(result, "SelectV2")
        return (
            chosen is not None
            and self._find_mask(chosen[0]) == mask
            and chosen[1] == new
            and self._terms.find_argument(chosen[2]) == index
        )

    def _match_cell(
        self, new: Key, sequence: int, hidden: int, changing: list[int], mask: int | None
    ) -> Recurrence | None:
        terms = self._terms
        names = list(terms.arguments)
        state: Key = (names[hidden], 0)
        units = _find_units(self._loop.inputs[hidden])
        for x in terms.list_reads(sequence) if units else ():
            gru = match_gru(terms, new, x, state, units)
            if gru:
                return Recurrence(gru, sequence, -1, True, hidden, mask=mask)
            for carry in changing:
                lstm = match_lstm(terms, new, x, state, (names[carry], 0), units)
                if lstm and self._gives(carry, lstm[1], mask):
                    return Recurrence(lstm[0], sequence, -1, True, hidden, carry, mask=mask)
        return None

    def _find_mask(self, key: Key) -> int | None:
        """The list whose element of now, one truth for each row, decides."""
        terms = self._terms
        tiled = terms.match(key, "Tile")
        if tiled and set(terms.read_constant(tiled[1]) or [0]) != {1}:
            return None
        read = terms.match(tiled[0] if tiled else key, "TensorListGetItem")
        if read is None or (terms.read_constant(read[2]) or [])[1:] != [1]:
            return None
        index = terms.find_argument(read[0])
        return index if index in self._kept else None

    def _find_time(self) -> int | None:
        """The argument by which lists are read."""
        reads = [read for index in self._kept for read in self._terms.list_reads(index)]
        times = {self._terms.find_argument((self._terms.match(read, "TensorListGetItem") or ())[1]) for read in reads}
        return times.pop() if len(times) == 1 else None

    def _runs_over(self, time: int) -> bool:
        """Whether the loop ends after as many steps as the two limits of its condition, from 0 on by 1."""
        return self._find_limits(time) is not None

    def _find_limits(self, time: int) -> list[Any] | None:
        """The numbers of steps: tensors, or numbers that stand in the condition, as for sequences of a known length."""
        both = self._condition.match(self._condition.results[0], "LogicalAnd")
        limits: list[Any] = []
        counters = set()
        for key in both or ():
            less = self._condition.match(key, "Less")
            if less is None:
                return None
            counter, limit = map(self._condition.find_argument, less)
            constant = self._condition.read_constant(less[1])
            if counter is None or not self._counts(counter) or (limit not in self._kept and constant is None):
                return None
            counters.add(counter)
            limits.append(self._inputs[limit] if limit is not None else (constant or [-1])[0])
        return limits if time in counters else None

    def _counts(self, index: int) -> bool:
        terms = self._terms
        added = terms.match(terms.results[index], "AddV2")
        source = self._inputs[index].op
        return (
            added is not None
            and terms.find_argument(added[0]) == index
            and terms.read_constant(added[1]) == [1]
            and source.type == "Const"
            and int(tf.make_ndarray(source.get_attr("value"))) == 0
        )

    def _fits(self, sequence: int, mask: int | None, outputs: int, every: bool, time: int) -> bool:
        """Whether lists are as long as the loop runs, made of tensors of what a layer takes, and read by its time."""
        lists = [self._inputs[index] for index in (sequence, mask) if index is not None]
        if any(made.op.type != "TensorListFromTensor" for made in lists):
            return False
        given = lists[0].op.inputs[0]
        reads = [read for index in (sequence, mask) if index is not None for read in self._terms.list_reads(index)]
        if any(
            self._terms.find_argument((self._terms.match(read, "TensorListGetItem") or ())[1]) != time for read in reads
        ):
            return False
        sizes = list(self._find_limits(time) or ())
        reserved = self._inputs[outputs].op
        if reserved.type != "TensorListReserve" or given.shape.rank != 3 or given.dtype != tf.float32:
            return False
        size = _find_source(reserved.inputs[1])
        if every:
            sizes.append(size)
        elif tf.get_static_value(size) != 1:
            return False
        return given.shape[2] is not None and all(_is_length(size, given) for size in sizes)

    def _is_covered(self, found: Recurrence) -> bool:
        """Whether all that is used of the loop is what the layer gives."""
        given = {found.outputs, found.hidden}
        if found.mask is None and found.carry is not None:
            given.add(found.carry)
        if found.fill is not None and not found.zeros:
            given.add(found.fill)
        stacks = self._loop.outputs[found.outputs].consumers()
        return self._used <= given and all(stack.type == "TensorListStack" for stack in stacks)


def _find_source(tensor: Any) -> Any:
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor


def _find_units(state: Any) -> int:
    """The width of a state; 0 where it is not known."""
    return int(state.shape[1] or 0) if state.shape.rank == 2 else 0


def _is_static(tensor: Any) -> bool:
    return bool(tensor.shape.is_fully_defined())


def _is_length(size: Any, given: Any) -> bool:
    """Whether `size`, a tensor or a number, is the first dimension of `given`."""
    if isinstance(size, int | float):
        return given.shape[0] is not None and size == given.shape[0]
    if size.op.type == "Const":
        return given.shape[0] is not None and int(tf.make_ndarray(size.op.get_attr("value"))) == given.shape[0]
    if size.op.type != "StridedSlice" or size.shape.rank != 0:
        return False
    shape = _find_source(size.op.inputs[0]).op
    places = [tf.get_static_value(value) for value in size.op.inputs[1:]]
    if shape.type != "Shape" or any(place is None for place in places) or int(places[0][0]) != 0:
        return False
    measured, given = _find_source(shape.inputs[0]), _find_source(given)
    if measured is not given and given.op.type == "ReverseV2":
        given = _find_source(given.op.inputs[0])
    return measured is given
