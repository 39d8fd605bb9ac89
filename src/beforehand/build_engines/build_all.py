"""The engines of a list: found or built, one or several at once; what fails or is stopped costs nothing that was finished.

One thread for each build waits for its child process; all else, the user's functions included, runs in the thread that
called.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from beforehand import causes
from beforehand.backends.registry import find_backend
from beforehand.build_engines.admit_builds import Admission
from beforehand.build_engines.build_engine import build_engine
from beforehand.build_engines.build_plan import BuildPlan, PlannedEngine, make_plan
from beforehand.build_engines.events import OnEvent, Progress
from beforehand.build_engines.make_engine import BuildOne, EngineMaker, Made, Prepare
from beforehand.build_engines.plan_engines import make_key
from beforehand.build_engines.settings import BuildSettings
from beforehand.build_engines.tell_builds import Job, Teller
from beforehand.errors import BuildCancelledError, BuildError
from beforehand.records import Engine, EngineSpec
from beforehand.store.cache_folder import CacheFolder

_log = logging.getLogger("beforehand")
_WAKE_S = 0.1  # how often `cancel` is looked at
_STOP_S = 5.0  # children are killed at once; this is for a disk that hangs
Replace = Callable[[EngineSpec, BuildError, Sequence[Engine]], "Sequence[EngineSpec] | None"]


@dataclasses.dataclass(frozen=True)
class BuildHooks:
    """What the caller wants done on the way; all are called in the caller's thread but `prepare`, which is called alone.

    Attributes:
        prepare: Gives a specification whose ONNX file exists; asked only for what must be built.
        replace: Of a failure, what to build instead, knowing what this call has made; None if it is to be told as one.
        on_engine: Called with each engine as soon as its file is whole in the folder.
        on_event: Called with every event.
    """

    prepare: Prepare = lambda spec: spec
    replace: Replace = lambda spec, error, made: None
    on_engine: Callable[[Engine], None] = lambda engine: None
    on_event: OnEvent = lambda event: None


@dataclasses.dataclass(frozen=True)
class BuildResult:
    """The engines of one call, in the order in which they were finished, and what failed."""

    engines: tuple[Engine, ...]
    failures: tuple[BuildError, ...]

    def check(self) -> None:
        """Raise the first failure, if there is one, with all of them in `failures`.

        Raises:
            BuildError: BH401.
        """
        if self.failures:
            self.failures[0].failures = self.failures
            raise self.failures[0]


def build_all(
    specs: Sequence[EngineSpec],
    folder: pathlib.Path,
    settings: BuildSettings,
    cache: CacheFolder | None = None,
    hooks: BuildHooks | None = None,
    cancel: threading.Event | None = None,
) -> BuildResult:
    """Make each engine, out of the cache or by a build.

    An engine is in the cache, whole, before another is begun in its place: a process that is killed loses only what it
    was at.

    Args:
        specs: What to build.
        folder: Where the engines' files go.
        settings: How builds are run.
        cache: Where engines are found and kept; None: nowhere.
        hooks: What the caller wants done on the way.
        cancel: Once it is set, no build outlives a few seconds.

    Raises:
        BuildCancelledError: BH403, `cancel` was set; `on_engine` had every engine that was finished.
        KeyboardInterrupt: As that, by Ctrl-C.
        BackendError: BH701, `settings.executor` cannot be used here.
    """
    if not specs:
        return BuildResult((), ())
    hooks, cancel = hooks or BuildHooks(), cancel or threading.Event()
    with _open_executor(settings) as build:
        if cache is not None:
            with contextlib.suppress(OSError):  # a cache that may only be read
                cache.sweep()
        maker = EngineMaker(folder, settings, build, cache, _call_alone(hooks.prepare), cancel)
        run = _Run(maker, hooks, [Job(number, spec) for number, spec in enumerate(specs, 1)])
        return run.run()


def plan_jobs(specs: Sequence[EngineSpec], cache: CacheFolder | None, settings: BuildSettings) -> BuildPlan:
    """What `build_all` would do."""
    if cache is not None:
        return make_plan(specs, cache, settings.workers)
    return BuildPlan(tuple(PlannedEngine(spec, False, None, None, None, "") for spec in specs), settings.workers)


@contextlib.contextmanager
def _open_executor(settings: BuildSettings) -> Iterator[BuildOne]:
    if settings.executor == "local":
        yield build_engine
        return
    from beforehand.build_engines.build_on_ray import open_ray  # noqa: PLC0415 (an extra)

    with open_ray(settings) as builder:
        yield builder.build_engine


def _call_alone(prepare: Prepare) -> Prepare:
    lock = threading.Lock()

    def call(spec: EngineSpec) -> EngineSpec:
        with lock:
            return prepare(spec)

    return call


class _Run:
    """One call of `build_all`: what waits, what is being built, what came of the rest."""

    def __init__(self, maker: EngineMaker, hooks: BuildHooks, jobs: Sequence[Job]) -> None:
        self._maker, self._hooks = maker, hooks
        self._waiting = deque(jobs)
        self._again: deque[Job] = deque()  # failed once, to be tried alone, last
        self._active: dict[int, tuple[Job, threading.Thread]] = {}
        self._inbox: queue.SimpleQueue[tuple[Job, Progress | Made | BaseException]] = queue.SimpleQueue()
        self._engines: list[Engine] = []
        self._failures: list[BuildError] = []
        self._count = len(jobs)
        self._cancelled = 0
        self._plan = plan_jobs([job.spec for job in jobs], maker.cache, maker.settings)
        self._teller = Teller(hooks.on_event, maker.cache, jobs, maker.settings.workers)
        self._admission = Admission(maker.cache, maker.settings)

    def run(self) -> BuildResult:
        self._teller.tell_plan(self._plan)
        try:
            while self._waiting or self._again or self._active:
                self._start_more()
                self._hear()
                if self._maker.cancel.is_set():
                    self._raise_cancelled()
        except BaseException as error:
            self._end(error)
            raise
        return BuildResult(tuple(self._engines), tuple(self._failures))

    def _start_more(self) -> None:
        while job := self._choose():
            thread = threading.Thread(
                target=self._make, args=(job,), name=f"beforehand-build-{job.number}", daemon=True
            )
            self._active[job.number] = job, thread
            self._teller.note_begun(job)
            thread.start()

    def _choose(self) -> Job | None:
        """The next job, if there is room for it."""
        if self._waiting:
            active = [job.spec for job, _ in self._active.values()]
            refusal = self._admission.refuse(self._waiting[0].spec, active)
            if refusal is None:
                return self._waiting.popleft()
            self._teller.tell_waiting(self._waiting[0], refusal)
        elif self._again and not self._active:
            return self._again.popleft()
        return None

    def _make(self, job: Job) -> None:
        """In a thread of its own."""
        try:
            outcome: Made | BaseException = self._maker.make(
                job.spec, lambda progress: self._inbox.put((job, progress))
            )
        except BaseException as error:  # noqa: BLE001 (the caller's thread raises it)
            outcome = error
        self._inbox.put((job, outcome))

    def _hear(self) -> None:
        """Wait for news of any build, and take all that there are; of those without news, say that they are at work."""
        with contextlib.suppress(queue.Empty):
            news = self._inbox.get(timeout=_WAKE_S)
            while True:
                self._take(*news)
                news = self._inbox.get_nowait()
        for job, _ in self._active.values():
            self._teller.tell_life(job)

    def _take(self, job: Job, news: Progress | Made | BaseException) -> None:
        if isinstance(news, Progress):
            self._admission.note(job.spec, news.memory_bytes)
            self._teller.tell_progress(job, news)
            return
        del self._active[job.number]
        self._admission.forget(job.spec)
        if isinstance(news, Made):
            self._engines.append(news.engine)
            self._hooks.on_engine(news.engine)
            self._teller.tell_made(job, news)
        elif isinstance(news, BuildCancelledError):
            self._cancelled += 1
            self._teller.tell_cancelled(job)
        elif isinstance(news, BuildError):
            self._take_failure(job, news)
        else:
            raise news

    def _take_failure(self, job: Job, error: BuildError) -> None:
        instead = self._hooks.replace(job.spec, error, tuple(self._engines))
        if instead is not None:
            planned = {other.spec.key for other in self._waiting}
            added = [spec for spec in instead if spec.key not in planned]
            new = [Job(number, spec) for number, spec in enumerate(added, self._count + 1)]
            self._count += len(new)
            self._waiting.extendleft(reversed(new))
            self._teller.tell_replaced(job, error, new)
            return
        policy = self._maker.settings.on_build_failure
        if policy == "retry" and not job.is_retry and error.cause in causes.EASED:
            self._again.append(Job(job.number, _ease(job.spec), is_retry=True))
            self._teller.tell_retry(job, error)
            return
        self._failures.append(error)
        self._teller.tell_failed(job, error)
        if policy == "stop":
            self._waiting.clear()
            self._again.clear()

    def _raise_cancelled(self) -> None:
        left = len(self._active) + len(self._waiting) + len(self._again) + self._cancelled
        if left:
            raise BuildCancelledError(
                f"the build was cancelled with {len(self._engines)} engines finished and {left} not",
                cause=causes.CANCELLED, advice=causes.ADVICE[causes.CANCELLED],
            )  # fmt: skip

    def _end(self, error: BaseException) -> None:
        """Whatever happened here: no build goes on, and what was finished in the last moment is not lost."""
        self._maker.cancel.set()
        self._waiting.clear()
        self._again.clear()
        deadline = time.monotonic() + _STOP_S
        while self._active and time.monotonic() < deadline:
            self._hear_last()
        for job, _ in self._active.values():
            _log.error("%s was not ended within %g s", job.spec.segment, _STOP_S)
        self._teller.tell_end(error)

    def _hear_last(self) -> None:
        """As `_hear`; what else goes wrong must not hide why the run ends."""
        with contextlib.suppress(queue.Empty):
            job, news = self._inbox.get(timeout=_WAKE_S)
            if not isinstance(news, Progress):
                try:
                    self._take(job, news)
                except Exception:  # noqa: BLE001 (as above)
                    _log.exception("while builds were being ended")


def _ease(spec: EngineSpec) -> EngineSpec:
    """The same with less asked of the backend, where it can; under the key of what it then is."""
    eased = find_backend(spec.backend).ease(spec) or spec
    return dataclasses.replace(eased, key=make_key(eased))
