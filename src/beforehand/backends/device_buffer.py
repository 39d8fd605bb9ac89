"""Memory that grows and is kept: on a GPU, and pinned on the host."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any

import numpy as np

from beforehand.backends import cuda

_LEAST = 512  # bytes: CUDA's own alignment
_STEP = 1 << 24


def round_up(size: int) -> int:
    """How much to allocate for so many bytes: of few different sizes, and at most 16 MiB more where that is less than double."""
    return max(_LEAST, 1 << (size - 1).bit_length()) if size <= _STEP else -(-size // _STEP) * _STEP


class DeviceBuffer:
    """Device memory, as large as the largest size so far."""

    _allocate, _free = "cudaMalloc", "cudaFree"

    def __init__(self) -> None:
        self.address = self.size = 0

    def grow(self, size: int) -> int:
        """Have room for so many bytes; the address, which changes when it grows.

        Raises:
            CudaError: There is no memory.
        """
        if size > self.size or not self.size:
            self._release()
            wanted = round_up(size)
            self.address = int(cuda.check(self._allocate, wanted))
            self.size = wanted
        return self.address

    def _release(self) -> None:
        if self.size:
            self.size = 0
            cuda.check(self._free, self.address)

    def __del__(self) -> None:
        with contextlib.suppress(cuda.CudaError, TypeError, AttributeError):  # the process ends, and CUDA with it
            self._release()


class PinnedBuffer(DeviceBuffer):
    """Host memory that the GPU copies from and to by itself."""

    _allocate, _free = "cudaMallocHost", "cudaFreeHost"

    def __init__(self) -> None:
        super().__init__()
        self._bytes: Any = None

    def grow(self, size: int) -> int:
        """As of its class."""
        before = self.size
        super().grow(size)
        if self.size != before:
            self._bytes = (ctypes.c_uint8 * self.size).from_address(self.address)
        return self.address

    def view_bytes(self, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Its first bytes as an array."""
        return np.ndarray((size,), np.uint8, self._bytes)
