"""The weights of a model in few variables: one for each dtype, each weight in rows of 64 bytes.

Hundreds of captured variables cost every call 0.4 ms and more even when no kernel reads them (260 in ResNet50). Rows of
64 bytes keep every slice aligned, so that SplitV and Slice, in the native segment, hand out views and copy nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from beforehand.records import Weight
from beforehand.store import layout

_ROW_BYTES = layout.WEIGHT_ALIGNMENT


@dataclasses.dataclass(frozen=True)
class _Place:
    dtype: str
    row: int
    rows: int


class PackedWeights(tf.__internal__.tracking.AutoTrackable):
    """The weights of all signatures, each stored once; assigned variables apart, each as itself."""

    def __init__(
        self,
        weights: Iterable[Weight],
        assigned: Iterable[Weight],
        read: Callable[[Weight], np.ndarray[Any, Any]],
    ) -> None:
        super().__init__()
        self._places: dict[str, _Place] = {}
        groups: dict[str, list[Weight]] = {}
        for weight in weights:
            if weight.checkpoint_key not in self._places:
                groups.setdefault(weight.dtype, []).append(weight)
                self._places[weight.checkpoint_key] = _Place(weight.dtype, 0, 0)
        self.packed = {dtype: self._pack(dtype, group, read) for dtype, group in sorted(groups.items())}
        self.assigned: dict[str, Any] = {}
        for weight in assigned:
            if weight.checkpoint_key not in self.assigned:
                variable = tf.Variable(read(weight), dtype=weight.dtype, shape=weight.shape, name=weight.node)
                self.assigned[weight.checkpoint_key] = variable

    def _pack(self, dtype: str, group: Sequence[Weight], read: Callable[[Weight], np.ndarray[Any, Any]]) -> Any:
        per_row = _count_per_row(dtype)
        row = 0
        for weight in group:
            rows = -(-_count_elements(weight) // per_row)
            self._places[weight.checkpoint_key] = _Place(dtype, row, rows)
            row += rows
        table = make_table(row, per_row, dtype)
        flat = table.reshape(-1)
        for weight in group:
            start = self._places[weight.checkpoint_key].row * per_row
            flat[start : start + _count_elements(weight)] = read(weight).reshape(-1)
        return tf.Variable(share_table(table), trainable=False, name=f"weights_{dtype}")

    def find_bytes(self, weight: Weight) -> tuple[str, int, int]:
        """Where a weight lies: the packed variable (by its dtype), offset and length in bytes."""
        place = self._places[weight.checkpoint_key]
        size = tf.as_dtype(weight.dtype).size
        return place.dtype, place.row * _count_per_row(place.dtype) * size, _count_elements(weight) * size

    def take(self, weights: Sequence[Weight]) -> list[tf.Tensor]:
        """The values of `weights`, to be called while a function is traced."""
        values: dict[str, tf.Tensor] = {}
        for dtype in sorted({weight.dtype for weight in weights}):
            group = {weight.checkpoint_key: weight for weight in weights if weight.dtype == dtype}
            values.update(self._cut(dtype, group))
        return [values[weight.checkpoint_key] for weight in weights]

    def _cut(self, dtype: str, group: dict[str, Weight]) -> dict[str, tf.Tensor]:
        # An empty weight begins where the next one does, and ends there: it comes first.
        keys = sorted(group, key=lambda key: (self._places[key].row, self._places[key].rows))
        sizes, at, wanted = [], 0, []
        for key in keys:
            place = self._places[key]
            if place.row > at:
                sizes.append(place.row - at)
            wanted.append(len(sizes))
            sizes.append(place.rows)
            at = place.row + place.rows
        table = self.packed[dtype]
        if table.shape[0] > at:
            sizes.append(table.shape[0] - at)
        parts = tf.split(table.read_value(), sizes, axis=0)
        return {key: _shape_part(parts[index], group[key]) for key, index in zip(keys, wanted, strict=True)}


def make_table(rows: int, per_row: int, dtype: str) -> np.ndarray[Any, Any]:
    """Zeros that begin at a multiple of 64 bytes; NumPy's own do so at one of 16."""
    numpy_dtype = np.dtype(tf.as_dtype(dtype).as_numpy_dtype)
    if numpy_dtype.hasobject:
        return np.zeros([rows, per_row], numpy_dtype)
    count = rows * per_row * numpy_dtype.itemsize
    raw = np.zeros(count + _ROW_BYTES, np.uint8)
    start = -raw.ctypes.data % _ROW_BYTES
    table: np.ndarray[Any, Any] = raw[start : start + count].view(numpy_dtype).reshape(rows, per_row)
    return table


def share_table(table: np.ndarray[Any, Any]) -> Any:
    """The same memory as a tensor; nobody else may write to it any more.

    `tf.constant` copies an array, and again what is not aligned: three times 2.6 GB were seen for a model of that size.
    """
    if table.dtype.kind in "iufc":  # what DLPack knows everywhere; not bfloat16, truths, text
        return tf.experimental.dlpack.from_dlpack(table.__dlpack__())
    return table


def _shape_part(part: tf.Tensor, weight: Weight) -> tf.Tensor:
    count = _count_elements(weight)
    flat = tf.reshape(part, [-1])
    if count % _count_per_row(weight.dtype):
        flat = tf.slice(flat, [0], [count])
    return tf.reshape(flat, weight.shape)


def _count_per_row(dtype: str) -> int:
    size = tf.as_dtype(dtype).size
    return max(1, _ROW_BYTES // size) if size else 1  # strings have no size


def _count_elements(weight: Weight) -> int:
    return int(np.prod(weight.shape, dtype=np.int64))
