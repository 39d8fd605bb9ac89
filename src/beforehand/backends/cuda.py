"""The CUDA calls that engines need, by NVIDIA's cuda-python; each error is raised with CUDA's own name for it."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from typing import Any


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU of this machine; `capability` is its compute capability as TensorRT writes it: 90 for 9.0."""

    index: int
    name: str
    capability: int
    memory_bytes: int


class CudaError(RuntimeError):
    """A call of CUDA failed; it becomes an error of ours where it is known what was being done."""

    def __init__(self, call: str, name: str) -> None:
        self.name = name
        super().__init__(f"{call}: {name}")


@functools.cache
def import_runtime() -> Any:
    """cuda-python's runtime API.

    Raises:
        ImportError: cuda-python is not installed.
    """
    from cuda.bindings import runtime  # noqa: PLC0415 (an extra)

    return runtime


def check(call: str, *arguments: Any) -> Any:
    """Call a function of CUDA's runtime API; returns what it gives, without its status.

    Raises:
        CudaError: It failed.
    """
    found = _find_call(call)(*arguments)
    status = found[0]
    if status != 0:
        raise CudaError(call, status.name)
    return found[1] if len(found) == 2 else found[1:]


@functools.cache
def _find_call(name: str) -> Any:
    return getattr(import_runtime(), name)


@functools.cache
def find_gpus() -> tuple[tuple[Gpu, ...], str]:
    """The GPUs of this machine, and why there are none: read once a process."""
    if importlib.util.find_spec("cuda") is None:
        return (), "the package cuda-python is not installed"
    try:
        count = check("cudaGetDeviceCount")
        return tuple(_describe(index) for index in range(count)), "" if count else "this machine has no NVIDIA GPU"
    except (CudaError, ImportError, RuntimeError) as error:
        return (), f"no NVIDIA GPU can be used here ({error})"


def _describe(index: int) -> Gpu:
    found = check("cudaGetDeviceProperties", index)
    name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
    return Gpu(index, name.rstrip("\0"), 10 * found.major + found.minor, int(found.totalGlobalMem))
