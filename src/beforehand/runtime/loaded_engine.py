"""One engine of a loaded model: opened at its first call, remembered when it fails."""

from __future__ import annotations

import logging
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from beforehand.backends.protocol import Executable
from beforehand.backends.registry import find_backend
from beforehand.errors import BeforehandError, EngineRunError, record_error
from beforehand.records import Engine, TensorSpec
from beforehand.store import layout
from beforehand.store.verified_file import read_verified_file

_log = logging.getLogger("beforehand")


class LoadedEngine:
    """An engine's record, its executable once opened, and its counters."""

    def __init__(self, record: Engine, folder: pathlib.Path) -> None:
        self.record = record
        self._folder = folder
        self._executable: Executable | None = None
        self._failure: BeforehandError | None = None
        self._lock = threading.Lock()
        self._calls = 0
        self._loads = 0

    def run(self, inputs: Sequence[np.ndarray[Any, Any]], promised: Sequence[TensorSpec]) -> list[np.ndarray[Any, Any]]:
        """The outputs of one call, which are what the manifest promises.

        Raises:
            BeforehandError: the engine cannot be opened or run; said once in the log, the same error from then on.
        """
        executable = self._executable or self._open()
        try:
            outputs = executable.run(inputs)
            _check_outputs(outputs, promised)
        except Exception as error:  # a backend may raise anything; it is mapped, with its text
            raise self._fail(error) from error
        with self._lock:
            self._calls += 1
        return outputs

    def _open(self) -> Executable:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._executable is None:
                try:
                    self._executable = self._load()
                except Exception as error:  # as above
                    raise self._fail(error) from error
                self._loads += 1
            return self._executable

    def _load(self) -> Executable:
        record = self.record
        data = read_verified_file(layout.find_engine_file(self._folder, record.file), record.sha256)
        return find_backend(record.backend).load(data, record.input_names, record.output_names)

    def _fail(self, error: Exception) -> BeforehandError:
        if not isinstance(error, BeforehandError):
            error = EngineRunError(
                f"the engine of {self.record.segment} for {self.record.shapes.describe()} failed in {self.record.backend}",
                why=f"{type(error).__name__}: {error}",
                advice="`beforehand doctor`; the backend here may not be of the version that built it "
                f"({self.record.backend_version})",
            )
        record_error(error)
        if self._failure is None:
            self._failure = error
            _log.warning("%s Such calls run natively, in TensorFlow.", error)
        return error

    def close(self) -> None:
        """Drop the executable; a call under way keeps it until it ends, a later one opens it again."""
        with self._lock:
            self._executable = None

    def list_stats(self) -> dict[str, Any]:
        """The counters, as plain data."""
        return {
            "segment": self.record.segment,
            "shapes": self.record.shapes.to_dict(),
            "max_shapes": self.record.shapes.to_max_dict(),
            "engine_calls": self._calls,
            "loads": self._loads,
            "evictions": 0,
        }


def _check_outputs(outputs: Sequence[np.ndarray[Any, Any]], promised: Sequence[TensorSpec]) -> None:
    """Refuse what would reach the caller as something that the signature does not say.

    Raises:
        EngineRunError: BH601.
    """
    fits = len(outputs) == len(promised) and all(
        array.dtype.name == spec.dtype
        and (
            spec.shape is None
            or (
                len(spec.shape) == array.ndim
                and all(n in (None, m) for n, m in zip(spec.shape, array.shape, strict=True))
            )
        )
        for array, spec in zip(outputs, promised, strict=True)
    )
    if not fits:
        given = ", ".join(f"{array.dtype.name} {array.shape}" for array in outputs) or "nothing"
        raise EngineRunError(
            f"an engine gave {given}", why="promised: " + ", ".join(spec.describe() for spec in promised)
        )
