"""Builds as Ray tasks, on a cluster that is there or on one of this machine: the same child process, on another node.

A node gets the segment's ONNX files through Ray's object store, once for each segment, and gives back the engine's record
and bytes. Progress and cancelling go through a small actor.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np

from beforehand import causes, environment
from beforehand.backends.registry import find_backend
from beforehand.build_engines.build_engine import build_engine, refuse_forbidden
from beforehand.build_engines.child import decode_spec, encode_spec
from beforehand.build_engines.events import STARTING, WAITING, Progress, Report
from beforehand.build_engines.keep_log import keep_log
from beforehand.build_engines.make_engine import explain_disk
from beforehand.build_engines.settings import BuildSettings
from beforehand.errors import BackendError, BeforehandError, BuildCancelledError, BuildError
from beforehand.records import Engine, EngineSpec
from beforehand.store import atomic, layout
from beforehand.store.manifest import decode_engine, encode_engine

_POLL_S = 0.5
_STOP_S = 3.0  # for a task that was asked to stop; then its process is ended
_LOG_BYTES = 1_000_000
_USAGE_STATS = "RAY_USAGE_STATS_ENABLED"


@contextlib.contextmanager
def open_ray(settings: BuildSettings) -> Iterator[RayBuilder]:
    """A builder on the cluster that this process is connected to, or that RAY_ADDRESS names; else on one of this machine.

    A cluster that was not there before is shut down afterwards.

    Raises:
        BackendError: BH701, Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise BackendError(
            "executor is ray, and Ray is not installed", why=str(error), advice="pip install 'beforehand[ray]'"
        ) from error
    if ray.is_initialized():
        yield RayBuilder(ray)
        return
    with _keep_process():
        _start_ray(ray, settings)
        try:
            yield RayBuilder(ray)
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _keep_process() -> Iterator[None]:
    """Leave to the user's process what Ray changes of it: its handler of SIGTERM, and what is set here for Ray."""
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if is_main else None
    given = os.environ.get(_USAGE_STATS)
    os.environ.setdefault(_USAGE_STATS, "0")
    try:
        yield
    finally:
        if given is None:
            os.environ.pop(_USAGE_STATS, None)
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)


def _start_ray(ray: Any, settings: BuildSettings) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
    if not os.environ.get("RAY_ADDRESS"):  # "local": else Ray would look for a cluster of this machine, whoever's it is
        options |= {"address": "local", "num_cpus": settings.workers, "include_dashboard": False}
    try:
        ray.init(**options)
    except Exception as error:
        raise BackendError(
            "no Ray cluster can be reached or started", why=f"{type(error).__name__}: {error}",
            advice="RAY_ADDRESS of a cluster that runs, or executor='local'",
        ) from error  # fmt: skip


class RayBuilder:
    """Builds engines as tasks of one CPU each; several threads may call it."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._task = ray.remote(num_cpus=1, max_retries=0)(_build_on_node)
        # It is asked twice a second by each build, on both sides.
        self._board = ray.remote(num_cpus=0, max_concurrency=1)(_Board).remote()
        self._files: dict[str, Any] = {}
        self._lock = threading.Lock()

    def build_engine(
        self,
        spec: EngineSpec,
        folder: pathlib.Path,
        settings: BuildSettings,
        *,
        report: Report,
        cancel: threading.Event,
    ) -> Engine:
        """As `build_engines.build_engine.build_engine`: the same errors, the same files in `folder`."""
        if environment.is_build_forbidden():  # here: nodes have environments of their own
            raise refuse_forbidden(spec)
        name = uuid.uuid4().hex
        files = self._send_files(spec)
        task = self._task.remote(encode_spec(spec), files, dataclasses.asdict(settings), self._board, name)
        try:
            found = self._wait(task, name, spec, report, cancel)
        except self._ray.exceptions.RayError as error:
            raise _explain_lost(spec, error) from error
        finally:
            self._board.forget.remote(name)
        if "error" in found:
            raise _rebuild_error(found["error"], folder)
        engine = decode_engine(found["engine"])
        atomic.write_bytes(folder / engine.file, found["bytes"].tobytes())
        return engine

    def _send_files(self, spec: EngineSpec) -> list[tuple[str, Any]]:
        """References to the segment's files in the object store."""
        with self._lock:
            if spec.onnx_file not in self._files:
                onnx_file = pathlib.Path(spec.onnx_file)
                paths = [path for path in (onnx_file, onnx_file.with_name(layout.ONNX_WEIGHTS)) if path.is_file()]
                # Arrays, as these go into the store and out of it without a copy, whatever their size.
                self._files[spec.onnx_file] = [
                    (path.name, self._ray.put(np.fromfile(path, np.uint8))) for path in paths
                ]
            return list(self._files[spec.onnx_file])

    def _wait(self, task: Any, name: str, spec: EngineSpec, report: Report, cancel: threading.Event) -> dict[str, Any]:
        start, cancelled_at = time.monotonic(), 0.0
        while True:
            ready, _ = self._ray.wait([task], timeout=_POLL_S)
            for phase, elapsed, memory, peak in self._ask(self._board.take.remote(name), ()):
                report(Progress(phase, elapsed, memory, peak))
            if ready:
                return dict(self._ray.get(task))
            if not self._ask(self._board.has_begun.remote(name), True):
                report(Progress(WAITING, time.monotonic() - start, message="for a node of the cluster"))
            if cancel.is_set() and not cancelled_at:
                cancelled_at = time.monotonic()
                self._board.cancel.remote(name)
                self._ray.cancel(task)  # one that has not begun never will
            if cancelled_at and time.monotonic() - cancelled_at > _STOP_S:
                self._ray.cancel(task, force=True)
                raise _tell_cancelled(spec)

    def _ask(self, reference: Any, default: Any) -> Any:
        """What the board says; `default` if it does not answer at once, as where its node hangs."""
        try:
            return self._ray.get(reference, timeout=_POLL_S)
        except self._ray.exceptions.GetTimeoutError:
            return default


class _Board:
    """What builds tell, and which are cancelled; an actor."""

    def __init__(self) -> None:
        self._news: dict[str, list[tuple[str, float, int, int]]] = {}
        self._begun: set[str] = set()
        self._cancelled: set[str] = set()

    def tell(self, name: str, phase: str, elapsed: float, memory: int, peak: int) -> bool:
        """Add news; whether the build is cancelled."""
        if phase:
            self._begun.add(name)
            self._news.setdefault(name, []).append((phase, elapsed, memory, peak))
        return name in self._cancelled

    def take(self, name: str) -> list[tuple[str, float, int, int]]:
        """The news since the last call."""
        return self._news.pop(name, [])

    def has_begun(self, name: str) -> bool:
        """Whether a node is at it."""
        return name in self._begun

    def cancel(self, name: str) -> None:
        """Have it end."""
        self._cancelled.add(name)

    def forget(self, name: str) -> None:
        """It has ended."""
        self._news.pop(name, None)
        self._begun.discard(name)
        self._cancelled.discard(name)


def _build_on_node(
    data: dict[str, Any], files: list[tuple[str, Any]], settings: dict[str, Any], board: Any, name: str
) -> dict[str, Any]:
    """The task. Errors are told as data: exceptions with arguments of their own do not come through a pickle."""
    import ray  # noqa: PLC0415 (an extra)

    cancel = threading.Event()
    has_ended = threading.Event()

    def report(progress: Progress) -> None:
        if ray.get(
            board.tell.remote(name, progress.phase, progress.elapsed_s, progress.memory_bytes, progress.peak_bytes)
        ):
            cancel.set()

    def watch() -> None:
        while not has_ended.wait(_POLL_S):
            if ray.get(board.tell.remote(name, "", 0.0, 0, 0)):
                cancel.set()

    threading.Thread(target=watch, daemon=True).start()
    report(Progress(STARTING))
    try:
        with tempfile.TemporaryDirectory(prefix="beforehand-") as folder:
            return _build_in(decode_spec(data), pathlib.Path(folder), files, settings, report, cancel)
    finally:
        has_ended.set()


def _build_in(
    spec: EngineSpec,
    folder: pathlib.Path,
    files: list[tuple[str, Any]],
    settings: dict[str, Any],
    report: Report,
    cancel: threading.Event,
) -> dict[str, Any]:
    import ray  # noqa: PLC0415 (an extra)

    try:
        _check_node(spec)
        for file_name, reference in files:
            ray.get(reference).tofile(folder / file_name)
        spec = dataclasses.replace(spec, onnx_file=str(folder / pathlib.Path(spec.onnx_file).name))
        engine = build_engine(spec, folder, BuildSettings(**settings), report=report, cancel=cancel)
    except BuildError as error:
        return {"error": _encode_error(error)}
    except OSError as error:  # no room for the files
        return {"error": _encode_error(explain_disk(error, spec))}
    return {"engine": encode_engine(engine), "bytes": np.fromfile(folder / engine.file, np.uint8)}


def _check_node(spec: EngineSpec) -> None:
    """Refuse to build here what would be another engine than on the machine that asked for it.

    Raises:
        BuildError: BH401.
    """
    backend = find_backend(spec.backend)
    version, shapes = backend.find_version(), spec.shapes.describe()
    if version != spec.backend_version:
        raise BuildError(
            f"the engine of {spec.segment} for {shapes} was not built on a node of Ray", cause=causes.FAILED,
            segment=spec.segment, shapes=shapes, why=f"it has {spec.backend} {version}, and {spec.backend_version} was asked for",
            advice="the same packages on every node",
        )  # fmt: skip
    try:
        backend.describe_target(spec.target)
    except BeforehandError as error:
        raise BuildError(
            f"the engine of {spec.segment} for {shapes} was not built on a node of Ray", cause=causes.TARGET,
            segment=spec.segment, shapes=shapes, why=str(error), advice="nodes of the kind that engines are built for",
        ) from error  # fmt: skip


def _encode_error(error: BuildError) -> dict[str, Any]:
    log = b""
    with contextlib.suppress(OSError):
        log = pathlib.Path(error.log).read_bytes()[-_LOG_BYTES:] if error.log else b""
    facts = {name: getattr(error, name) for name in ("cause", "segment", "shapes", "nodes", "why", "advice")}
    return {"what": error.what, "is_cancelled": isinstance(error, BuildCancelledError), "log": log, "facts": facts}


def _rebuild_error(data: dict[str, Any], folder: pathlib.Path) -> BuildError:
    log = ""
    if data["log"]:
        file = folder / f"{data['facts']['segment']}.ray.log"
        file.write_bytes(data["log"])
        log = str(keep_log(file))
    cls = BuildCancelledError if data["is_cancelled"] else BuildError
    return cls(data["what"], **data["facts"], log=log)


def _explain_lost(spec: EngineSpec, error: Exception) -> BuildError:
    """A task that Ray itself ended, or could not run."""
    shapes, name = spec.shapes.describe(), type(error).__name__
    if name == "TaskCancelledError":
        return _tell_cancelled(spec)
    cause = causes.FAILED
    if name == "OutOfMemoryError":
        cause = causes.OOM_KILLED
    elif name in ("WorkerCrashedError", "NodeDiedError", "LocalRayletDiedError"):
        cause = causes.KILLED
    return BuildError(
        f"the engine of {spec.segment} for {shapes} was not built on Ray ({cause})", cause=cause, segment=spec.segment,
        shapes=shapes, why=f"{name}: {' '.join(str(error).split())[:1000]}",
        advice=causes.ADVICE[cause] if cause != causes.FAILED else "the same beforehand, and its packages, on every node",
    )  # fmt: skip


def _tell_cancelled(spec: EngineSpec) -> BuildCancelledError:
    shapes = spec.shapes.describe()
    return BuildCancelledError(
        f"the engine of {spec.segment} for {shapes} was cancelled", cause=causes.CANCELLED, segment=spec.segment,
        shapes=shapes,
    )  # fmt: skip
