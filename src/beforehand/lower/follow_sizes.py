"""Whole numbers that are computed from the sizes of one tensor, for every size at once.

A sum, a multiple or a remainder by a constant of such numbers grows by the same amount from each period of sizes to the next. So a
number is known for all sizes by its amount for each remainder, and two are equal for all sizes if these are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

_LONGEST_PERIOD = 4096
_NODES = 200  # TensorFlow's own paddings of three dimensions are 40


class UnknownSizeError(Exception):
    """A number that cannot be followed. It does not leave this package."""


@dataclasses.dataclass(frozen=True)
class Size:
    """`slope * n + rest[n % len(rest)]`, where n is the size of an axis; of a constant, `axis` is None and n nothing."""

    axis: int | None
    slope: int
    rest: tuple[int, ...]

    def __add__(self, other: Size) -> Size:
        axis, one, two = _align(self, other, 1)
        return _simplify(axis, self.slope + other.slope, [a + b for a, b in zip(one, two, strict=True)])

    def __sub__(self, other: Size) -> Size:
        return self + make_constant_size(-1) * other

    def __mul__(self, other: Size) -> Size:
        times, size = (self, other) if self.is_constant else (other, self)
        by = times.constant
        return _simplify(size.axis, by * size.slope, [by * rest for rest in size.rest])

    def __mod__(self, other: Size) -> Size:
        by = other.constant
        if by < 1:
            raise UnknownSizeError
        axis, rests, _ = _align(self, make_constant_size(0), by)
        return _simplify(axis, 0, [(self.slope * n + rest) % by for n, rest in enumerate(rests)])

    @property
    def is_constant(self) -> bool:
        """Whether it is one number for every size."""
        return self.axis is None

    @property
    def constant(self) -> int:
        """The number that it is for every size."""
        if not self.is_constant:
            raise UnknownSizeError
        return self.rest[0]


def make_constant_size(value: int) -> Size:
    """A number that is the same for every size."""
    return Size(None, 0, (value,))


def make_axis_size(axis: int) -> Size:
    """The size of an axis."""
    return Size(axis, 1, (0,))


def _align(one: Size, other: Size, by: int) -> tuple[int | None, list[int], list[int]]:
    """What both are of, and the rests of each over a period of both and of `by`."""
    axes = {size.axis for size in (one, other) if not size.is_constant}
    period = math.lcm(len(one.rest), len(other.rest), by)
    if len(axes) > 1 or period > _LONGEST_PERIOD:
        raise UnknownSizeError
    rests = [[size.rest[n % len(size.rest)] for n in range(period)] for size in (one, other)]
    return next(iter(axes), None), rests[0], rests[1]


def _simplify(axis: int | None, slope: int, rest: list[int]) -> Size:
    if slope == 0 and len(set(rest)) == 1:
        return make_constant_size(rest[0])
    return Size(axis, slope, tuple(rest))


def follow_sizes(tensor: Any, source: Any) -> np.ndarray[Any, Any]:
    """The numbers of `tensor`, each a Size of the axes of `source`.

    Args:
        tensor: A tensor of whole numbers in a graph.
        source: Another tensor of it, of known rank.

    Raises:
        UnknownSizeError: they come from anything else, or in a way that is not followed.
    """
    return _Follower(source).follow(tensor)


class _Follower:
    def __init__(self, source: Any) -> None:
        self._source = find_origin(source)
        self._known: dict[str, np.ndarray[Any, Any]] = {}

    def follow(self, tensor: Any) -> np.ndarray[Any, Any]:
        if tensor.name not in self._known:
            if len(self._known) > _NODES or not tensor.dtype.is_integer:
                raise UnknownSizeError
            self._known[tensor.name] = self._compute(tensor.op)
        return self._known[tensor.name]

    def _compute(self, operation: Any) -> np.ndarray[Any, Any]:
        if operation.type == "Const":
            return _wrap(tf.make_ndarray(operation.get_attr("value")))
        if operation.type == "Shape":
            return self._read_shape(find_origin(operation.inputs[0]))
        compute = _OPS.get(operation.type)
        if compute is None:
            raise UnknownSizeError
        values = [self.follow(tensor) for tensor in operation.inputs]
        try:
            return np.asarray(compute(operation, *values), object)
        except (IndexError, ValueError) as error:
            raise UnknownSizeError from error

    def _read_shape(self, tensor: Any) -> np.ndarray[Any, Any]:
        if tensor is not self._source and not tensor.shape.is_fully_defined():
            raise UnknownSizeError
        dims = tensor.shape.as_list()
        sizes = [make_axis_size(axis) if dim is None else make_constant_size(dim) for axis, dim in enumerate(dims)]
        return np.array(sizes, object)


def find_origin(tensor: Any) -> Any:
    """The tensor behind those that hand it on as it is."""
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor


def _wrap(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    wrapped = np.empty(values.shape, object)
    for place, value in np.ndenumerate(values):
        wrapped[place] = make_constant_size(int(value))
    return wrapped


def _read(values: np.ndarray[Any, Any]) -> list[int]:
    return [size.constant for size in values.ravel()]


def _slice(operation: Any, value: np.ndarray[Any, Any], *places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """StridedSlice without an ellipsis."""
    masks = {
        name: operation.get_attr(f"{name}_mask") for name in ("begin", "end", "shrink_axis", "new_axis", "ellipsis")
    }
    if masks["ellipsis"]:
        raise UnknownSizeError
    index: list[Any] = []
    for place, (begin, end, step) in enumerate(zip(*map(_read, places), strict=True)):
        on = {name for name, mask in masks.items() if mask >> place & 1}
        if "new_axis" in on:
            index.append(None)
        elif "shrink_axis" in on:
            index.append(begin)
        else:
            index.append(slice(None if "begin" in on else begin, None if "end" in on else end, step))
    return np.asarray(value[tuple(index)], object)


_OPS: Mapping[str, Callable[..., Any]] = {
    "AddV2": lambda _, a, b: a + b,
    "Cast": lambda _, a: a,
    "ConcatV2": lambda _, *values: np.concatenate(values[:-1], _read(values[-1])[0]),
    "ExpandDims": lambda _, a, axis: np.expand_dims(a, _read(axis)[0]),
    "FloorMod": lambda _, a, b: a % b,
    "Identity": lambda _, a: a,
    "Mul": lambda _, a, b: a * b,
    "Pack": lambda op, *values: np.stack(values, op.get_attr("axis")),
    "Reshape": lambda _, a, shape: a.reshape(_read(shape)),
    "StridedSlice": _slice,
    "Sub": lambda _, a, b: a - b,
}
