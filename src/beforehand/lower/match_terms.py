"""The body of a loop as terms: what a value is made of, and sums of products as one list whatever way they are written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

Key = tuple[str, int]  # a value: its node, or argument of the function, and which of its outputs


@dataclasses.dataclass(frozen=True, order=True)
class Atom:
    """Columns of one summand: `left` times a weight, or a row of a bias that is added to all rows.

    Attributes:
        left: What is multiplied; empty for a bias.
        weight: The argument that is the weight.
        row: Of a bias that has rows, which one; else -1.
        start: The first column.
        stop: One after the last column.
    """

    left: tuple[Any, ...]
    weight: int
    row: int
    start: int
    stop: int


class Terms:
    """The values of a function without calls."""

    def __init__(self, function: Any, shapes: Mapping[int, tuple[int, ...]]) -> None:
        """Args: the FunctionDef; the shapes of the arguments that are weights."""
        self.arguments = {argument.name: index for index, argument in enumerate(function.signature.input_arg)}
        self._nodes = {node.name: node for node in function.node_def}
        self._shapes = shapes
        self.results = tuple(self.find(function.ret[output.name]) for output in function.signature.output_arg)

    def find(self, tensor: str) -> Key:
        """The value that a name in the function stands for, behind what hands it on as it is."""
        parts = tensor.split(":")
        node = self._nodes.get(parts[0])
        if node is not None and node.op == "Identity":
            return self.find(node.input[0])
        return parts[0], int(parts[-1]) if len(parts) == 3 else 0

    def find_argument(self, key: Key) -> int | None:
        """Which argument a value is; None: none."""
        return self.arguments.get(key[0])

    def match(self, key: Key, op: str) -> tuple[Key, ...] | None:
        """The inputs of the op that makes a value; None where it is another op."""
        node = self._nodes.get(key[0])
        if node is None or node.op != op:
            return None
        return tuple(self.find(tensor) for tensor in node.input if not tensor.startswith("^"))

    def get_width(self, weight: int) -> int:
        """The columns of a weight."""
        return self._shapes[weight][-1]

    def list_reads(self, argument: int) -> list[Key]:
        """The elements that are read from a list."""
        nodes = (node for node in self._nodes.values() if node.op == "TensorListGetItem")
        return [(node.name, 0) for node in nodes if self.find_argument(self.find(node.input[0])) == argument]

    def read_constant(self, key: Key) -> list[int | float] | None:
        """The elements of a constant."""
        node = self._nodes.get(key[0])
        if node is None or node.op != "Const":
            return None
        elements: list[int | float] = np.ravel(tf.make_ndarray(node.attr["value"].tensor)).tolist()
        return elements

    def sum_up(self, key: Key) -> tuple[Atom, ...] | None:
        """A value as a sum of products with weights and of biases, sorted; None where it is not one."""
        index = self.find_argument(key)
        if index is not None:
            shape = self._shapes.get(index, ())
            return (Atom((), index, -1, 0, shape[0]),) if len(shape) == 1 else None
        node = self._nodes[key[0]]
        if node.op == "MatMul":
            return self._multiply(node)
        if node.op == "AddV2" or (node.op == "BiasAdd" and node.attr["data_format"].s in (b"", b"NHWC")):
            return self._add(node)
        if node.op == "Squeeze":
            return self._take_row(node)
        if node.op == "Split":
            return self._split(node, key[1])
        return self._slice(node) if node.op == "StridedSlice" else None

    def _multiply(self, node: Any) -> tuple[Atom, ...] | None:
        if node.attr["transpose_a"].b or node.attr["transpose_b"].b:
            return None
        left, right = map(self.find, node.input[:2])
        sliced = self.match(right, "StridedSlice")
        index = self.find_argument(sliced[0] if sliced else right)
        shape = self._shapes.get(-1 if index is None else index, ())
        if index is None or len(shape) != 2:
            return None
        columns = self._find_columns(self._nodes[right[0]], 2, shape[1]) if sliced else (0, shape[1])
        return (Atom(left, index, -1, *columns),) if columns else None

    def _add(self, node: Any) -> tuple[Atom, ...] | None:
        one, other = (self.sum_up(self.find(tensor)) for tensor in node.input[:2])
        if not one or not other or one[0].stop - one[0].start != other[0].stop - other[0].start:
            return None
        return tuple(sorted(one + other))

    def _take_row(self, node: Any) -> tuple[Atom, ...] | None:
        """A bias of two rows, split and squeezed."""
        split = self.find(node.input[0])
        inputs = self.match(split, "Split")
        index = self.find_argument(inputs[1]) if inputs else None
        shape = self._shapes.get(-1 if index is None else index, ())
        if inputs is None or index is None or len(shape) != 2 or self.read_constant(inputs[0]) != [0]:
            return None
        axes = list(node.attr["squeeze_dims"].list.i)
        if self._nodes[split[0]].attr["num_split"].i != shape[0] or axes != [0]:
            return None
        return (Atom((), index, split[1], 0, shape[1]),)

    def _split(self, node: Any, part: int) -> tuple[Atom, ...] | None:
        atoms = self.sum_up(self.find(node.input[1]))
        axis = self.read_constant(self.find(node.input[0]))
        count = node.attr["num_split"].i
        if not atoms or axis not in ([-1], [_rank(atoms) - 1]) or (atoms[0].stop - atoms[0].start) % count:
            return None
        width = (atoms[0].stop - atoms[0].start) // count
        return _narrow(atoms, part * width, (part + 1) * width)

    def _slice(self, node: Any) -> tuple[Atom, ...] | None:
        atoms = self.sum_up(self.find(node.input[0]))
        columns = self._find_columns(node, _rank(atoms), atoms[0].stop - atoms[0].start) if atoms else None
        return _narrow(atoms, *columns) if atoms and columns else None

    def _find_columns(self, node: Any, rank: int, width: int) -> tuple[int, int] | None:
        """First and last (exclusive) of the columns that a StridedSlice takes; None where it does anything else."""
        if any(node.attr[f"{mask}_mask"].i for mask in ("ellipsis", "new_axis", "shrink_axis")):
            return None
        begin, end, steps = (self.read_constant(self.find(tensor)) for tensor in node.input[1:4])
        if begin is None or end is None or steps != [1] * rank or len(begin) != rank or len(end) != rank:
            return None
        from_start, to_end = node.attr["begin_mask"].i, node.attr["end_mask"].i
        if rank == 2 and not (to_end & 1 and (from_start & 1 or begin[0] == 0)):
            return None  # it takes some of the rows
        last = rank - 1
        first = 0 if from_start >> last & 1 else int(begin[last])
        final = width if to_end >> last & 1 else int(end[last])
        return (first, final) if 0 <= first < final <= width else None


def _rank(atoms: tuple[Atom, ...]) -> int:
    return 2 if any(atom.left for atom in atoms) else 1


def _narrow(atoms: tuple[Atom, ...], start: int, stop: int) -> tuple[Atom, ...]:
    return tuple(sorted(dataclasses.replace(atom, start=atom.start + start, stop=atom.start + stop) for atom in atoms))
