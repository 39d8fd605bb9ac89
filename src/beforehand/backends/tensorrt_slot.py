"""What one caller of a TensorRT engine needs: a context, a stream and buffers. Calls with arrays of the host and of the GPU.

Method: NVIDIA's own guide for `execute_async_v3` and output allocators. All that follows from the shapes is done when they change.
"""

from __future__ import annotations

import collections
import ctypes
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from beforehand.backends import cuda, dlpack
from beforehand.backends.device_array import DeviceArray, DeviceInput, OutputMemory, OutputPool
from beforehand.backends.make_aligned import make_aligned
from beforehand.errors import EngineRunError, SampleError

_ROUND = 512  # bytes: CUDA's own alignment; buffers grow by doubling
_ALIGNMENT = 256  # bytes: what TensorRT wants of addresses
_MOST_HELD = 16  # calls whose work is put into the stream and not done: the next waits for the oldest

Specs = Sequence[tuple[str, "np.dtype[Any]"]]


class Buffer:
    """Device memory and pinned host memory of one tensor, as large as the largest so far."""

    def __init__(self) -> None:
        self.size = 0
        self.device = self.host = 0
        self.view: np.ndarray[Any, Any] = np.empty(0, np.uint8)

    def grow(self, size: int) -> None:
        """Have room for so many bytes."""
        if size <= self.size:
            return
        self.free()
        size = max(_ROUND, 1 << (size - 1).bit_length())
        self.device = int(cuda.check("cudaMalloc", size))
        try:
            self.host = int(cuda.check("cudaMallocHost", size))
        except cuda.CudaError:
            cuda.check("cudaFree", self.device)
            raise
        self.size = size
        self.view = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.host))

    def free(self) -> None:
        """Give the memory back."""
        if self.size:
            self.size = 0
            cuda.check("cudaFree", self.device)
            cuda.check("cudaFreeHost", self.host)


class Slot:
    """For one caller at a time.

    Args:
        trt: The TensorRT module.
        context: An execution context of its own.
        inputs: Names and dtypes.
        outputs: Likewise.
        device: The GPU's number.
        compiling: Held while kernels may be compiled, which is at the first run of other shapes than before: contexts share
            a cache of them.
    """

    def __init__(
        self, trt: Any, context: Any, inputs: Specs, outputs: Specs, device: int, compiling: threading.Lock
    ) -> None:
        runtime = cuda.import_runtime()
        self._trt, self._context, self._device, self._compiling = trt, context, device, compiling
        self._is_new = False  # whether the shapes are
        self._stream = cuda.check("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking)
        self._handle = int(self._stream)
        self._to_device = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._to_host = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._inputs, self._outputs = inputs, outputs
        self._sources = {name: Buffer() for name, _ in inputs}
        self._results = {name: Buffer() for name, _ in outputs}
        self._addresses: dict[str, int] = {}  # as the context has them
        self._allocators: dict[str, Any] = {}  # of outputs whose shape comes of the values
        self._shapes: tuple[tuple[int, ...], ...] | None = None
        self._found: list[tuple[int, ...]] = []  # shapes of the outputs
        self._pool = OutputPool(self._stream)
        self._events: list[cuda.Event] = []
        self._held: collections.deque[tuple[cuda.Event, list[Any]]] = collections.deque()  # inputs the GPU may yet read
        self._is_pinned_read = False  # host buffers may be, by copies under way

    @property
    def bytes(self) -> int:
        """Device memory of its buffers."""
        return self._pool.bytes + sum(buffer.size for buffer in (*self._sources.values(), *self._results.values()))

    # ------------------------------------------------------------------------------------------------- arrays of the host

    def run(self, arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The outputs, on the host, in memory of their own."""
        self._set_shapes(tuple([array.shape for array in arrays]))
        for (name, _), array in zip(self._inputs, arrays, strict=True):
            self._send(name, array)
        for name, size in self._list_sizes():
            buffer = self._results[name]
            buffer.grow(size)
            self._point(name, buffer.device)
        self._execute()
        return self._fetch()

    def _send(self, name: str, array: np.ndarray[Any, Any]) -> None:
        if self._is_pinned_read:
            cuda.check("cudaStreamSynchronize", self._stream)
            self._is_pinned_read = False
        buffer = self._sources[name]
        buffer.grow(max(1, array.nbytes))
        self._point(name, buffer.device)
        if array.nbytes:
            np.copyto(np.ndarray(array.shape, array.dtype, buffer.view.data), array)
            cuda.check("cudaMemcpyAsync", buffer.device, buffer.host, array.nbytes, self._to_device, self._stream)

    def _fetch(self) -> list[np.ndarray[Any, Any]]:
        if self._allocators:
            cuda.check("cudaStreamSynchronize", self._stream)
            self._read_shapes()
        made = [make_aligned(shape, dtype) for (_, dtype), shape in zip(self._outputs, self._found, strict=True)]
        for (name, _), array in zip(self._outputs, made, strict=True):
            if array.nbytes:
                buffer = self._results[name]
                cuda.check("cudaMemcpyAsync", buffer.host, buffer.device, array.nbytes, self._to_host, self._stream)
        cuda.check("cudaStreamSynchronize", self._stream)
        for (name, dtype), array in zip(self._outputs, made, strict=True):
            if array.nbytes:
                np.copyto(array, np.ndarray(array.shape, dtype, self._results[name].view.data))
        return made

    # -------------------------------------------------------------------------------------------------- arrays of the GPU

    def run_on_device(self, arrays: Sequence[Any]) -> list[DeviceArray]:
        """The outputs, on the GPU; they are there once the work that is put into the slot's stream here is done.

        Args:
            arrays: `DeviceInput`s, and NumPy arrays, which are copied.
        """
        event = self._take_event()
        self._set_shapes(tuple([array.shape for array in arrays]))
        held = []
        for (name, dtype), array in zip(self._inputs, arrays, strict=True):
            if isinstance(array, np.ndarray):
                self._send(name, array)
            else:
                view = self._read(name, dtype, array, event)
                held.append(view.capsule)
                self._point(name, view.address)
        self._is_pinned_read = len(held) < len(arrays)
        memory: dict[str, OutputMemory] = {}
        for name, size in self._list_sizes():
            memory[name] = self._pool.allocate(size)
            self._point(name, memory[name].address)
        self._execute()
        if self._allocators:
            self._copy_allocated(memory)
        event.record(self._stream)
        self._held.append((event, held))
        return [
            DeviceArray(memory[name], event, shape, dtype, self._device)
            for (name, dtype), shape in zip(self._outputs, self._found, strict=True)
        ]

    def _take_event(self) -> cuda.Event:
        """An event for this call. Inputs of calls that are done are dropped; of too many that are not, the oldest is awaited.

        Events are used again: behind later work of the same stream, they still are behind that of earlier calls.
        """
        if len(self._held) >= _MOST_HELD:
            self._held[0][0].wait()
        while self._held and self._held[0][0].is_reached():
            self._events.append(self._held.popleft()[0])
        return self._events.pop() if self._events else cuda.Event()

    def _read(self, name: str, dtype: np.dtype[Any], given: DeviceInput, event: cuda.Event) -> dlpack.View:
        """Where an input lies; what could not be read as it lies is refused.

        Raises:
            SampleError: BH122.
        """
        try:
            view = dlpack.read(given.array, self._handle, event)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise SampleError(
                f"{name} on the GPU cannot be read: its library does not hand it out",
                why=f"{type(error).__name__}: {error}",
            ) from error
        if view.device != self._device:
            raise SampleError(
                f"{name} lies on GPU {view.device}, the engine runs on GPU {self._device}",
                advice="`device` of beforehand.load, or the array on the other GPU",
            )
        if view.dtype != dtype:
            raise SampleError(f"{name} on the GPU is of another dtype than {dtype.name}")
        if view.strides is not None and not _is_contiguous(view.shape, view.strides):
            raise SampleError(
                f"{name} on the GPU is not contiguous", why=f"its strides are {view.strides} of the shape {view.shape}",
                advice="a contiguous copy: `tensor.contiguous()`",
            )  # fmt: skip
        if view.address % _ALIGNMENT:
            raise SampleError(
                f"{name} on the GPU begins at no multiple of {_ALIGNMENT} bytes",
                advice="a copy of it: `tensor.clone()`",
            )
        return view

    def _copy_allocated(self, memory: dict[str, OutputMemory]) -> None:
        """Outputs that came into the allocators' buffers, into memory of their own."""
        cuda.check("cudaStreamSynchronize", self._stream)
        self._read_shapes()
        same = cuda.import_runtime().cudaMemcpyKind.cudaMemcpyDeviceToDevice
        for (name, dtype), shape in zip(self._outputs, self._found, strict=True):
            if name in self._allocators:
                size = max(1, math.prod(shape) * dtype.itemsize)
                memory[name] = self._pool.allocate(size)
                source = self._results[name].device
                if source:
                    cuda.check("cudaMemcpyAsync", memory[name].address, source, size, same, self._stream)

    # ---------------------------------------------------------------------------------------------------------- both

    def _set_shapes(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        if shapes == self._shapes:
            return
        self._shapes = None  # until all is set
        self._is_new = True
        for (name, _), shape in zip(self._inputs, shapes, strict=True):
            if not self._context.set_input_shape(name, shape):
                raise EngineRunError(f"TensorRT does not take the shape {shape} of {name}")
        self._found = [tuple(self._context.get_tensor_shape(name)) for name, _ in self._outputs]
        for (name, _), shape in zip(self._outputs, self._found, strict=True):
            if any(size < 0 for size in shape) and name not in self._allocators:
                self._allocators[name] = _make_allocator(self._trt, self._results[name])
                self._context.set_output_allocator(name, self._allocators[name])
        self._shapes = shapes

    def _list_sizes(self) -> list[tuple[str, int]]:
        """Names and bytes of the outputs whose shapes follow from those of the inputs."""
        return [
            (name, max(1, math.prod(shape) * dtype.itemsize))
            for (name, dtype), shape in zip(self._outputs, self._found, strict=True)
            if name not in self._allocators
        ]

    def _point(self, name: str, address: int) -> None:
        if self._addresses.get(name) != address:
            self._context.set_tensor_address(name, address)
            self._addresses[name] = address

    def _execute(self) -> None:
        if self._is_new:
            with self._compiling:
                is_run = self._context.execute_async_v3(self._handle)
            self._is_new = False
        else:
            is_run = self._context.execute_async_v3(self._handle)
        if not is_run:
            raise EngineRunError("TensorRT could not run the engine")

    def _read_shapes(self) -> None:
        for index, (name, _) in enumerate(self._outputs):
            if name in self._allocators:
                self._found[index] = self._allocators[name].shape

    def __del__(self) -> None:
        try:
            cuda.check("cudaStreamSynchronize", self._stream)
            del self._context  # before what it uses
            self._held.clear()
            self._pool.close()
            for buffer in (*self._sources.values(), *self._results.values()):
                buffer.free()
            cuda.check("cudaStreamDestroy", self._stream)
        except (cuda.CudaError, TypeError, AttributeError):  # the process ends, and CUDA with it
            pass


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _make_allocator(trt: Any, buffer: Buffer) -> Any:
    class Allocator(trt.IOutputAllocator):
        """Gives TensorRT memory for an output when it knows the size, and hears of its shape."""

        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.buffer = buffer
            self.shape: tuple[int, ...] = ()

        def reallocate_output_async(self, name: str, memory: int, size: int, alignment: int, stream: int) -> int:
            self.buffer.grow(max(1, size))
            return self.buffer.device

        def reallocate_output(self, name: str, memory: int, size: int, alignment: int) -> int:
            self.buffer.grow(max(1, size))
            return self.buffer.device

        def notify_shape(self, name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return Allocator()
