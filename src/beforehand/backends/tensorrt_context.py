"""One execution context of a TensorRT engine with a stream of its own: shapes, addresses, and the run itself.

Method: NVIDIA's own guide for `execute_async_v3` and output allocators. All that follows from the shapes is done when they change.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from beforehand.backends import cuda
from beforehand.backends.device_buffer import DeviceBuffer
from beforehand.errors import EngineRunError

# Held in each call of TensorRT, by whatever thread and engine: TensorRT-RTX compiles kernels inside of its runs, and with
# threads in it at once it was seen to crash and to compute wrongly (1.4). What is put into the streams overlaps all the same.
CALLING = threading.RLock()
Specs = Sequence[tuple[str, "np.dtype[Any]"]]
Shapes = tuple[tuple[int, ...], ...]


class TensorRtContext:
    """For one caller at a time.

    Args:
        trt: The TensorRT module.
        context: An execution context.
        inputs: Names and dtypes.
        outputs: Likewise.
        read_error: Gives what TensorRT said last.

    Attributes:
        stream: Where its work goes.
        handle: The stream's number.
        found: Shapes of the outputs of the last run.
        sizes: Names and bytes of the outputs whose shapes follow from those of the inputs.
        computed: Buffers of the other outputs, by name: TensorRT asks for them when it knows how large they are.
        buffers: For inputs and outputs that are not read or written where callers have them, by name.
    """

    def __init__(self, trt: Any, context: Any, inputs: Specs, outputs: Specs, read_error: Callable[[], str]) -> None:
        runtime = cuda.import_runtime()
        self._trt, self._context, self._read_error = trt, context, read_error
        self.inputs, self.outputs = inputs, outputs
        self.stream = cuda.check("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking)
        self.handle = int(self.stream)
        self.found: list[tuple[int, ...]] = []
        self.sizes: list[tuple[str, int]] = []
        self.computed: dict[str, DeviceBuffer] = {}
        self.buffers = {name: DeviceBuffer() for name, _ in (*inputs, *outputs)}
        self._allocators: dict[str, Any] = {}
        self._addresses: dict[str, int] = {}
        self._shapes: Shapes | None = None

    def set_shapes(self, shapes: Shapes) -> None:
        """Have the next run be of inputs of these shapes.

        Raises:
            EngineRunError: BH601, the engine does not take them.
        """
        if shapes == self._shapes:
            return
        self._shapes = None  # until all is set
        with CALLING:
            for (name, _), shape in zip(self.inputs, shapes, strict=True):
                if not self._context.set_input_shape(name, shape):
                    raise EngineRunError(f"TensorRT does not take the shape {shape} of {name}", why=self._read_error())
            self.found = [tuple(self._context.get_tensor_shape(name)) for name, _ in self.outputs]
        for (name, _), shape in zip(self.outputs, self.found, strict=True):
            if any(size < 0 for size in shape) and name not in self.computed:
                self.computed[name] = DeviceBuffer()
                self._allocators[name] = _make_allocator(self._trt, self.computed[name])
                self._context.set_output_allocator(name, self._allocators[name])
        self.sizes = [
            (name, max(1, math.prod(shape) * dtype.itemsize))
            for (name, dtype), shape in zip(self.outputs, self.found, strict=True)
            if name not in self.computed
        ]
        self._shapes = shapes

    def point(self, name: str, address: int) -> None:
        """Have the next run find an input, or put an output, there. A change costs: CUDA graphs are captured with addresses."""
        if self._addresses.get(name) != address:
            self._context.set_tensor_address(name, address)
            self._addresses[name] = address

    @property
    def buffer_bytes(self) -> int:
        """Device memory of all buffers."""
        return sum(buffer.size for buffer in (*self.buffers.values(), *self.computed.values()))

    def execute(self) -> None:
        """Put the run into the stream; where outputs are allocated meanwhile, wait for it, and find their shapes.

        Raises:
            EngineRunError: BH601.
        """
        with CALLING:
            is_run = self._context.execute_async_v3(self.handle)
        if not is_run:
            raise EngineRunError("TensorRT could not run the engine", why=self._read_error())
        if self._allocators:
            self.wait()
            for index, (name, _) in enumerate(self.outputs):
                if name in self._allocators:
                    self.found[index] = self._allocators[name].shape

    def copy(self, target: int, source: int, size: int, kind: Any) -> None:
        """Put a copy of so many bytes into the stream; `kind` is CUDA's."""
        if size:
            cuda.check("cudaMemcpyAsync", target, source, size, kind, self.stream)

    def wait(self) -> None:
        """Return once all work in the stream is done."""
        cuda.check("cudaStreamSynchronize", self.stream)

    def __del__(self) -> None:
        with contextlib.suppress(cuda.CudaError, TypeError, AttributeError):  # the process ends, and CUDA with it
            self.wait()
            with CALLING:
                del self._context  # before what it uses
            cuda.check("cudaStreamDestroy", self.stream)


def _make_allocator(trt: Any, buffer: DeviceBuffer) -> Any:
    class Allocator(trt.IOutputAllocator):
        """Gives TensorRT memory for an output when it knows the size, and hears of its shape."""

        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.buffer = buffer
            self.shape: tuple[int, ...] = ()

        def reallocate_output_async(self, name: str, memory: int, size: int, alignment: int, stream: int) -> int:
            return self.buffer.grow(size)

        def reallocate_output(self, name: str, memory: int, size: int, alignment: int) -> int:
            return self.buffer.grow(size)

        def notify_shape(self, name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return Allocator()
