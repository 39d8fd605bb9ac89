"""TensorRT engines at work: a context, a stream and buffers for each concurrent caller, kept for the next call.

Method: NVIDIA's own guide for `execute_async_v3` and output allocators; for TensorRT-RTX the runtime configuration, which
captures each shape as a CUDA graph and specialises kernels for it before its first run, not in the background.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from beforehand.backends import cuda
from beforehand.backends.make_aligned import make_aligned
from beforehand.backends.tensorrt_build import make_logger
from beforehand.backends.tensorrt_flavours import Flavour
from beforehand.errors import EngineRunError

_ROUND = 512  # bytes: CUDA's own alignment; buffers grow by doubling
_loggers: dict[str, Any] = {}
_lock = threading.Lock()


class TensorRtExecutable:
    """A loaded engine with a pool of slots, one for each concurrent caller.

    Raises:
        EngineRunError: BH601, TensorRT does not take it here.
    """

    def __init__(
        self,
        trt: Any,
        flavour: Flavour,
        data: np.ndarray[Any, Any],
        input_names: Sequence[str],
        output_names: Sequence[str],
    ) -> None:
        self._trt, self._flavour = trt, flavour
        logger = _find_logger(trt, flavour.name)
        gpus, why_none = cuda.find_gpus()
        if not gpus:
            raise EngineRunError(f"an engine of {flavour.title} needs a GPU", why=why_none)
        self._runtime = trt.Runtime(logger)
        del logger.errors[:]
        self._engine = self._runtime.deserialize_cuda_engine(np.ascontiguousarray(data).data)
        if self._engine is None:
            raise EngineRunError(
                f"{flavour.title} does not take this engine on {gpus[0].name}", why=" ".join(logger.errors[-1:]),
            )  # fmt: skip
        self.inputs = [(name, np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))) for name in input_names]
        self.outputs = [(name, np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))) for name in output_names]
        self._config = self._make_config() if flavour.has_runtime_cache else None
        self._idle: list[_Slot] = []

    def _make_config(self) -> Any:
        trt, config = self._trt, self._engine.create_runtime_config()
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        return config

    def run(self, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The outputs, in memory of their own."""
        try:
            slot = self._idle.pop()  # list.pop and append are atomic
        except IndexError:
            slot = _Slot(self._trt, self._make_context(), self.outputs)
        outputs = slot.run(self.inputs, inputs)
        self._idle.append(slot)  # one that failed is dropped: its state is not known
        return outputs

    def _make_context(self) -> Any:
        made = (
            self._engine.create_execution_context(self._config)
            if self._config
            else self._engine.create_execution_context()
        )
        if made is None:
            raise EngineRunError(
                f"{self._flavour.title} gave no execution context", why="most often the GPU's memory is full"
            )
        return made


class _Buffer:
    """Device memory and pinned host memory of one tensor, as large as the largest so far."""

    def __init__(self) -> None:
        self.size = 0
        self.device = self.host = 0
        self.view: np.ndarray[Any, Any] = np.empty(0, np.uint8)

    def grow(self, size: int) -> bool:
        """Have room for so many bytes; whether the memory is another now."""
        if size <= self.size:
            return False
        self.free()
        self.size = max(_ROUND, 1 << (size - 1).bit_length())
        self.device = int(cuda.check("cudaMalloc", self.size))
        self.host = int(cuda.check("cudaMallocHost", self.size))
        self.view = _view_memory(self.host, self.size)
        return True

    def free(self) -> None:
        if self.size:
            cuda.check("cudaFree", self.device)
            cuda.check("cudaFreeHost", self.host)
            self.size = 0


class _Slot:
    """What one caller needs: a context, a stream and buffers. All that follows from the shapes is done when they change."""

    def __init__(self, trt: Any, context: Any, outputs: Sequence[tuple[str, np.dtype[Any]]]) -> None:
        runtime = cuda.import_runtime()
        self._trt, self._context = trt, context
        self._stream = cuda.check("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking)
        self._handle = int(self._stream)
        self._to_device = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._to_host = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._outputs = outputs
        self._inputs: dict[str, _Buffer] = {}
        self._results = {name: _Buffer() for name, _ in outputs}
        self._allocators: dict[str, Any] = {}  # of outputs whose shape comes of the values
        self._shapes: tuple[tuple[int, ...], ...] | None = None
        self._found: list[tuple[int, ...]] = []  # shapes of the outputs

    def run(
        self, specs: Sequence[tuple[str, np.dtype[Any]]], inputs: Sequence[np.ndarray[Any, Any]]
    ) -> list[np.ndarray[Any, Any]]:
        shapes = tuple([array.shape for array in inputs])
        if shapes != self._shapes:
            self._shapes = None  # until all is set
            self._set_shapes(specs, inputs)
            self._shapes = shapes
        for (name, _), array in zip(specs, inputs, strict=True):
            buffer = self._inputs[name]
            np.copyto(np.ndarray(array.shape, array.dtype, buffer.view.data), array)
            self._copy(buffer.device, buffer.host, array.nbytes, self._to_device)
        if not self._context.execute_async_v3(self._handle):
            raise EngineRunError("TensorRT could not run the engine")
        if self._allocators:
            cuda.check("cudaStreamSynchronize", self._stream)
            self._read_shapes()
        return self._fetch()

    def _set_shapes(self, specs: Sequence[tuple[str, np.dtype[Any]]], inputs: Sequence[np.ndarray[Any, Any]]) -> None:
        for (name, _), array in zip(specs, inputs, strict=True):
            buffer = self._inputs.setdefault(name, _Buffer())
            if buffer.grow(max(1, array.nbytes)):
                self._context.set_tensor_address(name, buffer.device)
            if not self._context.set_input_shape(name, array.shape):
                raise EngineRunError(f"TensorRT does not take the shape {array.shape} of {name}")
        self._found = [tuple(self._context.get_tensor_shape(name)) for name, _ in self._outputs]
        for (name, dtype), shape in zip(self._outputs, self._found, strict=True):
            if any(size < 0 for size in shape):
                if name not in self._allocators:
                    self._allocators[name] = _make_allocator(self._trt, self._results[name])
                    self._context.set_output_allocator(name, self._allocators[name])
            elif self._results[name].grow(max(1, math.prod(shape) * dtype.itemsize)):
                self._context.set_tensor_address(name, self._results[name].device)

    def _read_shapes(self) -> None:
        for index, (name, _) in enumerate(self._outputs):
            if name in self._allocators:
                self._found[index] = self._allocators[name].shape

    def _fetch(self) -> list[np.ndarray[Any, Any]]:
        """The outputs, copied to the host into memory of their own."""
        made = [make_aligned(shape, dtype) for (_, dtype), shape in zip(self._outputs, self._found, strict=True)]
        for (name, _), array in zip(self._outputs, made, strict=True):
            if array.nbytes:
                buffer = self._results[name]
                self._copy(buffer.host, buffer.device, array.nbytes, self._to_host)
        cuda.check("cudaStreamSynchronize", self._stream)
        for (name, dtype), array in zip(self._outputs, made, strict=True):
            if array.nbytes:
                np.copyto(array, np.ndarray(array.shape, dtype, self._results[name].view.data))
        return made

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        if size:
            cuda.check("cudaMemcpyAsync", target, source, size, kind, self._stream)

    def __del__(self) -> None:
        del self._context  # before what it uses
        try:
            for buffer in (*self._inputs.values(), *self._results.values()):
                buffer.free()
            cuda.check("cudaStreamDestroy", self._stream)
        except (cuda.CudaError, TypeError):  # the process ends, and CUDA with it
            pass


def _make_allocator(trt: Any, buffer: _Buffer) -> Any:
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


def _view_memory(address: int, size: int) -> np.ndarray[Any, Any]:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def _find_logger(trt: Any, name: str) -> Any:
    """One a process: TensorRT keeps the first that it is given."""
    with _lock:
        if name not in _loggers:
            _loggers[name] = make_logger(trt, is_silent=True)
        return _loggers[name]
