"""Calls with arrays that lie on the GPU: read in place, answered in place, in the order of the streams of those who made them.

Of torch's tensors the work goes into torch's current stream. Of libraries whose stream is not known it goes into one of our
own: DLPack sees to it that it waits for what they did before, and their arrays are held until they have been read.
"""

from __future__ import annotations

import collections
import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from beforehand.backends import cuda, dlpack
from beforehand.backends.device_array import DeviceArray, DeviceInput, OutputPool
from beforehand.backends.tensorrt_context import TensorRtContext
from beforehand.backends.tensorrt_host_calls import HostCalls
from beforehand.backends.tensorrt_places import Places
from beforehand.errors import SampleError
from beforehand.records import Shape

_ALIGNMENT = 256  # bytes: what TensorRT wants of addresses
_MOST_HELD = 16  # calls whose inputs are held: the next waits for the oldest


class DeviceCalls:
    """Of one context.

    Args:
        context: The context.
        host: Copies inputs that lie on the host.
        places: Chooses what is read and written in place.
        device: The GPU's number.
    """

    def __init__(self, context: TensorRtContext, host: HostCalls, places: Places, device: int) -> None:
        self._context, self._host, self._places, self._device = context, host, places, device
        self._within = cuda.import_runtime().cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._pool = OutputPool(context.stream)
        self._event = cuda.Event()  # behind our work in our own stream
        self._held: collections.deque[tuple[cuda.Event, list[Any]]] = collections.deque()

    @property
    def buffer_bytes(self) -> int:
        """Device memory of outputs, given out or kept for the next."""
        return self._pool.bytes

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """The outputs, on the GPU; the work is in the streams when this returns.

        Of torch's tensors they are torch's tensors, which costs less than to hand them over; else `DeviceArray`s.

        Args:
            arrays: `DeviceInput`s, and NumPy arrays, which are copied.

        Raises:
            SampleError: BH122, an array on the GPU that cannot be read as it lies.
        """
        context = self._context
        context.set_shapes(tuple([array.shape for array in arrays]))
        self._host.finish()
        torchs = next((stream for stream in map(_find_stream, arrays) if stream is not None), None)
        stream = context.handle if torchs is None else torchs
        context.enter(stream)
        try:
            views = self._read(arrays, stream)
            outputs = self._run(views, stream, self._make_array if torchs is None else self._make_tensor)
        finally:
            context.leave(stream)
        if torchs is None:
            self._event.record(stream)
        held = [view.owner for view in views.values() if view.stream is None]
        if held:
            self._hold(held, stream)
        return outputs

    def _run(
        self, views: dict[str, dlpack.View], stream: int, make: Callable[[Shape, np.dtype[Any]], Any]
    ) -> list[Any]:
        """Put all of it into the stream: copies of what is not read in place, the run, copies of what is not written there."""
        context = self._context
        outputs, copies = {}, []
        for (name, dtype), shape in zip(context.outputs, context.found, strict=True):
            if name not in context.computed:
                outputs[name] = made = make(shape, dtype)
                copies += self._place(name, made.data_ptr(), math.prod(shape) * dtype.itemsize)
        for name, view in views.items():
            for address, buffer, size in self._place(name, view.address, view.count_bytes()):
                context.copy(buffer, address, size, self._within, stream)
        context.run(stream)
        for (name, dtype), shape in zip(context.outputs, context.found, strict=True):
            if name in context.computed:  # it came into a buffer of the context's
                outputs[name] = made = make(shape, dtype)
                copies.append((made.data_ptr(), context.computed[name].address, math.prod(shape) * dtype.itemsize))
        for address, buffer, size in copies:
            context.copy(address, buffer, size, self._within, stream)
        return [outputs[name] for name, _ in context.outputs]

    def _read(self, arrays: Sequence[Any], stream: int) -> dict[str, dlpack.View]:
        """Where the inputs lie that lie on the GPU; those that do not are sent there."""
        views = {}
        for (name, dtype), array in zip(self._context.inputs, arrays, strict=True):
            if isinstance(array, np.ndarray):
                self._host.send(name, array, stream)
            else:
                views[name] = _read(name, array, stream)
                self._check(name, dtype, views[name])
        return views

    def _place(self, name: str, address: int, size: int) -> list[tuple[int, int, int]]:
        """Choose where the run has a tensor: what is to be copied, as the caller's address, the buffer's, and the bytes."""
        chosen = self._places.point(name, address, size)
        return [] if chosen == address else [(address, chosen, size)]

    def _make_array(self, shape: Shape, dtype: np.dtype[Any]) -> DeviceArray:
        memory = self._pool.allocate(max(1, math.prod(shape) * dtype.itemsize))
        return DeviceArray(memory, self._event, shape, dtype, self._device)

    def _make_tensor(self, shape: Shape, dtype: np.dtype[Any]) -> Any:
        """A tensor in torch's own memory."""
        return dlpack.make_tensor(shape, dtype, self._device)

    def _hold(self, arrays: list[Any], stream: int) -> None:
        while self._held and (len(self._held) >= _MOST_HELD or self._held[0][0].is_reached()):
            self._held.popleft()[0].wait()
        event = cuda.Event()
        event.record(stream)
        self._held.append((event, arrays))

    def _check(self, name: str, dtype: np.dtype[Any], view: dlpack.View) -> None:
        """Refuse what cannot be read as it lies.

        Raises:
            SampleError: BH122.
        """
        if view.device != self._device:
            raise SampleError(
                f"{name} lies on GPU {view.device}, the engine runs on GPU {self._device}",
                advice="`device` of beforehand.load, or the array on the other GPU",
            )
        if view.dtype != dtype:
            raise SampleError(f"{name} on the GPU is of another dtype than {dtype.name}")
        if view.strides is not None and not dlpack.is_contiguous(view.shape, view.strides):
            raise SampleError(
                f"{name} on the GPU is not contiguous", why=f"its strides are {view.strides} of the shape {view.shape}",
                advice="a contiguous copy: `tensor.contiguous()`",
            )  # fmt: skip
        if view.address % _ALIGNMENT:
            raise SampleError(
                f"{name} on the GPU begins at no multiple of {_ALIGNMENT} bytes",
                advice="a copy of it: `tensor.clone()`",
            )

    def __del__(self) -> None:
        with contextlib.suppress(cuda.CudaError, TypeError, AttributeError):  # the process ends, and CUDA with it
            self._pool.close()


def _find_stream(given: Any) -> int | None:
    """The stream in which a torch tensor's library works now; None of everything else."""
    if not isinstance(given, DeviceInput) or not dlpack.is_of_torch(given.array):
        return None
    return dlpack.find_torch_stream(given.array.device.index)


def _read(name: str, given: DeviceInput, stream: int) -> dlpack.View:
    try:
        return dlpack.read(given.array, stream)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise SampleError(
            f"{name} on the GPU cannot be read: its library does not hand it out",
            why=f"{type(error).__name__}: {error}",
        ) from error
