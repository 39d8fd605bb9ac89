"""What callers give beside plain NumPy arrays: subclasses of them, arrays of other libraries, arrays on a GPU."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from beforehand.backends import dlpack
from beforehand.backends.device_array import DeviceInput
from beforehand.errors import SampleError

_ON_HOST = (dlpack.CPU, dlpack.CUDA_HOST)
_ON_GPU = (dlpack.CUDA, dlpack.CUDA_MANAGED)


def is_masked(value: Any) -> bool:
    """Whether a value is an array whose memory does not say all of it."""
    return isinstance(value, np.ma.MaskedArray)


def name_dtype(array: Any) -> str:
    """NumPy's name of an array's dtype, of whatever library: "float32" of "torch.float32" too."""
    return _name_dtype(array.dtype)


@functools.cache
def _name_dtype(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


def adapt_array(name: str, array: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any] | DeviceInput | None:
    """The array as an engine takes it, with nothing copied and no value converted.

    Args:
        name: The input's.
        array: Whatever was given.
        dtype: The input's.

    Returns:
        A NumPy array; a `DeviceInput` for what lies on a GPU; None for what is neither, or of another dtype.

    Raises:
        SampleError: BH122, its library does not hand it out.
    """
    if isinstance(array, np.ndarray):
        adapted = None if is_masked(array) else np.asarray(array)
        return adapted if adapted is not None and adapted.dtype == dtype else None
    if not hasattr(array, "__dlpack_device__"):
        return None
    kind = dlpack.CUDA if dlpack.is_of_torch(array) and array.is_cuda else array.__dlpack_device__()[0]
    if kind in _ON_GPU:
        return DeviceInput(array) if name_dtype(array) == dtype.name else None
    if kind not in _ON_HOST:
        return None
    try:
        adapted = np.from_dlpack(array)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise SampleError(
            f"{name} cannot be read: its library does not hand it out", why=f"{type(error).__name__}: {error}"
        ) from error
    return adapted if adapted.dtype == dtype else None
