"""The models whose engines this process may be asked for, by the key of their load; and the one way in."""

from __future__ import annotations

import contextlib
import pathlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from beforehand.errors import BeforehandError, NoEnginesError, record_error
from beforehand.runtime.model_runtime import ModelRuntime
from beforehand.store.manifest import read_manifest

_models: dict[int, ModelRuntime] = {}
_lock = threading.Lock()
_disabled = 0
_SERVED, _NOT_SERVED = np.array(True), np.array(False)


def open_model(key: int, manifest_file: pathlib.Path) -> None:
    """Make a converted model on disk known under `key`. Its engines are opened when they are first needed.

    A manifest that cannot be read leaves the model native: the error is kept, logged, and told by `stats`.
    """
    with contextlib.suppress(OSError):  # the working folder may be gone, or closed to us
        manifest_file = manifest_file.absolute()
    with _lock:
        _models[key] = ModelRuntime.open(manifest_file, read_manifest)


def add_model(key: int, model: ModelRuntime) -> None:
    """Make a model of this process (converted, perhaps not saved yet) known under `key`."""
    with _lock:
        _models[key] = model


def release_model(key: int) -> None:
    """Close the engines of a model that nobody holds; a frozen copy of its functions would open them again."""
    model = _models.get(key)
    if model is not None:
        model.close()


def is_open(key: int) -> bool:
    """Whether `key` is the key of a model."""
    return key in _models


def is_usable(key: int) -> bool:
    """Whether the model of `key` could be read; one that could not must never be asked."""
    return is_open(key) and _models[key].error is None


def find_model(key: int) -> ModelRuntime:
    """The model of that key.

    Raises:
        NoEnginesError: BH602.
    """
    try:
        return _models[key]
    except KeyError:
        raise NoEnginesError(
            f"no model of key {key} was loaded in this process",
            why="a frozen graph carries the key of the load it was made from",
            advice="load the converted SavedModel itself, then freeze it here",
        ) from None


def list_engine_files(key: int) -> tuple[pathlib.Path, ...]:
    """Engine files of a model that exist."""
    return find_model(key).list_files() if is_open(key) else ()


def serve(key: int, signature: int, segment: int, inputs: Sequence[np.ndarray[Any, Any]]) -> list[Any]:
    """(served, outputs...) of one segment; empty arrays when the native segment must answer."""
    try:
        model = find_model(key)
        outputs = None if _disabled else model.run(signature, segment, inputs)
        if outputs is None:
            model.count_native(signature)
            return [_NOT_SERVED, *model.make_empty_outputs(segment)]
    except BeforehandError as error:
        record_error(error)
        raise _carry_code(error) from None
    except BaseException as error:
        record_error(error)
        raise
    return [_SERVED, *outputs]


def serve_direct(
    key: int, signature: int, segment: int, inputs: Sequence[np.ndarray[Any, Any]]
) -> list[np.ndarray[Any, Any]] | None:
    """The outputs of one segment; None, and nothing said or counted, where `serve` must be asked instead."""
    model = _models.get(key)
    return None if _disabled or model is None else model.run_direct(signature, segment, inputs)


def _carry_code(error: BeforehandError) -> Exception:
    """An error for TensorFlow, which keeps nothing but "class name: text": the name is the code, so the text starts so."""
    named: type[RuntimeError] = type(error.code, (RuntimeError,), {})
    return named(str(error).removeprefix(f"{error.code} "))


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Within this context, in all threads, loaded models answer natively."""
    global _disabled  # noqa: PLW0603 (process-wide by its promise)
    with _lock:
        _disabled += 1
    try:
        yield
    finally:
        with _lock:
            _disabled -= 1
