"""Engines built at run time: one after the other, in the background, in a process of their own, into the user's cache."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import logging
import os
import pathlib
import queue
import subprocess
import threading
import time
import weakref
from typing import TYPE_CHECKING

from beforehand import environment
from beforehand.backends.registry import find_backend
from beforehand.build_engines.build_engine import build_engine
from beforehand.build_engines.plan_engines import make_spec
from beforehand.build_engines.settings import BuildSettings
from beforehand.errors import BeforehandError, BuildError
from beforehand.records import Engine, EngineSpec, Manifest, ShapeSet
from beforehand.store.cache_folder import CacheFolder
from beforehand.store.segment_sources import restore_onnx

if TYPE_CHECKING:
    from beforehand.runtime.model_runtime import ModelRuntime

_log = logging.getLogger("beforehand")
# Engines asked for at run time, for each segment: a service whose shapes never end must not fill disk and memory with them.
MOST_BUILDS = 20
_NICENESS = 10  # the process that builds yields to those that answer
_STOP_S = 5.0


class BackgroundBuilds:
    """The engines that one loaded model asks for. Nothing is ever written to its SavedModel.

    Args:
        model: Gets what was built; it is not kept alive.
        manifest: The model's, with sources.
        folder: The SavedModel.
    """

    def __init__(self, model: ModelRuntime, manifest: Manifest, folder: pathlib.Path) -> None:
        self._model = weakref.ref(model)
        self._manifest = manifest
        self._folder = folder
        # Engines that the user built once are no surprise: they do not count against the bound.
        self._own = {(engine.segment_index, engine.shapes) for engine in manifest.engines}
        self._process = os.getpid()
        self._asked: dict[tuple[int, ShapeSet], object] = {}
        self._told: set[object] = set()

    def request(self, segment: int, shapes: ShapeSet) -> None:
        """Ask for an engine. Returns at once, never raises; asked again for the same, it does nothing.

        Args:
            segment: Index of the segment in the manifest.
            shapes: What the engine is to serve.
        """
        if self._process != os.getpid():  # after a fork: what was waiting is built in the parent, for the parent
            self._process, self._asked = os.getpid(), {}
        key, mark = (segment, shapes), object()
        if key in self._asked or self._is_over_bound(segment, shapes):
            return
        if self._asked.setdefault(key, mark) is mark:  # of several threads, one; without a lock that a fork could break
            worker = _find_worker()
            if worker is not None:
                worker.jobs.put((self, segment, shapes))

    def _is_over_bound(self, segment: int, shapes: ShapeSet) -> bool:
        if (segment, shapes) in self._own:
            return False
        asked = sum(index == segment and (index, other) not in self._own for index, other in tuple(self._asked))
        if asked >= MOST_BUILDS and self._tell_once(segment):
            _log.warning(
                "%s asked for engines of %d shape sets at run time, and no more are built for it. Try: build() with a range "
                "of shapes.", self._manifest.segments[segment].name, asked,
            )  # fmt: skip
        return asked >= MOST_BUILDS

    def _tell_once(self, what: object) -> bool:
        is_new = what not in self._told
        self._told.add(what)
        return is_new

    def make(self, segment: int, shapes: ShapeSet, worker: Worker) -> None:
        """Find the engine in the cache or build it there, and hand it to the model. Called by the worker alone."""
        model = self._model()
        if model is None or worker.is_stopped:
            return
        del model  # it may go while its engine is built
        what = f"{self._manifest.segments[segment].name} for {shapes.describe()}"
        try:
            found = self._make_engine(segment, shapes, worker, what)
        except Exception as error:  # noqa: BLE001 (the thread must go on, and the reason must be told)
            if not worker.is_stopped:
                reason = str(error) if isinstance(error, BeforehandError) else f"{type(error).__name__}: {error}"
                _log.warning("no engine of %s can be built at run time: %s", what, reason)
                self._tell_failure(segment, shapes, reason)
                self._ask_singly(segment, shapes)
            return
        model = self._model()
        if found is not None and model is not None:
            engine, cache, built = found
            model.add_built(engine, cache.engines, built=built)

    def _make_engine(
        self, segment: int, shapes: ShapeSet, worker: Worker, what: str
    ) -> tuple[Engine, CacheFolder, bool] | None:
        """The engine, and whether it was built just now; None where it may not be built, or failed in another process."""
        cache = CacheFolder()
        backend = find_backend(dict(self._manifest.options)["backend"])
        spec = make_spec(self._manifest, segment, shapes, backend, target="")
        engine = cache.find_engine(spec)  # before anything is written: the cache may be read-only
        if engine is None and environment.is_build_forbidden():
            if self._tell_once("forbidden"):
                _log.warning("no engine is built for %s, nor for any later: BEFOREHAND_FORBID_BUILD is set.", what)
            return None
        if engine is not None:
            return self._report_found(engine, cache, what)
        with cache.lock(spec.key):
            engine = cache.find_engine(spec)
            if engine is not None:
                return self._report_found(engine, cache, what)
            failure = cache.find_failure(spec.key)
            if failure is not None:
                _log.warning("no engine is built for %s: it failed within the last hour. %s", what, failure)
                self._tell_failure(segment, shapes, failure)
                self._ask_singly(segment, shapes)
                return None
            return self._build(spec, cache, worker, what), cache, True

    @staticmethod
    def _report_found(engine: Engine, cache: CacheFolder, what: str) -> tuple[Engine, CacheFolder, bool]:
        _log.info("the engine of %s was found in %s", what, cache.engines)
        return engine, cache, False

    def _build(self, spec: EngineSpec, cache: CacheFolder, worker: Worker, what: str) -> Engine:
        _log.warning("building an engine at run time, in the background: %s, %s", what, spec.backend)
        start = time.monotonic()
        with cache.make_scratch(spec.key) as scratch:
            folder = restore_onnx(self._manifest.sources[spec.segment_index], self._folder, scratch)
            spec = dataclasses.replace(spec, onnx_file=str(folder / spec.onnx_file))
            settings = BuildSettings(timeout_s=self._manifest.policies.timeout_s)
            try:
                engine = build_engine(spec, scratch, settings, on_start=worker.watch)
            except BuildError as error:
                if not worker.is_stopped:
                    cache.add_failure(spec.key, str(error))
                raise
            kept = cache.add_engine(engine, spec, scratch / engine.file)
        _log.warning(
            "built an engine at run time: %s, %.1f MB in %.1f s, kept in %s",
            what, kept.bytes / 1e6, time.monotonic() - start, cache.engines / kept.file,
        )  # fmt: skip
        return kept

    def _ask_singly(self, segment: int, shapes: ShapeSet) -> None:
        """A segment may have no range of batches, where the batch is a constant inside: ask for the largest one alone."""
        if shapes.is_range and self._manifest.policies.serve_smaller_batches and (segment, shapes) not in self._own:
            self.request(segment, ShapeSet(shapes.names, shapes.max_shapes))

    def _tell_failure(self, segment: int, shapes: ShapeSet, reason: str) -> None:
        model = self._model()
        if model is not None:
            model.add_failure(segment, shapes, reason)


class Worker:
    """The one thread of a process that builds engines. It does not hold up the end of the process, nor does its child."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[tuple[BackgroundBuilds, int, ShapeSet]] = queue.SimpleQueue()
        self.is_stopped = False
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="beforehand-builds", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self.is_stopped:
            builds, segment, shapes = self.jobs.get()
            builds.make(segment, shapes, self)
            del builds

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        """Called with the child that builds."""
        self._child = process
        if hasattr(os, "setpriority"):
            with contextlib.suppress(OSError):  # it may have ended already
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        if self.is_stopped:
            process.kill()

    def stop(self) -> None:
        """End the child, and let the thread clean up after it, within seconds."""
        self.is_stopped = True
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._thread.join(_STOP_S)


_worker: Worker | None = None
_lock = threading.Lock()


def _find_worker() -> Worker | None:
    """None where no thread can be started: at the end of the process, or where there are too many."""
    global _worker  # noqa: PLW0603 (one a process)
    with _lock:
        if _worker is None:
            try:
                _worker = Worker()
            except RuntimeError as error:
                _log.warning("no engine is built at run time: %s", error)
        return _worker


@atexit.register
def _stop_worker() -> None:
    if _worker is not None:
        _worker.stop()


def _forget_worker() -> None:
    """In a forked child: its parent's thread is not there, and its parent's build is none of its own."""
    global _worker, _lock
    _worker, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_worker)
