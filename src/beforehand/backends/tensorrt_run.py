"""TensorRT engines at work: opened once, with a slot for each concurrent caller, up to a bound, kept for the next call.

Kernels that were kept with an engine of TensorRT-RTX are not compiled again.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from beforehand.backends import cuda, tensorrt_kernels
from beforehand.backends.device_array import DeviceArray
from beforehand.backends.tensorrt_build import make_logger
from beforehand.backends.tensorrt_context import CALLING, TensorRtContext
from beforehand.backends.tensorrt_device_calls import DeviceCalls
from beforehand.backends.tensorrt_flavours import Flavour
from beforehand.backends.tensorrt_host_calls import HostCalls
from beforehand.backends.tensorrt_places import Places
from beforehand.errors import EngineRunError, SampleError

# Callers beyond so many wait for one of them: a GPU is busy with fewer, and each takes device memory.
MOST_SLOTS = 8
_Array = TypeVar("_Array")
_loggers: dict[str, Any] = {}
_lock = threading.Lock()


class TensorRtExecutable:
    """A loaded engine.

    Args:
        flavour: Which TensorRT it is.
        data: The engine's file.
        input_names: In the order in which inputs are given.
        output_names: In the order in which outputs are wanted.
        device: The GPU's number.

    Raises:
        EngineRunError: BH601, TensorRT does not take it here.
    """

    def __init__(
        self,
        flavour: Flavour,
        data: np.ndarray[Any, Any],
        input_names: Sequence[str],
        output_names: Sequence[str],
        device: int = 0,
    ) -> None:
        self._flavour, self._device = flavour, device
        trt = self._trt = flavour.import_module()
        self._gpu = cuda.find_gpu(device, f"an engine of {flavour.title}")
        self._on_device = cuda.make_current(device)
        engine, kernels = tensorrt_kernels.split(np.ascontiguousarray(data).data)
        logger = _find_logger(trt, flavour.name)
        with self._on_device, CALLING:
            self._runtime = trt.Runtime(logger)
            del logger.errors[:]
            self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise EngineRunError(
                f"{flavour.title} does not take this engine on {self._gpu.name}", why=" ".join(logger.errors[-1:]),
            )  # fmt: skip
        self.inputs = [(name, np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))) for name in input_names]
        self.outputs = [(name, np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))) for name in output_names]
        self._kernels = bytes(kernels)
        self._is_range = any(-1 in self._engine.get_tensor_shape(name) for name in input_names)
        is_fixed = not any(-1 in self._engine.get_tensor_shape(name) for name in (*input_names, *output_names))
        self._has_our_memory = flavour.has_runtime_cache and is_fixed  # as it was built: see tensorrt_build.py
        self._idle: queue.SimpleQueue[Slot | None] = queue.SimpleQueue()
        self._slots: list[Slot] = []
        self._lock = threading.Lock()

    @property
    def device_bytes(self) -> int:
        """Device memory that it holds, as far as it is known: weights, contexts and buffers."""
        with self._lock:
            slots = list(self._slots)
        weights = int(self._engine.streamable_weights_size)
        own = 0 if self._has_our_memory else int(self._engine.device_memory_size_v2)
        return weights + sum(own + slot.buffer_bytes for slot in slots)

    def read_kernels(self) -> bytes:
        """The kernels that the first slot has, compiled or given."""
        return self._slots[0].read_kernels()

    def run(self, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The outputs, in memory of their own."""
        return self._use(lambda slot: slot.host.run(inputs))

    def run_on_device(self, inputs: Sequence[Any]) -> list[DeviceArray]:
        """The outputs, on the GPU, of inputs of which at least one lies there (`DeviceInput`)."""
        return self._use(lambda slot: slot.device.run(inputs))

    def _use(self, run: Callable[[Slot], list[_Array]]) -> list[_Array]:
        with self._on_device:
            slot = self._take()
            try:
                outputs = run(slot)
            except SampleError:  # nothing was run
                self._idle.put(slot)
                raise
            except BaseException:
                self._drop(slot)
                raise
            self._idle.put(slot)
            return outputs

    def _take(self) -> Slot:
        """A slot for this call: an idle one, a new one, or, where there is no room for more, the next that is free."""
        try:
            slot = self._idle.get_nowait()
        except queue.Empty:
            slot = None
        while slot is None:
            slot = self._make() or self._idle.get()
        return slot

    def _make(self) -> Slot | None:
        """A new slot; None where there are all that there may be."""
        with self._lock:
            if len(self._slots) >= MOST_SLOTS:
                return None
            try:
                slot = self._make_slot()
            except (EngineRunError, cuda.CudaError):
                if not self._slots:
                    raise
                return None  # what others have will be free
            self._slots.append(slot)
            return slot

    def _drop(self, slot: Slot) -> None:
        """Of one that failed the state is not known. Whoever waits is told that there is room for another."""
        with self._lock:
            self._slots.remove(slot)
        self._idle.put(None)

    def _make_slot(self) -> Slot:
        with CALLING:
            config, cache = self._make_config() if self._flavour.has_runtime_cache else (None, None)
            made = self._engine.create_execution_context(*[config] * (config is not None))
        if made is None:
            raise EngineRunError(
                f"{self._flavour.title} gave no execution context",
                why=self._read_error() or "most often the GPU's memory is full",
            )
        context = TensorRtContext(self._trt, made, self.inputs, self.outputs, self._read_error)
        if self._has_our_memory:
            context.give_memory(int(self._engine.device_memory_size_v2))
        places = Places(context, int(self._engine.num_layers), self._device, keeps_graphs=self._has_our_memory)
        return Slot(context, places, self._device, config, cache)

    def _make_config(self) -> tuple[Any, Any]:
        """How TensorRT-RTX runs a context, and the cache of its kernels.

        Each has a cache of its own, which must outlive it. For one shape, kernels for it are compiled before the first run.
        For a range, kernels for any shape are: a tenth slower than those for one, but a shape not met before waits 0.1 s for
        them, and not 2 s; and none are compiled in threads behind our back (strategy LAZY).
        """
        trt, config = self._trt, self._engine.create_runtime_config()
        if self._has_our_memory:
            config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        else:
            config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        strategies = trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategies.NONE if self._is_range else strategies.EAGER
        cache = config.create_runtime_cache()
        if self._kernels:
            cache.deserialize(self._kernels)  # of another GPU or driver, they are compiled anew
        config.set_runtime_cache(cache)
        return config, cache

    def __del__(self) -> None:
        """In this order: contexts, then their engine, then its runtime."""
        with contextlib.suppress(AttributeError), CALLING:  # it may not have come so far
            while not self._idle.empty():
                self._idle.get_nowait()
            self._slots.clear()
            del self._engine
            del self._runtime

    def _read_error(self) -> str:
        errors = _find_logger(self._trt, self._flavour.name).errors
        return " ".join(" ".join(errors[-1:]).split())


class Slot:
    """What one caller needs: a context with what it runs by, and what calls with arrays of either place keep.

    Args:
        context: The context.
        places: Where it has tensors that lie on the GPU.
        device: The GPU's number.
        config: How it is run, which must outlive it.
        cache: Of kernels, likewise.
    """

    def __init__(self, context: TensorRtContext, places: Places, device: int, config: Any, cache: Any) -> None:
        self.host = HostCalls(context)
        self.device = DeviceCalls(context, self.host, places, device)
        self._context, self._config, self._cache = context, config, cache

    @property
    def buffer_bytes(self) -> int:
        """Device memory of its buffers."""
        return self._context.buffer_bytes + self.device.buffer_bytes

    def read_kernels(self) -> bytes:
        """The kernels that it has, compiled or given."""
        return bytes(memoryview(self._cache.serialize()))


def _find_logger(trt: Any, name: str) -> Any:
    """One a process: TensorRT keeps the first that it is given."""
    with _lock:
        if name not in _loggers:
            _loggers[name] = make_logger(trt, is_silent=True)
        return _loggers[name]
