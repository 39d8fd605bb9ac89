"""TensorRT engines at work: opened once, with a slot for each concurrent caller, up to a bound, kept for the next call.

For TensorRT-RTX the runtime configuration captures each shape as a CUDA graph, and kernels that were kept with the engine are
not compiled again.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from beforehand.backends import cuda, tensorrt_kernels
from beforehand.backends.device_array import DeviceArray
from beforehand.backends.tensorrt_build import make_logger
from beforehand.backends.tensorrt_flavours import Flavour
from beforehand.backends.tensorrt_slot import Slot
from beforehand.errors import EngineRunError

# Callers beyond so many wait for one of them: a GPU is busy with fewer, and each takes device memory.
MOST_SLOTS = 8
_loggers: dict[str, Any] = {}
_lock = threading.Lock()


class TensorRtExecutable:
    """A loaded engine.

    Args:
        trt: The TensorRT module.
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
        trt: Any,
        flavour: Flavour,
        data: np.ndarray[Any, Any],
        input_names: Sequence[str],
        output_names: Sequence[str],
        device: int = 0,
    ) -> None:
        self._trt, self._flavour, self._device = trt, flavour, device
        self._gpu = cuda.find_gpu(device, f"an engine of {flavour.title}")
        self._has_several = cuda.count_gpus() > 1
        self._choose_device()
        engine, kernels = tensorrt_kernels.split(np.ascontiguousarray(data).data)
        logger = _find_logger(trt, flavour.name)
        self._runtime = trt.Runtime(logger)
        del logger.errors[:]
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise EngineRunError(
                f"{flavour.title} does not take this engine on {self._gpu.name}", why=" ".join(logger.errors[-1:]),
            )  # fmt: skip
        self.inputs = [(name, np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))) for name in input_names]
        self.outputs = [(name, np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))) for name in output_names]
        self._cache: Any = None
        self._config = self._make_config(kernels) if flavour.has_runtime_cache else None
        self._idle: queue.SimpleQueue[Slot | None] = queue.SimpleQueue()
        self._slots: list[Slot] = []
        self._lock = threading.Lock()
        self._compiling = threading.Lock()

    def _make_config(self, kernels: memoryview) -> Any:
        trt, config = self._trt, self._engine.create_runtime_config()
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        self._cache = config.create_runtime_cache()
        if len(kernels):
            self._cache.deserialize(kernels)  # of another GPU or driver, they are compiled anew
        config.set_runtime_cache(self._cache)
        return config

    def _choose_device(self) -> None:
        if self._has_several:  # of the thread's, CUDA's current device is what counts
            cuda.check("cudaSetDevice", self._device)

    @property
    def device_bytes(self) -> int:
        """Device memory that it holds, as far as it is known: weights, contexts and buffers."""
        with self._lock:
            slots = list(self._slots)
        weights = int(self._engine.streamable_weights_size)
        return weights + len(slots) * int(self._engine.device_memory_size_v2) + sum(slot.bytes for slot in slots)

    def read_kernels(self) -> bytes:
        """The kernels compiled so far."""
        return bytes(memoryview(self._cache.serialize())) if self._cache is not None else b""

    def run(self, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The outputs, in memory of their own."""
        self._choose_device()
        slot = self._take()
        try:
            outputs = slot.run(inputs)
        except BaseException:
            self._drop(slot)
            raise
        self._idle.put(slot)
        return outputs

    def run_on_device(self, inputs: Sequence[Any]) -> list[DeviceArray]:
        """The outputs, on the GPU, of inputs of which at least one lies there (`DeviceInput`)."""
        self._choose_device()
        slot = self._take()
        try:
            outputs = slot.run_on_device(inputs)
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
                slot = Slot(self._trt, self._make_context(), self.inputs, self.outputs, self._device, self._compiling)
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


def _find_logger(trt: Any, name: str) -> Any:
    """One a process: TensorRT keeps the first that it is given."""
    with _lock:
        if name not in _loggers:
            _loggers[name] = make_logger(trt, is_silent=True)
        return _loggers[name]
