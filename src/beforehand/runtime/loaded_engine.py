"""One engine of a loaded model: opened at its first call, closed for others, remembered when it cannot be opened."""

from __future__ import annotations

import logging
import pathlib
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from beforehand.backends.protocol import Executable
from beforehand.backends.registry import find_backend
from beforehand.errors import BeforehandError, EngineRunError, SampleError, record_error
from beforehand.records import UNBOUNDED, Engine, TensorSpec
from beforehand.runtime.adapt_array import name_dtype
from beforehand.runtime.counters import CallCounts
from beforehand.store import layout
from beforehand.store.verified_file import read_verified_file

_log = logging.getLogger("beforehand")
_Form = tuple["np.dtype[Any]", tuple[int, ...]]


class Table(Protocol):
    """What an engine needs of the table that it stands in; see engine_table.py."""

    lock: threading.RLock
    performance_hint: str
    device: int
    what_follows: str

    def make_room(self, engine: LoadedEngine) -> None:
        """The engine is about to be opened."""

    def leave_room(self, engine: LoadedEngine) -> None:
        """The engine is closed."""

    def count_reload(self) -> None:
        """An engine was opened that had been closed for another."""


class LoadedEngine:
    """An engine's record, its executable while it is open, and its counters.

    Args:
        record: Of the manifest, or of an engine built since.
        folder: Where its file is.
        table: Its place, which bounds how many are open.
        built: Whether it was built at run time.
    """

    def __init__(self, record: Engine, folder: pathlib.Path, table: Table, *, built: bool = False) -> None:
        self.record = record
        self.counts = CallCounts()
        self.last_used = 0.0
        self._folder = folder
        self._table = table
        self._executable: Executable | None = None
        self._failure: BeforehandError | None = None  # why it cannot be opened
        self._told = False
        self._evicted = False
        self._loads = self._evictions = 0
        self._builds = int(built)
        self._load_seconds = 0.0
        self._checked: list[_Form] | None = None

    def run(
        self, signature: int, inputs: Sequence[Any], promised: Sequence[TensorSpec], *, on_device: bool = False
    ) -> list[Any]:
        """The outputs of one call, which are what the manifest promises.

        Args:
            signature: Where the call came from, to be counted.
            inputs: The inputs: NumPy arrays, or some that lie on a GPU (`DeviceInput`).
            promised: The manifest's outputs.
            on_device: Whether some do; the outputs are there then too.

        Raises:
            SampleError: BH122, an input on a GPU that cannot be read there.
            BeforehandError: the engine cannot be opened or run; said once in the log. One that cannot be opened is not
                tried again, one that could not run is.
        """
        self.last_used = time.perf_counter()
        executable = self._executable or self._open()  # what this call runs, whoever closes the engine meanwhile
        start = time.perf_counter()
        try:
            outputs = executable.run_on_device(inputs) if on_device else executable.run(inputs)
            forms = [(array.dtype, array.shape) for array in outputs]
            if forms != self._checked:  # as a rule they are the same at every call
                _check_outputs(outputs, promised)
                self._checked = forms
        except SampleError:  # the caller's
            raise
        except Exception as error:  # a backend may raise anything; it is mapped, with its text
            raise self._fail(error) from error
        self.counts.add(signature, time.perf_counter() - start)
        return outputs

    def warm_up(self, promised: Sequence[TensorSpec]) -> None:
        """Open the engine and run it on zeros, at either end of its range; counters stay as they are.

        Args:
            promised: The manifest's inputs.

        Raises:
            BeforehandError: as `run`.
        """
        self.last_used = time.perf_counter()
        executable = self._executable or self._open()
        shapes = self.record.shapes
        try:
            for chosen in dict.fromkeys((shapes.shapes, shapes.max_shapes)):
                if chosen and all(UNBOUNDED not in shape for shape in chosen):
                    executable.run([np.zeros(s, spec.dtype) for s, spec in zip(chosen, promised, strict=True)])
        except Exception as error:  # as in `run`
            raise self._fail(error) from error

    def _open(self) -> Executable:
        with self._table.lock:
            if self._failure is not None:
                # Raised again, it would hold on to the frames, and so to the inputs, of every call so far.
                raise self._failure.with_traceback(None)
            if self._executable is None:
                start = time.perf_counter()
                try:
                    self._executable = self._load()
                except Exception as error:  # as above
                    self._table.leave_room(self)
                    self._failure = self._fail(error)
                    raise self._failure from error
                self._loads += 1
                self._load_seconds += time.perf_counter() - start
                if self._evicted:
                    self._evicted = False
                    self._table.count_reload()
            return self._executable

    def _load(self) -> Executable:
        record = self.record
        data = read_verified_file(layout.find_engine_file(self._folder, record.file), record.sha256)
        self._table.make_room(self)  # not before: a file that is altered must not put out a good engine
        return find_backend(record.backend).load(
            data, record.input_names, record.output_names, precision=record.precision,
            performance_hint=self._table.performance_hint, device=self._table.device,
        )  # fmt: skip

    def _fail(self, error: Exception) -> BeforehandError:
        if not isinstance(error, BeforehandError):
            error = EngineRunError(
                f"the engine of {self.record.segment} for {self.record.shapes.describe()} failed in {self.record.backend}",
                why=f"{type(error).__name__}: {error}",
                advice="`beforehand doctor`; the backend here may not be of the version that built it "
                f"({self.record.backend_version})",
            )
        record_error(error)
        if not self._told:
            self._told = True
            _log.warning("%s %s", error, self._table.what_follows)
        return error

    def close(self) -> None:
        """Drop the executable; a call under way keeps it until it ends, a later one opens it again."""
        with self._table.lock:
            self._executable = None
            self._table.leave_room(self)

    def evict(self) -> None:
        """Close it for another, and count that."""
        with self._table.lock:
            self.close()
            self._evicted = True
            self._evictions += 1

    def reset(self) -> None:
        """Set the counters to zero."""
        with self._table.lock:
            self.counts.reset()
            self._loads = self._evictions = self._builds = 0
            self._load_seconds = 0.0

    def list_stats(self) -> dict[str, Any]:
        """The counters, as plain data."""
        with self._table.lock:
            return {
                "segment": self.record.segment,
                "shapes": self.record.shapes.to_dict(),
                "max_shapes": self.record.shapes.to_max_dict(),
                "engine_calls": self.counts.calls,
                "engine_seconds": self.counts.seconds,
                "loads": self._loads,
                "load_seconds": self._load_seconds,
                "evictions": self._evictions,
                "builds": self._builds,
                "device_bytes": self._executable.device_bytes if self._executable is not None else 0,
            }


def _check_outputs(outputs: Sequence[Any], promised: Sequence[TensorSpec]) -> None:
    """Refuse what would reach the caller as something that the signature does not say.

    Raises:
        EngineRunError: BH601.
    """
    fits = len(outputs) == len(promised) and all(
        name_dtype(array) == spec.dtype
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
        given = ", ".join(f"{array.dtype} {tuple(array.shape)}" for array in outputs) or "nothing"
        raise EngineRunError(
            f"an engine gave {given}", why="promised: " + ", ".join(spec.describe() for spec in promised)
        )
