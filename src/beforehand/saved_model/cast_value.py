"""One value that a user gave for one input: as a NumPy array, checked against shape and cast when nothing is lost."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from beforehand.records import Shape, TensorSpec, describe_shape

_LITERALS = (bool, int, float, complex, str, bytes)
_LITERAL_NAMES = {"b": "bool", "i": "int", "u": "int", "f": "float", "c": "complex"}


@dataclasses.dataclass(frozen=True)
class Misfit:
    """One thing that is wrong with a sample, and what to do about it."""

    problem: str
    advice: str = ""


@dataclasses.dataclass(frozen=True)
class GivenValue:
    """A value of a user as an array; `text` describes it for messages.

    `is_literal`: Python numbers or text, which have values but no dtype of their own. `array` is None when no array
    can be made; `misfit` then says why.
    """

    text: str
    array: npt.NDArray[Any] | None = None
    is_literal: bool = False
    misfit: Misfit | None = None


def is_array(value: Any) -> bool:
    """True for a NumPy array or scalar, a tensor of any library (`.numpy()`), or anything with `__array__`."""
    if isinstance(value, (np.ndarray, np.generic)):
        return True
    return not isinstance(value, type) and any(callable(getattr(value, name, None)) for name in ("numpy", "__array__"))


def read_value(value: Any) -> GivenValue:
    """`value` as an array with its own dtype; nothing is compared with a signature yet."""
    if is_array(value):
        return _read_array(value)
    if isinstance(value, (*_LITERALS, list, tuple)):
        return _read_literal(value)
    kind = type(value).__name__
    return GivenValue(kind, misfit=Misfit(f"is of type {kind}, which is no array, tensor, number or nested list"))


def find_shape_misfit(shape: Shape, spec: TensorSpec) -> Misfit | None:
    """What is wrong with `shape`: the rank, fixed dimensions, or a dimension of size 0; None if nothing is."""
    expected = (None,) * len(shape) if spec.shape is None else spec.shape
    if len(shape) != len(expected):
        is_batch_missing = len(shape) + 1 == len(expected)
        advice = f"`{spec.name}[np.newaxis]`, if the batch dimension is missing" if is_batch_missing else ""
        return Misfit(f"has rank {len(shape)}, expected rank {len(expected)}", advice)
    axes = list(enumerate(zip(shape, expected, strict=True)))
    wrong = [f"dimension {axis} is {have}, expected {want}" for axis, (have, want) in axes if want not in (None, have)]
    if wrong:
        return Misfit("has a wrong shape: " + ", ".join(wrong))
    # A model whose own shape says 0 has no other sample.
    empty = [str(axis) for axis, (have, want) in axes if have == 0 and want is None]
    if empty:
        return Misfit(
            f"is empty: dimension {', '.join(empty)} is 0, and no engine is ever built for an empty tensor",
            "leave empty samples out; empty calls are answered natively",
        )
    return None


def cast_array(given: GivenValue, dtype_name: str) -> npt.NDArray[Any] | Misfit:
    """The array of `given` with the dtype `dtype_name`, or why that would lose something.

    Arrays follow NumPy's "safe" rule, and 64-bit integers for a float input must also fit exactly. Python literals are
    converted when each value stays the same; Python floats are rounded to the input's float type, as TensorFlow does.
    """
    array = given.array
    if array is None:
        return given.misfit or Misfit("is no array")
    if dtype_name == "string":
        return _cast_text(array)
    dtype = _find_dtype(dtype_name)
    if dtype is None:
        return Misfit(f"needs dtype {dtype_name}, which NumPy does not have here", "`pip install ml_dtypes`")
    if given.is_literal:
        return _cast_literal(array, dtype, dtype_name)
    return array if array.dtype == dtype else _cast_safely(array, dtype, dtype_name)


def _read_array(value: Any) -> GivenValue:
    try:
        data = value.numpy() if callable(getattr(value, "numpy", None)) else value
        # A scalar string tensor gives bytes, and NumPy's own bytes would lose zeros at the end.
        array = np.asarray(data, dtype=object if isinstance(data, (str, bytes)) else None)
    except Exception as exc:  # noqa: BLE001 (each library refuses in its own way: CUDA tensors, symbolic tensors)
        kind = type(value).__name__
        return GivenValue(kind, misfit=Misfit(f"is a {kind} that gives no array ({type(exc).__name__}: {exc})"))
    return GivenValue(f"{_describe_dtype(array.dtype)} {describe_shape(array.shape)}", array)


def _read_literal(value: Any) -> GivenValue:
    leaves = list(_walk_leaves(value))
    kind = type(value).__name__
    odd = next((leaf for leaf in leaves if not isinstance(leaf, (*_LITERALS, np.generic))), None)
    if is_array(odd):
        text = f"{kind} of {len(leaves)} arrays"
        return GivenValue(text, misfit=Misfit(f"is a {text}, expected one array", "`np.stack` or `np.concatenate`"))
    if odd is not None or None in leaves:
        return GivenValue(kind, misfit=Misfit(f"is a {kind} that holds a value of type {type(odd).__name__}"))
    is_text = any(isinstance(leaf, (str, bytes)) for leaf in leaves)
    try:
        array = np.asarray(value, dtype=object if is_text else None)
    except ValueError:
        return GivenValue(f"ragged {kind}", misfit=Misfit(f"is a {kind} with rows of unequal length"))
    name = "str" if is_text else _LITERAL_NAMES.get(array.dtype.kind, "object")
    return GivenValue(f"Python {name} {describe_shape(array.shape)}", array, is_literal=True)


def _walk_leaves(value: Any) -> Iterator[Any]:
    if not isinstance(value, (list, tuple)):
        yield value
        return
    for item in value:
        yield from _walk_leaves(item)


def _find_dtype(name: str) -> np.dtype[Any] | None:
    try:
        return np.dtype(name)
    except TypeError:
        pass
    try:
        # Imported only when needed: a model without such a type must not ask for the package.
        found: np.dtype[Any] = np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
    except (ImportError, AttributeError):
        return None
    return found


def _is_foreign(dtype: np.dtype[Any]) -> bool:
    return dtype.isbuiltin == 2  # NumPy's mark of a type from outside, here of ml_dtypes


def _cast_text(array: npt.NDArray[Any]) -> npt.NDArray[Any] | Misfit:
    if array.dtype.kind == "S":
        return array
    if array.dtype.kind in "UT":
        return array.astype(object)
    if array.dtype.kind == "O" and all(isinstance(item, (str, bytes)) for item in array.flat):
        return array
    return Misfit(f"has dtype {_describe_dtype(array.dtype)}, expected text", "an array of bytes or str")


def _cast_literal(array: npt.NDArray[Any], dtype: np.dtype[Any], dtype_name: str) -> npt.NDArray[Any] | Misfit:
    kind = array.dtype.kind
    if kind not in _LITERAL_NAMES or (kind == "c" and dtype.kind != "c"):
        return Misfit(f"has values that are not {dtype_name}")
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
    if kind in "fc" and ("float" in dtype_name or dtype.kind == "c"):
        # 0.1 is no float32, and still everybody's float32 literal: only what becomes infinite is lost.
        lost = np.isfinite(array) & ~np.isfinite(cast)
    else:
        lost = _find_lost(array, cast)
    return _name_lost(array[lost], dtype_name) if lost.any() else cast


def _cast_safely(array: npt.NDArray[Any], dtype: np.dtype[Any], dtype_name: str) -> npt.NDArray[Any] | Misfit:
    if array.dtype.type is np.void and _is_foreign(dtype) and array.dtype.itemsize == dtype.itemsize:
        return array.view(dtype)  # np.save keeps the bits of ml_dtypes' types and forgets their names
    if not np.can_cast(array.dtype, dtype, "safe"):
        return _refuse_cast(array.dtype, dtype, dtype_name)
    cast = array.astype(dtype)
    # NumPy calls int64 -> float64 safe; above 2**53 it is not.
    if array.dtype in (np.int64, np.uint64):
        lost = _find_lost(array, cast)
        if lost.any():
            return _name_lost(array[lost], dtype_name)
    return cast


def _refuse_cast(have: np.dtype[Any], want: np.dtype[Any], want_name: str) -> Misfit:
    problem = f"has dtype {_describe_dtype(have)}, which does not become {want_name} without loss"
    is_number = have.kind in "biuf" or (have.kind == "c" and want.kind == "c") or _is_foreign(have)
    if not is_number:
        return Misfit(problem, f"an array of {want_name}")
    scope = "ml_dtypes" if _is_foreign(want) else "np"
    name = "bool_" if want_name == "bool" else want_name
    return Misfit(problem, f"`.astype({scope}.{name})`")


def _find_lost(array: npt.NDArray[Any], cast: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    real = cast.real if cast.dtype.kind == "c" else cast
    with np.errstate(all="ignore"):
        back = real.astype(array.dtype)
    # Between int64 and uint64 the way back restores what wrapped around; the sign does not lie.
    lost: npt.NDArray[np.bool_] = np.asarray((back != array) | ((real < 0) != (array < 0)))
    return lost


def _name_lost(values: npt.NDArray[Any], dtype_name: str) -> Misfit:
    return Misfit(f"holds {values.flat[0]}, which {dtype_name} cannot represent")


def _describe_dtype(dtype: np.dtype[Any]) -> str:
    return {"U": "str", "S": "bytes", "T": "str"}.get(dtype.kind) or str(dtype.name)
