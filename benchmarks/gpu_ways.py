"""The ways to compute one model on the GPU, each as a call that does not wait for the GPU, or that returns host arrays."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gpu_models import Arrays, find_built
from gpu_models_torch import arrange_inputs, compile_module, convert_inputs, make_module

import beforehand
from beforehand.backends.tensorrt_build import make_logger
from beforehand.backends.tensorrt_flavours import RTX
from beforehand.records import Engine, Manifest
from beforehand.store import layout as files
from beforehand.store.manifest import find_manifest, read_manifest

Call = Callable[[], Any]


def open_ours(folder: pathlib.Path, name: str, arrays: Arrays) -> dict[str, Call]:
    """`beforehand.load`, given tensors of the GPU and given NumPy arrays."""
    model = beforehand.load(find_built(folder, name))
    tensors = {key: torch.from_numpy(array).cuda() for key, array in arrays.items()}

    def call_on_gpu() -> Any:
        found: dict[str, torch.Tensor] = model(**tensors)
        return found

    return {"device": call_on_gpu, "host": lambda: model(**arrays)}


def find_engine(folder: pathlib.Path, name: str, batch: int) -> tuple[Manifest, Engine, bytes]:
    """The engine that serves this batch of the whole model, as the manifest tells, and its file."""
    file = find_manifest(find_built(folder, name))
    manifest = read_manifest(file)
    [engine] = [
        engine
        for engine in manifest.engines
        if engine.backend == RTX.name and all(shape[0] == batch for shape in engine.shapes.shapes)
    ]
    return manifest, engine, files.find_engine_file(file.parent, engine.file).read_bytes()


def split_engine(data: bytes) -> tuple[Any, Any]:
    """TensorRT's part of an engine's file, and the kernels kept behind it, if there are any."""
    try:
        from beforehand.backends import tensorrt_kernels  # noqa: PLC0415 (newer than some engines)
    except ImportError:
        return data, b""
    engine, kernels = tensorrt_kernels.split(data)
    return engine, kernels


class RawEngine:
    """The engine of a batch under TensorRT's own API, with torch's tensors as its memory, on a stream of its own."""

    def __init__(self, folder: pathlib.Path, name: str, arrays: Arrays, *, with_graph: bool = True) -> None:
        self.trt = RTX.import_module()
        batch = next(iter(arrays.values())).shape[0]
        manifest, record, data = find_engine(folder, name, batch)
        data, kernels = split_engine(data)
        self.runtime = self.trt.Runtime(make_logger(self.trt, is_silent=True))
        self.engine = self.runtime.deserialize_cuda_engine(bytes(data))
        self.config = self._make_config(kernels, with_graph=with_graph)
        self.context = self.engine.create_execution_context(self.config)
        self.scratch = torch.empty(max(1, self.engine.device_memory_size_v2), dtype=torch.uint8, device="cuda")
        self.context.set_device_memory(self.scratch.data_ptr(), self.engine.device_memory_size_v2)
        self.stream = torch.cuda.Stream()
        whole = manifest.signatures[0].whole
        keys = [spec.name for spec in manifest.signatures[0].inputs]
        self.tensors = {}
        for index, tensor_name in zip(whole.inputs, record.input_names, strict=True):
            self.tensors[tensor_name] = self._place(tensor_name, torch.from_numpy(arrays[keys[index]]).cuda())
            self.context.set_input_shape(tensor_name, tuple(self.tensors[tensor_name].shape))
        for tensor_name in record.output_names:
            dtype = torch.from_numpy(np.empty(0, self.trt.nptype(self.engine.get_tensor_dtype(tensor_name)))).dtype
            shape = tuple(self.context.get_tensor_shape(tensor_name))
            self.tensors[tensor_name] = self._place(tensor_name, torch.empty(shape, dtype=dtype, device="cuda"))
        torch.cuda.synchronize()

    def _make_config(self, kernels: Any, *, with_graph: bool) -> Any:
        config = self.engine.create_runtime_config()
        if with_graph:
            config.cuda_graph_strategy = self.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        config.dynamic_shapes_kernel_specialization_strategy = self.trt.DynamicShapesKernelSpecializationStrategy.EAGER
        if len(kernels):
            self.cache = config.create_runtime_cache()  # without one that outlives it, there is no context, or a crash
            self.cache.deserialize(bytes(kernels))
            config.set_runtime_cache(self.cache)
        config.set_execution_context_allocation_strategy(self.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        return config

    def _place(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        self.context.set_tensor_address(name, tensor.data_ptr())
        return tensor

    def __call__(self) -> None:
        if not self.context.execute_async_v3(self.stream.cuda_stream):
            raise RuntimeError("TensorRT could not run the engine")


def open_torch(name: str, arrays: Arrays, layout: str, precision: str) -> dict[str, Call]:
    """torch.compile, given tensors of the GPU in its precision, and given float32 arrays of the host, which get float32 back."""
    host = arrange_inputs(arrays, layout)
    compiled = compile_module(make_module(name, precision, layout))
    given = convert_inputs(host, precision)
    pinned = [tensor.pin_memory() for tensor in host]
    staged = [tensor.cuda() for tensor in host]
    with torch.no_grad():
        results = [torch.empty(out.shape, dtype=torch.float32).pin_memory() for out in compiled(*given)]

    def call() -> Any:
        with torch.no_grad():
            return compiled(*given)

    def call_on_host() -> list[Any]:
        with torch.no_grad():
            for source, pin, place in zip(host, pinned, staged, strict=True):
                pin.copy_(source)
                place.copy_(pin, non_blocking=True)
            found = compiled(*convert_inputs(staged, precision))
            for value, result in zip(found, results, strict=True):
                result.copy_(value.float(), non_blocking=True)
        torch.cuda.synchronize()
        return [result.numpy().copy() for result in results]

    return {"device": call, "host": call_on_host}
