"""The values that come to each segment while calibration samples run, kept as files: bounded in number and in bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

# Of each segment: calls, as NNCF takes by default, and bytes. What comes later is left out.
MOST_CALLS = 300
MOST_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class SegmentInputs:
    """What came to one segment: `calls` files for each input, CALL_INPUT.npy, both counted from 0.

    `digest` is of all values, with dtypes and shapes.
    """

    folder: pathlib.Path
    calls: int
    digest: str


class InputCapture:
    """Writes inputs of segments, by their index in the manifest, below a folder."""

    def __init__(self, folder: pathlib.Path, most_calls: int = MOST_CALLS, most_bytes: int = MOST_BYTES) -> None:
        self._folder, self._most_calls, self._most_bytes = folder, most_calls, most_bytes
        self._calls: dict[int, int] = {}
        self._bytes: dict[int, int] = {}
        self._digests: dict[int, Any] = {}

    def add(self, segment: int, arrays: Sequence[np.ndarray[Any, Any]]) -> None:
        """Keep one call, unless there is enough of them, or it has an empty tensor, for which no engine is ever built."""
        arrays = [np.asarray(array) for array in arrays]
        calls, size = self._calls.get(segment, 0), sum(array.nbytes for array in arrays)
        is_full = calls >= self._most_calls or (calls and self._bytes[segment] + size > self._most_bytes)
        if is_full or any(array.size == 0 for array in arrays):
            return
        folder = self._find_folder(segment)
        folder.mkdir(parents=True, exist_ok=True)
        digest = self._digests.setdefault(segment, hashlib.sha256())
        digest.update(b"call")
        for place, array in enumerate(arrays):
            np.save(folder / f"{calls}_{place}.npy", array, allow_pickle=False)
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self._calls[segment] = calls + 1
        self._bytes[segment] = self._bytes.get(segment, 0) + size

    def find(self, segment: int) -> SegmentInputs | None:
        """What came to a segment; None if nothing did."""
        if segment not in self._calls:
            return None
        return SegmentInputs(self._find_folder(segment), self._calls[segment], self._digests[segment].hexdigest())

    def _find_folder(self, segment: int) -> pathlib.Path:
        return self._folder / f"inputs_{segment}"
