"""DLPack by ctypes: arrays of other libraries read where they lie on the GPU, and ours handed to them.

Method: the protocol of `__dlpack__` as the array API standard has it, with the structures of dlpack.h, version 0 (the
"dltensor" capsule, which every library still gives and takes). A capsule read here is not renamed: it gives its memory back
when it is dropped.
"""

from __future__ import annotations

import atexit
import ctypes
import struct
import sys
from typing import Any, NamedTuple

import numpy as np

from beforehand.backends import cuda

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13  # DLDeviceType
_NAME = b"dltensor"
_NO_WAIT = -1
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

    `dtype` is None for one that NumPy has not; `capsule` keeps the memory there.
    """

    address: int
    device: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    strides: tuple[int, ...] | None
    capsule: Any


def read(array: Any, stream: int, event: cuda.Event) -> View:
    """The memory of a library's array, ready for work that is put into `stream` from now on.

    Args:
        array: Has `__dlpack__`, and lies on a GPU.
        stream: Handle of a CUDA stream.
        event: One that nobody waits for at present.
    """
    producer = _find_torch_stream(array)
    if producer is None:
        capsule = array.__dlpack__(stream=stream)
    else:  # the same order, by two calls of CUDA instead of torch's own, which cost 15 us
        capsule = array.__dlpack__(stream=_NO_WAIT)
        event.record(producer)
        event.hold_back(stream)
    place = _get_pointer(capsule, _NAME)
    data, _, device, rank, code, bits, lanes, shape, strides, offset = _TENSOR.unpack(
        ctypes.string_at(place, _TENSOR.size)
    )
    return View(
        data + offset,
        device,
        _read_sizes(shape, rank),
        _DTYPES.get((code, bits)) if lanes == 1 else None,
        _read_sizes(strides, rank) if strides else None,
        capsule,
    )


def _read_sizes(place: int, rank: int) -> tuple[int, ...]:
    return struct.unpack(f"={rank}q", ctypes.string_at(place, 8 * rank))


def _find_torch_stream(array: Any) -> int | None:
    """The stream that torch puts its work into at present; None for arrays of others."""
    if not type(array).__module__.startswith("torch"):
        return None
    find = getattr(sys.modules["torch"]._C, "_cuda_getCurrentRawStream", None)
    return None if find is None else int(find(array.device.index))


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
