"""The samples that a user gives to `build`, in whatever form, as checked dicts of arrays: one after the other."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from beforehand.errors import NoSamplesError, SampleError
from beforehand.records import ShapeSet, Signature, TensorSpec
from beforehand.saved_model.cast_value import is_array
from beforehand.saved_model.check_sample import Sample, check_sample

__all__ = ["Sample", "read_sample_files", "read_samples", "shape_set_of"]

_SUFFIXES = (".npz", ".npy")


def read_samples(source: Any, signature: Signature) -> Iterator[Sample]:
    """Checked samples as dicts of arrays, in the order and with the dtypes of `signature`.

    The first sample is read and checked by the call itself, so that mistakes show at once; each further one when the
    iterator is asked for it. Nothing is read ahead.

    What `source` may be:

    - a function without arguments; what it returns (or yields) is then read by the rules below;
    - an array, a tensor or a dict: one sample;
    - a list or tuple: for a signature of two or more inputs, one sample if it holds an array or tensor (such a
      signature has no samples that are bare arrays). Otherwise an iterable of samples: for one input,
      `[a, b]` is two samples and `[a]` is one, whichever way it is read;
    - a `tf.data.Dataset`, a generator, or any other iterable of samples.

    What a sample may be: see `check_sample`.

    Args:
        source: The `input_fn` of the user.
        signature: What the samples have to fit.

    Raises:
        NoSamplesError: BH121, there is no source, or it yields nothing.
        SampleError: BH122, the source is no source, or a sample does not fit.
        Exception: Whatever the user's own code raises, unchanged but for a note that it came from `input_fn`.
    """
    if _is_missing(source):
        raise _refuse_nothing("input_fn is missing", signature)
    what = "input_fn"
    if callable(source) and not is_array(source):
        source, what = _call_source(source, signature), f"what `{_name_of(source)}` returned"
        if _is_missing(source):
            raise _refuse_nothing("input_fn returned nothing", signature)
    items = _number_items(_open_source(source, signature, what), signature)
    return _start_reading((check_sample(item, signature, where) for where, item in items), signature, "input_fn")


def read_sample_files(path: pathlib.Path, signature: Signature) -> Iterator[Sample]:
    """Checked samples from `path`: one .npz file, or a folder of them in the order of their names.

    The arrays of one .npz file, by input name, are one sample; other files of the folder are left alone. For a
    signature of one input, .npy files serve too. Pickled objects are never loaded: save text as bytes (dtype "S").

    Raises:
        NoSamplesError: BH121, the folder has no such file.
        SampleError: BH122, a file cannot be read or does not fit; it is named in the text.
    """
    files = _list_files(path)
    samples = (check_sample(_load_file(file), signature, f"sample file {file}") for file in files)
    return _start_reading(samples, signature, f"folder {path}")


def shape_set_of(sample: Sample, signature: Signature) -> ShapeSet:
    """The concrete shapes of a checked sample, in the order of `signature`."""
    names = tuple(spec.name for spec in signature.inputs)
    return ShapeSet(names, tuple(tuple(sample[name].shape) for name in names))


def _is_missing(source: Any) -> bool:
    # Only types whose truth is known to mean "empty": arrays, tensors and data sets answer bool() in their own way.
    is_plain = isinstance(source, (int, float, complex, str, bytes, list, tuple, Mapping))
    return source is None or (is_plain and not source)


def _call_source(source: Callable[..., Any], signature: Signature) -> Any:
    try:
        parameters = inspect.signature(source)
    except (TypeError, ValueError):
        parameters = inspect.Signature()  # some built-in callables do not tell; then the call itself will
    try:
        parameters.bind()
    except TypeError as exc:
        raise SampleError(
            f"input_fn must take no arguments, but `{_name_of(source)}{parameters}` does not work without ({exc})",
            why=f"It has to yield samples for signature `{signature.key}`: {signature.describe_inputs()}",
            advice="`functools.partial`, or a function without arguments that calls yours",
        ) from None
    try:
        return source()
    except Exception as exc:
        _add_note(exc, f"when it was called, for signature `{signature.key}`")
        raise


def _open_source(source: Any, signature: Signature, what: str) -> Iterator[Any]:
    if is_array(source) or isinstance(source, Mapping):
        return iter([source])
    if isinstance(source, (list, tuple)):
        is_sample = len(signature.inputs) > 1 and any(map(is_array, source))
        return iter([source] if is_sample else source)
    is_iterable = hasattr(type(source), "__iter__") or hasattr(type(source), "__getitem__")
    # Text is iterable too, letter by letter, and a path may be meant for read_sample_files.
    if not is_iterable or isinstance(source, (str, bytes, os.PathLike)):
        raise SampleError(
            f"{what} is of type {type(source).__name__}, expected samples for signature `{signature.key}`: "
            f"{signature.describe_inputs()}",
            advice=_advise_input_fn(signature),
        )
    try:
        return iter(source)
    except Exception as exc:
        _add_note(exc, f"before its first sample, for signature `{signature.key}`")
        raise


def _number_items(iterator: Iterator[Any], signature: Signature) -> Iterator[tuple[str, Any]]:
    for number in itertools.count(1):
        try:
            item = next(iterator)
        except StopIteration:
            return
        except Exception as exc:
            _add_note(exc, f"for sample {number} of signature `{signature.key}`")
            raise
        yield f"sample {number}", item


def _start_reading(samples: Iterator[Sample], signature: Signature, what: str) -> Iterator[Sample]:
    first = next(samples, None)
    if first is None:
        raise _refuse_nothing(f"{what} has no samples", signature)
    return itertools.chain([first], samples)


def _add_note(exc: Exception, when: str) -> None:
    note = f"beforehand: this was raised by your own input_fn, {when}."
    # An exception may forbid new attributes (a frozen dataclass); then the user's error is worth more than our note.
    with contextlib.suppress(Exception):
        if sys.version_info >= (3, 11):
            exc.add_note(note)
        else:
            vars(exc).setdefault("__notes__", []).append(note)


def _refuse_nothing(what: str, signature: Signature) -> NoSamplesError:
    return NoSamplesError(
        what,
        why="Engines are built for the shapes of samples, which input_fn has to yield; "
        f"signature `{signature.key}` takes {signature.describe_inputs()}",
        advice=_advise_input_fn(signature),
    )


def _advise_input_fn(signature: Signature) -> str:
    values = ", ".join(f'"{spec.name}": {_write_zeros(spec)}' for spec in signature.inputs)
    return f"`def input_fn(): yield {{{values}}}`, with the shapes that you will call the model with"


def _write_zeros(spec: TensorSpec) -> str:
    shape = tuple(1 if dim is None else dim for dim in spec.shape or ())
    if spec.dtype == "string":
        return f'np.full({shape}, b"text")'
    scope = "np" if hasattr(np, spec.dtype) else "ml_dtypes"
    return f"np.zeros({shape}, {'bool' if spec.dtype == 'bool' else f'{scope}.{spec.dtype}'})"


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _list_files(path: pathlib.Path) -> list[pathlib.Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())
    if not path.is_file():
        raise SampleError(f"there is no sample file or folder {path}")
    if path.suffix.lower() not in _SUFFIXES:
        raise SampleError(f"sample file {path} is no .npz file", advice="`np.savez(path, **{input_name: array})`")
    return [path]


def _load_file(file: pathlib.Path) -> Any:
    try:
        # Opened here, since NumPy leaves a damaged .npz open.
        with file.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except Exception as exc:  # A damaged file fails in zipfile, zlib, struct or NumPy, each with its own classes
        raise SampleError(
            f"sample file {file} cannot be read as arrays",
            why=f"{type(exc).__name__}: {exc}",
            advice="`np.savez(path, **{input_name: array})`; text as bytes, since pickled objects are never loaded",
        ) from exc
