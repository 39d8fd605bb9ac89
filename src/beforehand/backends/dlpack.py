"""DLPack by ctypes: arrays of other libraries read where they lie on the GPU, and ours handed to them.

Method: the protocol of `__dlpack__` as the array API standard has it, with the structures of dlpack.h, version 0 (the
"dltensor" capsule, which every library still gives and takes). A capsule read here is not renamed: it gives its memory back
when it is dropped.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import math
import struct
import sys
from typing import Any, NamedTuple

import numpy as np

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13  # DLDeviceType
_NAME = b"dltensor"
# DLTensor: data, device type and number, rank, dtype (code, bits, lanes), shape, strides, byte offset; then DLManagedTensor's
# context and deleter. As the C compiler lays them out where pointers have 8 bytes.
_TENSOR = struct.Struct("=QiiiBBHQQQ")
_MANAGED = struct.Struct("=QiiiBBHQQQQQ")
_DELETER_AT = _MANAGED.size - 8
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}  # DLDataTypeCode
_DTYPES = {(_CODES[dtype.kind], 8 * dtype.itemsize): dtype for dtype in map(np.dtype, "bBhHiIlLqQefd?")}

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype, _get_pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
# A capsule that is being destroyed may not be turned into a Python object: these take its address.
_is_unread = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_get_raw = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class View(NamedTuple):
    """Where an array lies: its address in the memory of GPU number `device`, its shape and dtype; `strides` of elements.

    `dtype` is None for one that NumPy has not. `stream` is that in which its library works on it, None where that is not
    known; `owner` keeps the memory there.
    """

    address: int
    device: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    strides: tuple[int, ...] | None
    stream: int | None
    owner: Any

    def count_bytes(self) -> int:
        """Its size, of a contiguous array whose dtype NumPy has."""
        return math.prod(self.shape) * (self.dtype.itemsize if self.dtype is not None else 0)


def read(array: Any, stream: int) -> View:
    """The memory of a library's array. Where the view has no stream, it is ready for what is put into `stream` from now on.

    Args:
        array: Has `__dlpack__`, and lies on a GPU.
        stream: Handle of a CUDA stream.

    Raises:
        BufferError: The library does not hand it out. It may raise others of its own.
    """
    if is_of_torch(array):
        return _read_tensor(array)
    capsule = array.__dlpack__(stream=stream)
    data, _, device, rank, code, bits, lanes, shape, strides, offset = _TENSOR.unpack(
        ctypes.string_at(_get_pointer(capsule, _NAME), _TENSOR.size)
    )
    return View(
        data + offset,
        device,
        _read_sizes(shape, rank),
        _DTYPES.get((code, bits)) if lanes == 1 else None,
        _read_sizes(strides, rank) if strides else None,
        None,
        capsule,
    )


def is_of_torch(array: Any) -> bool:
    """Whether an array is a tensor of torch, whose own names cost less to ask than DLPack's."""
    return type(array).__module__.startswith("torch")


def _read_sizes(place: int, rank: int) -> tuple[int, ...]:
    return struct.unpack(f"={rank}q", ctypes.string_at(place, 8 * rank))


def _read_tensor(tensor: Any) -> View:
    """The same of torch by its own names: its `__dlpack__` costs 17 us, and hides the stream."""
    if tensor.requires_grad:
        raise BufferError("the tensor requires a gradient: give `tensor.detach()`")
    device = tensor.device.index
    return View(
        tensor.data_ptr(),
        device,
        tuple(tensor.shape),
        _find_torch_dtype(tensor.dtype),
        None if tensor.is_contiguous() else tuple(tensor.stride()),
        find_torch_stream(device),
        tensor,
    )


@functools.cache
def _find_torch_dtype(dtype: Any) -> np.dtype[Any] | None:
    name = str(dtype).removeprefix("torch.")
    return next((known for known in _DTYPES.values() if known.name == name), None)


def make_tensor(shape: tuple[int, ...], dtype: np.dtype[Any], device: int) -> Any:
    """A tensor of torch that nobody has written to."""
    empty, form, place = _find_torch_form(dtype, device)
    return empty(shape, dtype=form, device=place)


@functools.cache
def _find_torch_form(dtype: np.dtype[Any], device: int) -> tuple[Any, Any, Any]:
    torch = sys.modules["torch"]
    return torch.empty, getattr(torch, dtype.name), torch.device("cuda", device)


def find_torch_stream(device: int) -> int:
    """Handle of the stream in which torch works now, in this thread."""
    return int(_find_stream_reader()(device))


@functools.cache
def _find_stream_reader() -> Any:
    torch = sys.modules["torch"]
    quick = getattr(torch._C, "_cuda_getCurrentRawStream", None)
    return quick or (lambda device: torch.cuda.current_stream(device).cuda_stream)


def is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether elements lie one after the other, the last dimension's side by side."""
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def export(address: int, device: int, shape: tuple[int, ...], dtype: np.dtype[Any], owner: Any) -> Any:
    """A capsule of memory of ours; `owner` is held until nobody needs the memory on account of it."""
    rank = len(shape)
    block = ctypes.create_string_buffer(_MANAGED.size + 8 * rank)
    place = ctypes.addressof(block)
    kind = (_CODES[dtype.kind], 8 * dtype.itemsize, 1)
    _MANAGED.pack_into(block, 0, address, CUDA, device, rank, *kind, place + _MANAGED.size, 0, 0, 0, _DELETER)
    struct.pack_into(f"={rank}q", block, _MANAGED.size, *shape)
    _exported[place] = (block, owner)
    return _new_capsule(place, _NAME, _DESTRUCTOR)


# What was exported and is still needed, by the address of its structure.
_exported: dict[int, tuple[Any, Any]] = {}


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _delete(place: int) -> None:
    _exported.pop(place, None)


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _destroy(capsule: int) -> None:
    if _is_unread(capsule, _NAME):  # nobody took it: else it is the taker's to delete
        _exported.pop(_get_raw(capsule, _NAME), None)


_DELETER = ctypes.cast(_delete, ctypes.c_void_p).value
_DESTRUCTOR = ctypes.cast(_destroy, ctypes.c_void_p).value


@atexit.register
def _let_go() -> None:
    """A library may drop its arrays when there is no interpreter any more, which the deleter needs: have it call none."""
    for block, _ in list(_exported.values()):
        struct.pack_into("=Q", block, _DELETER_AT, 0)
