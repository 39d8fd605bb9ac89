"""One execution context of a TensorRT engine: shapes, addresses, and the run itself, kept as CUDA graphs.

Method: NVIDIA's own guides for `execute_async_v3`, output allocators and stream capture. All that follows from the shapes is
done when they change. A run of an engine for one shape is captured once for its addresses, and launched from then on in whatever
stream: what a caller has in the stream before and behind it needs no events, and TensorRT is not called at all. Of engines for
ranges TensorRT-RTX captures by itself: such that may be captured by others, it builds (1.4), and crashes when they run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from beforehand.backends import cuda
from beforehand.backends.device_buffer import DeviceBuffer
from beforehand.backends.tensorrt_graphs import Graphs
from beforehand.errors import EngineRunError

# Held in each call of TensorRT, by whatever thread and engine: TensorRT-RTX compiles kernels inside of its runs, and with
# threads in it at once it was seen to crash and to compute wrongly (1.4). What is put into the streams overlaps all the same.
CALLING = threading.RLock()
DEFAULT_STREAM = 0
_MOST_PLANS = 256
Specs = Sequence[tuple[str, "np.dtype[Any]"]]
Shapes = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What follows from the shapes of the inputs: those of the outputs, and the bytes of each whose shape is known."""

    found: tuple[tuple[int, ...], ...]
    sizes: tuple[tuple[str, int], ...]


class TensorRtContext:
    """For one caller at a time.

    Args:
        trt: The TensorRT module.
        context: An execution context.
        inputs: Names and dtypes.
        outputs: Likewise.
        read_error: Gives what TensorRT said last.

    Attributes:
        stream: Its own, for calls that have none.
        handle: The stream's number.
        found: Shapes of the outputs of the last run.
        sizes: Names and bytes of the outputs whose shapes follow from those of the inputs.
        computed: Buffers of the other outputs, by name: TensorRT asks for them when it knows how large they are.
        buffers: For inputs and outputs that are not read or written where callers have them, by name.
    """

    def __init__(self, trt: Any, context: Any, inputs: Specs, outputs: Specs, read_error: Callable[[], str]) -> None:
        self._trt, self._context, self._read_error = trt, context, read_error
        self.inputs, self.outputs = inputs, outputs
        self.stream = cuda.Stream()
        self.handle = self.stream.handle
        self.found: list[tuple[int, ...]] = []
        self.sizes: tuple[tuple[str, int], ...] = ()
        self.computed: dict[str, DeviceBuffer] = {}
        self.buffers = {name: DeviceBuffer() for name, _ in (*inputs, *outputs)}
        self._scratch: DeviceBuffer | None = None
        self._allocators: dict[str, Any] = {}
        self._addresses = dict.fromkeys(self.buffers, 0)  # those wanted, and those that TensorRT has
        self._bound = dict.fromkeys(self.buffers, -1)
        self._shapes: Shapes | None = None  # likewise
        self._applied: Shapes | None = None
        self._plans: dict[Shapes, _Plan] = {}
        self._warm: set[Shapes] = set()  # run before: nothing is compiled any more
        self._graphs = Graphs(self.handle)
        self._last: int | None = None  # handle of the stream of the last run
        self._done, self._before = cuda.Event(), cuda.Event()

    def give_memory(self, size: int) -> None:
        """Have runs work in so many bytes of ours, which makes them such as can be captured."""
        self._scratch = DeviceBuffer()
        self._context.set_device_memory(self._scratch.grow(size), size)

    def set_shapes(self, shapes: Shapes) -> None:
        """Have the next run be of inputs of these shapes.

        Raises:
            EngineRunError: BH601, the engine does not take them.
        """
        if shapes != self._shapes:
            self._shapes = None  # until all is set
            plan = self._plans.get(shapes) or self._make_plan(shapes)
            self.found, self.sizes = list(plan.found), plan.sizes
            self._shapes = shapes

    def _make_plan(self, shapes: Shapes) -> _Plan:
        self._apply(shapes)
        with CALLING:
            found = tuple(tuple(self._context.get_tensor_shape(name)) for name, _ in self.outputs)
        for (name, _), shape in zip(self.outputs, found, strict=True):
            if any(size < 0 for size in shape) and name not in self.computed:
                self.computed[name] = DeviceBuffer()
                self._allocators[name] = _make_allocator(self._trt, self.computed[name])
                self._context.set_output_allocator(name, self._allocators[name])
        sizes = tuple(
            (name, max(1, math.prod(shape) * dtype.itemsize))
            for (name, dtype), shape in zip(self.outputs, found, strict=True)
            if name not in self.computed
        )
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        self._plans[shapes] = _Plan(found, sizes)
        return self._plans[shapes]

    def _apply(self, shapes: Shapes) -> None:
        """Tell TensorRT."""
        if shapes == self._applied:
            return
        self._applied = None
        with CALLING:
            for (name, _), shape in zip(self.inputs, shapes, strict=True):
                if not self._context.set_input_shape(name, shape):
                    raise EngineRunError(f"TensorRT does not take the shape {shape} of {name}", why=self._read_error())
        self._applied = shapes

    def point(self, name: str, address: int) -> None:
        """Have the next run find an input, or put an output, there. What is new costs: graphs are captured with addresses."""
        self._addresses[name] = address

    @property
    def buffer_bytes(self) -> int:
        """Device memory of all buffers."""
        buffers = (*self.buffers.values(), *self.computed.values(), *filter(None, [self._scratch]))
        return sum(buffer.size for buffer in buffers)

    def enter(self, stream: int) -> None:
        """Have what is put into a stream from now on wait for the last run, which may be in another."""
        if self._last not in (None, stream):
            if self._last in (DEFAULT_STREAM, self.handle):
                self._done.record(self._last)
            self._done.hold_back(stream)
        self._last = stream

    def leave(self, stream: int) -> None:
        """Keep in mind how far the stream is, whose owner may not keep it: the default stream and our own stay."""
        if stream not in (DEFAULT_STREAM, self.handle):
            self._done.record(stream)

    def run(self, stream: int) -> None:
        """Put the run into a stream; where outputs are allocated meanwhile, wait for it, and find their shapes.

        Raises:
            EngineRunError: BH601.
        """
        key = (self._shapes, tuple(self._addresses.values()))
        graph = self._graphs.find(key)
        if graph is None and self._shapes in self._warm:
            graph = self._graphs.capture(key, self._execute)
        if graph is not None:
            cuda.check("cudaGraphLaunch", graph, stream)
        else:
            self._run_outright(stream)

    def _run_outright(self, stream: int) -> None:
        """Without a graph, in our own stream, as TensorRT does not want the default one."""
        if stream != self.handle:
            self._before.record(stream)
            self._before.hold_back(self.handle)
        self._execute()
        if self._allocators:
            self.wait()
            for index, (name, _) in enumerate(self.outputs):
                if name in self._allocators:
                    self.found[index] = self._allocators[name].shape
        elif stream != self.handle:
            self._before.record(self.handle)
            self._before.hold_back(stream)
        if self._shapes is not None and self._scratch is not None:
            with CALLING:
                is_capturable = self._context.is_stream_capturable(self.handle)
            self._warm.update([self._shapes] * is_capturable)

    def _execute(self) -> None:
        with CALLING:
            if self._shapes is not None:
                self._apply(self._shapes)
            for name, address in self._addresses.items():
                if address != self._bound[name] and name not in self._allocators:
                    self._context.set_tensor_address(name, address)
                    self._bound[name] = address
            is_run = self._context.execute_async_v3(self.handle)
        if not is_run:
            raise EngineRunError("TensorRT could not run the engine", why=self._read_error())

    @staticmethod
    def copy(target: int, source: int, size: int, kind: Any, stream: int) -> None:
        """Put a copy of so many bytes into a stream; `kind` is CUDA's."""
        if size:
            cuda.check("cudaMemcpyAsync", target, source, size, kind, stream)

    def wait(self) -> None:
        """Return once all work in its own stream is done."""
        self.stream.wait()

    def __del__(self) -> None:
        """In a cycle, Python may have finalized the stream and the events before."""
        ends = contextlib.suppress(cuda.CudaError, TypeError, AttributeError)  # the process ends, and CUDA with it
        with ends:
            self._wait_for_last()
        with ends:
            self._graphs.close()
        with ends, CALLING:
            del self._context  # before what it uses
        with ends:
            self.stream.close()

    def _wait_for_last(self) -> None:
        try:
            if self._last not in (None, self.handle):
                self.enter(self.stream.handle)
            self.wait()
        except cuda.CudaError:  # the event is gone
            cuda.check("cudaDeviceSynchronize")


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
