"""The CUDA calls that engines need, by NVIDIA's cuda-python; each error is raised with CUDA's own name for it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
from typing import Any

from beforehand.errors import EngineRunError

_NO_TIMING = 2  # cudaEventDisableTiming


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
        import_runtime().cudaGetLastError()  # it is told here: who shares the thread shall not find it
        raise CudaError(call, status.name)
    return found[1] if len(found) == 2 else found[1:]


@functools.cache
def _find_call(name: str) -> Any:
    return getattr(import_runtime(), name)


class Event:
    """A CUDA event, which has no time: work before it, and who waits for that. Destroyed when it is dropped."""

    def __init__(self) -> None:
        self._event = check("cudaEventCreateWithFlags", _NO_TIMING)

    def record(self, stream: Any) -> None:
        """Stand behind all work put into `stream` so far."""
        check("cudaEventRecord", self._event, stream)

    def hold_back(self, stream: Any) -> None:
        """Have work put into `stream` from now on wait for it."""
        check("cudaStreamWaitEvent", stream, self._event, 0)

    def wait(self) -> None:
        """Return once it is reached."""
        check("cudaEventSynchronize", self._event)

    def is_reached(self) -> bool:
        """Whether the work before it is done."""
        return bool(_find_call("cudaEventQuery")(self._event)[0] == 0)

    def __del__(self) -> None:
        with contextlib.suppress(CudaError, TypeError, AttributeError):  # the process ends, and CUDA with it
            event, self._event = self._event, 0  # no event: who still has it gets an error of CUDA's
            check("cudaEventDestroy", event)


class Stream:
    """A CUDA stream that does not wait for the default one.

    Python calls the finalizers of what goes in a cycle in any order, and a handle that was destroyed may crash CUDA. So a
    closed stream has the number of the default one: who finds it closed waits for nothing that is not done.

    Attributes:
        handle: Its number.
    """

    def __init__(self) -> None:
        self.handle = int(check("cudaStreamCreateWithFlags", import_runtime().cudaStreamNonBlocking))

    def wait(self) -> None:
        """Return once all work put into it is done."""
        check("cudaStreamSynchronize", self.handle)

    def close(self) -> None:
        """Wait, and destroy it; nothing where that was done."""
        if self.handle:
            self.wait()
            handle, self.handle = self.handle, 0
            check("cudaStreamDestroy", handle)

    def __del__(self) -> None:
        with contextlib.suppress(CudaError, TypeError, AttributeError):  # the process ends, and CUDA with it
            self.close()


def is_idle(stream: int) -> bool:
    """Whether all work put into a stream so far is known to be done."""
    return bool(_find_call("cudaStreamQuery")(stream)[0] == 0)


def count_gpus() -> int:
    """How many GPUs this process sees."""
    return len(find_gpus()[0])


def find_gpu(index: int, wanted_by: str) -> Gpu:
    """One GPU of this machine.

    Raises:
        EngineRunError: BH601, there is none of this number.
    """
    gpus, why_none = find_gpus()
    if not gpus:
        raise EngineRunError(f"{wanted_by} needs a GPU", why=why_none)
    if index >= len(gpus):
        listed = ", ".join(f"{gpu.index}: {gpu.name}" for gpu in gpus)
        raise EngineRunError(
            f"{wanted_by} is to run on GPU {index}", why=f"this process sees {listed}", advice="another `device`"
        )
    return gpus[index]


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


class _OnDevice:
    """Makes a GPU the current one of the thread, for a while; afterwards the thread has what it had before.

    By contexts, not `cudaSetDevice`: to set the former GPU again would start CUDA on one that nobody may ever use.
    """

    def __init__(self, index: int) -> None:
        from cuda.bindings import driver  # noqa: PLC0415 (an extra)

        self._push, self._pop = driver.cuCtxPushCurrent, driver.cuCtxPopCurrent
        self._check(driver.cuInit(0))
        self._context = self._check(driver.cuDevicePrimaryCtxRetain(self._check(driver.cuDeviceGet(index))))

    @staticmethod
    def _check(found: tuple[Any, ...]) -> Any:
        if found[0] != 0:
            raise CudaError("a GPU's context", found[0].name)
        return found[1] if len(found) > 1 else None

    def __enter__(self) -> None:
        self._check(self._push(self._context))

    def __exit__(self, *_: object) -> None:
        self._pop()


@functools.cache
def make_current(index: int) -> contextlib.AbstractContextManager[None]:
    """In its `with`, CUDA's calls of this thread are for one GPU. Where there is but one, nothing needs to be done."""
    return _OnDevice(index) if count_gpus() > 1 else contextlib.nullcontext()


@functools.cache
def find_memory_speed(index: int) -> float:
    """Bytes a second that a GPU's memory can move, by its clock and width; 0 where they are not told."""
    attributes = import_runtime().cudaDeviceAttr
    kilohertz = check("cudaDeviceGetAttribute", attributes.cudaDevAttrMemoryClockRate, index)
    bits = check("cudaDeviceGetAttribute", attributes.cudaDevAttrGlobalMemoryBusWidth, index)
    return 2e3 * float(kilohertz) * float(bits) / 8  # both edges of the clock
