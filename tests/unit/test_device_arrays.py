"""What needs no GPU of arrays on GPUs: DLPack's structures both ways, kernels beside an engine, which arrays are taken."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from beforehand.backends import dlpack, tensorrt_kernels
from beforehand.backends.device_array import DeviceInput
from beforehand.errors import SampleError
from beforehand.records import ShapeSet
from beforehand.runtime.adapt_array import adapt_array


class Owner:
    """Stands for memory."""


class Exporting:
    """An array of a library, by way of our own export."""

    def __init__(self, kind: int = dlpack.CUDA, **form: Any) -> None:
        self.kind, self.owner = kind, Owner()
        self.form = {"address": 4096, "device": 1, "shape": (2, 3), "dtype": np.dtype("float32"), **form}
        self.shape, self.dtype = self.form["shape"], self.form["dtype"]

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 1

    def __dlpack__(self, *, stream: int) -> Any:
        assert stream == 77
        return dlpack.export(**self.form, owner=self.owner)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4)])
def test_what_is_exported_is_read_back(dtype: str, shape: tuple[int, ...]) -> None:
    view = dlpack.read(Exporting(shape=shape, dtype=np.dtype(dtype)), 77)
    assert view[:6] == (4096, 1, shape, np.dtype(dtype), None, None)


def test_memory_is_held_until_the_last_capsule_goes() -> None:
    array = Exporting()
    views = [dlpack.read(array, 77) for _ in range(3)]
    owner = weakref.ref(array.owner)
    del array
    gc.collect()
    assert owner() is not None
    views.clear()
    gc.collect()
    assert owner() is None


def test_a_capsule_that_was_taken_is_its_takers() -> None:
    import ctypes

    array = Exporting()
    owner = weakref.ref(array.owner)
    capsule = array.__dlpack__(stream=77)
    place = dlpack._get_pointer(capsule, b"dltensor")
    ctypes.pythonapi.PyCapsule_SetName(ctypes.py_object(capsule), ctypes.c_char_p(b"used_dltensor"))
    del capsule, array
    gc.collect()
    assert owner() is not None
    dlpack._delete(place)  # what the taker does by the structure's own pointer
    gc.collect()
    assert owner() is None


@pytest.mark.parametrize(
    ("shape", "strides", "expected"),
    [((2, 3), (3, 1), True), ((2, 3), (1, 2), False), ((1, 3), (99, 1), True), ((), (), True), ((2, 1), (1, 7), True)],
)
def test_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], expected: bool) -> None:
    assert dlpack.is_contiguous(shape, strides) is expected


def test_arrays_are_taken_as_they_are_or_not_at_all(tmp_path: Any) -> None:
    wanted = np.dtype("float32")
    plain = np.zeros((2, 3), np.float32)
    mapped = np.memmap(tmp_path / "m", np.float32, "w+", shape=(2, 3))
    adapted = adapt_array("x", mapped, wanted)
    assert type(adapted) is np.ndarray
    assert np.shares_memory(adapted, mapped)
    assert adapt_array("x", np.ma.masked_array(plain), wanted) is None
    assert adapt_array("x", plain.astype(np.float64), wanted) is None
    assert adapt_array("x", [1.0], wanted) is None
    on_gpu = adapt_array("x", Exporting(), wanted)
    assert isinstance(on_gpu, DeviceInput)
    assert on_gpu.shape == (2, 3)
    assert adapt_array("x", Exporting(dtype=np.dtype("int32")), wanted) is None
    assert adapt_array("x", Exporting(kind=4), wanted) is None  # OpenCL


class OnHost:
    """An array of another library, on the host."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CPU, 0

    def __dlpack__(self, **asked: Any) -> Any:
        if self.array.size == 0:
            raise BufferError("it is empty")
        return self.array.__dlpack__(**asked)


def test_other_libraries_arrays_on_the_host_are_viewed() -> None:
    plain = np.arange(6, dtype=np.float32)
    adapted = adapt_array("x", OnHost(plain), np.dtype("float32"))
    assert isinstance(adapted, np.ndarray)
    assert np.shares_memory(adapted, plain)
    with pytest.raises(SampleError, match="x cannot be read: its library does not hand it out"):
        adapt_array("x", OnHost(np.zeros(0, np.float32)), np.dtype("float32"))


@pytest.mark.parametrize("engine", [b"", b"e", b"engine" * 100])
@pytest.mark.parametrize("kernels", [b"", b"k", b"kernels" * 1000])
def test_kernels_lie_behind_the_engine(engine: bytes, kernels: bytes) -> None:
    assert tuple(map(bytes, tensorrt_kernels.split(tensorrt_kernels.join(engine, kernels)))) == (engine, kernels)
    assert tensorrt_kernels.join(engine, b"") == engine


def test_a_length_that_cannot_be_is_no_kernels() -> None:
    data = tensorrt_kernels.join(b"engine", b"kernels")[3:]
    broken = data[:-24] + (10**6).to_bytes(8, "little") + data[-16:]
    assert tuple(map(bytes, tensorrt_kernels.split(broken))) == (broken, b"")


def test_kernels_are_compiled_for_the_shapes_that_come_first() -> None:
    def names(count: int) -> tuple[str, ...]:
        return tuple("xyz"[:count])

    one = ShapeSet(names(1), ((4, 3),))
    assert tensorrt_kernels.list_shapes(one) == [((4, 3),)]
    batches = ShapeSet(names(1), ((1, 3),), ((12, 3),))
    assert tensorrt_kernels.list_shapes(batches) == [((1, 3),), ((12, 3),), ((2, 3),), ((4, 3),), ((8, 3),)]
    two = ShapeSet(names(2), ((2, 3), (2,)), ((4, 3), (4,)), one_batch=True)
    assert tensorrt_kernels.list_shapes(two) == [((2, 3), (2,)), ((4, 3), (4,))]
    lengths = ShapeSet(names(1), ((1, 8),), ((4, 512),), ((2, 128),))
    assert tensorrt_kernels.list_shapes(lengths) == [((1, 8),), ((2, 128),), ((4, 512),)]
    assert len(tensorrt_kernels.list_shapes(ShapeSet(names(1), ((1, 3),), ((4096, 3),)))) == 8
