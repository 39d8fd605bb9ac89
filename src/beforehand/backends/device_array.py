"""Arrays on a GPU: what engines are given where they lie, and what they give back, for any library that reads DLPack."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from beforehand.backends import cuda, dlpack
from beforehand.backends.device_buffer import round_up

_DEFAULT_STREAM = 1  # in DLPack: CUDA's legacy default stream
_NO_WAIT = -1


class OutputMemory:
    """Device memory of one output of one call, from a pool that its stream reuses.

    Args:
        pool: Where it came from, and goes back to.
        address: Where it is.
        size: Bytes.
    """

    def __init__(self, pool: OutputPool, address: int, size: int) -> None:
        self.pool, self.address, self.size = pool, address, size
        self.readers: set[int] = set()  # handles of streams that others read it in

    def __del__(self) -> None:
        self.pool.take_back(self)


class OutputPool:
    """Memory for outputs of calls on one stream. What comes back is given out again once its readers' streams are done."""

    def __init__(self, stream: cuda.Stream) -> None:
        self._stream = stream
        self._free: dict[int, list[int]] = {}
        self._event: cuda.Event | None = None
        self.bytes = 0
        self._closed = False

    def allocate(self, size: int) -> OutputMemory:
        """Memory of at least `size` bytes.

        Raises:
            CudaError: There is none.
        """
        size = round_up(size)
        free = self._free.get(size)
        if free:
            return OutputMemory(self, free.pop(), size)
        address = int(cuda.check("cudaMalloc", size))
        self.bytes += size
        return OutputMemory(self, address, size)

    def take_back(self, memory: OutputMemory) -> None:
        """Nobody has it any more; work that reads it may still be under way in other streams."""
        try:
            if self._closed:
                cuda.check("cudaFree", memory.address)  # waits for the device
                return
            for reader in memory.readers:
                if cuda.is_idle(reader):
                    continue
                self._event = self._event or cuda.Event()
                self._event.record(reader)
                self._event.hold_back(self._stream.handle)
            self._free.setdefault(memory.size, []).append(memory.address)
        except (cuda.CudaError, TypeError, AttributeError):  # the process ends, and CUDA with it
            pass

    def close(self) -> None:
        """Give back what is free now; the rest when it comes back."""
        self._closed = True
        self._stream.wait()
        for address in (address for addresses in self._free.values() for address in addresses):
            cuda.check("cudaFree", address)
        self._free = {}


class DeviceArray:
    """An output on the GPU.

    `torch.from_dlpack(array)`, `cupy.from_dlpack(array)` and `jax.dlpack.from_dlpack(array)` take it as it lies;
    `np.asarray(array)` copies it to the host.

    Attributes:
        shape: Sizes of its dimensions.
        dtype: NumPy's.
        device: The GPU's number.
    """

    def __init__(
        self, memory: OutputMemory, ready: cuda.Event, shape: tuple[int, ...], dtype: np.dtype[Any], device: int
    ) -> None:
        self._memory, self._ready = memory, ready
        self.shape, self.dtype, self.device = shape, dtype, device

    def data_ptr(self) -> int:
        """Its address, as torch names it: what is there is not what was computed until the work in the stream is done."""
        return self._memory.address

    @property
    def ndim(self) -> int:
        """Its rank."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's device type, and the GPU's number."""
        return dlpack.CUDA, self.device

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        """A capsule for work in `stream` (a handle; None and 1: the default stream; -1: the caller sees to the order)."""
        if stream != _NO_WAIT:
            handle = 0 if stream in (None, _DEFAULT_STREAM) else int(stream or 0)
            self._ready.hold_back(handle)
            self._memory.readers.add(handle)
        return dlpack.export(self._memory.address, self.device, self.shape, self.dtype, self._memory)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """A copy on the host, once the array is there."""
        if copy is False:
            raise ValueError("an array on a GPU cannot be had on the host without a copy")
        host = np.empty(self.shape, self.dtype)
        self._ready.wait()
        if host.nbytes:
            kind = cuda.import_runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
            cuda.check("cudaMemcpy", host.ctypes.data, self._memory.address, host.nbytes, kind)
        return host if dtype is None else host.astype(dtype)

    def __repr__(self) -> str:
        return f"<{self.dtype.name} array of shape {self.shape} on GPU {self.device}>"


class DeviceInput:
    """An array of another library that lies on a GPU: its shape is known now, its memory is read when it is run.

    Args:
        array: Has `shape`, `dtype` and `__dlpack__`.
    """

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape = tuple(array.shape)
