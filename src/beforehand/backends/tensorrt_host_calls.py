"""Calls with arrays of the host: copied by way of pinned memory to the GPU, and back into memory of the caller's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from beforehand.backends import cuda
from beforehand.backends.device_buffer import DeviceBuffer, PinnedBuffer
from beforehand.backends.make_aligned import make_aligned
from beforehand.backends.tensorrt_context import TensorRtContext


class HostCalls:
    """Of one context."""

    def __init__(self, context: TensorRtContext) -> None:
        kinds = cuda.import_runtime().cudaMemcpyKind
        self._to_device, self._to_host = kinds.cudaMemcpyHostToDevice, kinds.cudaMemcpyDeviceToHost
        self._context = context
        names = [name for name, _ in (*context.inputs, *context.outputs)]
        self._device = {name: DeviceBuffer() for name in names}
        self._pinned = {name: PinnedBuffer() for name in names}
        self._is_read = False  # whether copies from pinned memory may be under way

    @property
    def buffer_bytes(self) -> int:
        """Device memory of its buffers."""
        return sum(buffer.size for buffer in self._device.values())

    def run(self, arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The outputs, on the host, in memory of their own."""
        context = self._context
        self.finish()
        context.set_shapes(tuple([array.shape for array in arrays]))
        for (name, _), array in zip(context.inputs, arrays, strict=True):
            self.send(name, array)
        for name, size in context.sizes:
            context.point(name, self._device[name].grow(size))
        context.execute()
        made = [make_aligned(shape, dtype) for (_, dtype), shape in zip(context.outputs, context.found, strict=True)]
        for (name, _), array in zip(context.outputs, made, strict=True):
            source = context.computed.get(name) or self._device[name]
            if array.nbytes:
                context.copy(self._pinned[name].grow(array.nbytes), source.address, array.nbytes, self._to_host)
        context.wait()
        self._is_read = False
        for (name, dtype), array in zip(context.outputs, made, strict=True):
            if array.nbytes:
                np.copyto(array, self._pinned[name].view(array.shape, dtype))
        return made

    def send(self, name: str, array: np.ndarray[Any, Any]) -> None:
        """Put a copy of an input to the GPU into the stream."""
        context = self._context
        context.point(name, self._device[name].grow(max(1, array.nbytes)))
        if array.nbytes:
            pinned = self._pinned[name]
            source = pinned.grow(array.nbytes)
            np.copyto(pinned.view(array.shape, array.dtype), array)
            context.copy(self._device[name].address, source, array.nbytes, self._to_device)
            self._is_read = True

    def finish(self) -> None:
        """Wait for copies from pinned memory, before it is written anew."""
        if self._is_read:
            self._context.wait()
            self._is_read = False
