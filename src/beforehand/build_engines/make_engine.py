"""One engine: out of the cache, or built into it, by one of however many processes ask for it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Protocol

from beforehand import causes
from beforehand.build_engines.events import HEARTBEAT_S, PREPARING, WAITING, Progress, Report
from beforehand.build_engines.settings import BuildSettings
from beforehand.errors import BuildCancelledError, BuildError
from beforehand.records import Engine, EngineSpec
from beforehand.store import atomic, layout
from beforehand.store.cache_folder import CacheFolder

_log = logging.getLogger("beforehand")
_POLL_S = 0.1
_FULL = (errno.ENOSPC, errno.EDQUOT)
Prepare = Callable[[EngineSpec], EngineSpec]


class BuildOne(Protocol):
    """What builds one engine into a folder: `build_engine`, or the same elsewhere."""

    def __call__(
        self,
        spec: EngineSpec,
        folder: pathlib.Path,
        settings: BuildSettings,
        *,
        report: Report,
        cancel: threading.Event,
    ) -> Engine:
        """See `build_engine`."""


@dataclasses.dataclass(frozen=True)
class Made:
    """An engine, its file in the folder asked for; `is_cached` if nothing was built for it."""

    engine: Engine
    is_cached: bool


@dataclasses.dataclass(frozen=True)
class EngineMaker:
    """Makes engines, from several threads at once.

    Attributes:
        folder: Where engine files go, named as they are in a SavedModel.
        settings: How builds are run.
        build: Builds one.
        cache: Where engines are found and kept; None: nowhere.
        prepare: Gives a specification whose ONNX file exists; asked only for what must be built.
        cancel: Ends waiting and building within seconds.
    """

    folder: pathlib.Path
    settings: BuildSettings
    build: BuildOne
    cache: CacheFolder | None
    prepare: Prepare
    cancel: threading.Event

    def make(self, spec: EngineSpec, report: Report) -> Made:
        """Find the engine of `spec` in the cache, or build it there.

        Raises:
            BuildError: BH401. BuildForbiddenError: BH402. BuildCancelledError: BH403.
        """
        try:
            if self.cache is None:
                return self._build_here(spec, report)
            return self._make_in(self.cache, spec, report)
        except OSError as error:
            raise explain_disk(error, spec) from error

    def _make_in(self, cache: CacheFolder, spec: EngineSpec, report: Report) -> Made:
        start = told = time.monotonic()
        while True:
            with contextlib.ExitStack() as stack:
                try:
                    is_mine = stack.enter_context(cache.try_lock(spec.key))
                except OSError as error:  # a cache that may only be read
                    return self._make_beside(cache, spec, report, error)
                if is_mine:
                    return self._find(cache, spec) or self._build_in(cache, spec, report)
            if time.monotonic() - told >= HEARTBEAT_S or told == start:
                told = time.monotonic()
                report(Progress(WAITING, told - start, message="for another process that builds the same engine"))
            if self.cancel.wait(_POLL_S):
                raise BuildCancelledError(
                    f"waiting for the engine of {spec.segment} for {spec.shapes.describe()} was cancelled",
                    cause=causes.CANCELLED, segment=spec.segment, shapes=spec.shapes.describe(),
                )  # fmt: skip

    def _make_beside(self, cache: CacheFolder, spec: EngineSpec, report: Report, error: OSError) -> Made:
        found = self._find(cache, spec)
        if found is None:
            _log.warning(
                "the engine of %s for %s is not kept in the cache, and would be built again: %s cannot be written (%s). "
                "Try: BEFOREHAND_CACHE=another folder.", spec.segment, spec.shapes.describe(), cache.folder, error,
            )  # fmt: skip
        return found or self._build_here(spec, report)

    def _find(self, cache: CacheFolder, spec: EngineSpec) -> Made | None:
        engine = cache.find_engine(spec)
        if engine is None:
            return None
        return Made(self._put(spec, engine, cache.engines / engine.file), is_cached=True)

    def _build_in(self, cache: CacheFolder, spec: EngineSpec, report: Report) -> Made:
        report(Progress(PREPARING))
        with cache.make_scratch(spec.key) as scratch:
            engine = self.build(self.prepare(spec), scratch, self.settings, report=report, cancel=self.cancel)
            kept = cache.add_engine(engine, spec, scratch / engine.file)
        cache.history.add(spec, engine)
        return Made(self._put(spec, kept, cache.engines / kept.file), is_cached=False)

    def _build_here(self, spec: EngineSpec, report: Report) -> Made:
        report(Progress(PREPARING))
        engine = self.build(self.prepare(spec), self.folder, self.settings, report=report, cancel=self.cancel)
        return Made(engine, is_cached=False)

    def _put(self, spec: EngineSpec, engine: Engine, file: pathlib.Path) -> Engine:
        """The engine's file in the folder. Where the lock can be had it is held, so that nobody removes the file meanwhile."""
        name = layout.name_engine_file(spec.segment, spec.key, spec.backend)
        target = self.folder / name
        target.unlink(missing_ok=True)
        atomic.copy_file(file, target)
        return dataclasses.replace(engine, file=name)


def explain_disk(error: OSError, spec: EngineSpec) -> BuildError:
    """The error for an engine, or what it is built of, that could not be written."""
    shapes = spec.shapes.describe()
    cause = causes.DISK_FULL if error.errno in _FULL else causes.FAILED
    return BuildError(
        f"the engine of {spec.segment} for {shapes} was not kept", cause=cause, segment=spec.segment, shapes=shapes,
        why=f"{error.filename or 'the system'}: {error.strerror or error}", advice=causes.ADVICE[cause],
    )  # fmt: skip
