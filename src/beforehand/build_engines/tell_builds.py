"""The events of a run of builds: each carries which engine, what it is at, and what past builds say of the time left."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any

from beforehand.build_engines import events
from beforehand.build_engines.build_plan import BuildPlan, schedule
from beforehand.build_engines.events import BuildEvent, OnEvent, Progress
from beforehand.build_engines.make_engine import Made
from beforehand.errors import BuildError
from beforehand.records import EngineSpec
from beforehand.store.cache_folder import CacheFolder

REPLACED = "replaced"  # phase of an engine that will not be built: others are, in its place


@dataclasses.dataclass(frozen=True)
class Job:
    """One engine of a run; `number` from 1 stays its own, also when it is tried again."""

    number: int
    spec: EngineSpec
    is_retry: bool = False


def describe_plan(plan: BuildPlan) -> str:
    """`12 engines: 3 in the cache, 9 to build`."""
    count, to_build = len(plan.engines), len(plan.to_build)
    return f"{count} engine{'' if count == 1 else 's'}: {count - to_build} in the cache, {to_build} to build"


def tell_plan_alone(plan: BuildPlan, on_event: OnEvent) -> None:
    """The event of a plan that is not carried out."""
    message = f"{describe_plan(plan)} (nothing is built now)"
    count, seconds = len(plan.engines), plan.seconds
    on_event(BuildEvent(events.PLAN, time.time(), engines=count, message=message, estimate_s=seconds, left_s=seconds))


class Teller:
    """Makes events and hands them on.

    Args:
        on_event: Gets them.
        cache: Has the times of past builds.
        jobs: All jobs of the run.
        workers: How many are built at once.
    """

    def __init__(self, on_event: OnEvent, cache: CacheFolder | None, jobs: Iterable[Job], workers: int) -> None:
        self._on_event = on_event
        self._cache = cache
        self._workers = workers
        self._begun = time.monotonic()
        self._open = {job.number: job for job in jobs}  # not ended
        self._count = len(self._open)
        self._begun_at: dict[int, float] = {}
        self._started: set[Job] = set()
        self._phases: dict[int, Progress] = {}
        self._told_at: dict[int, float] = {}
        self._told_waiting: set[int] = set()
        self._estimates: dict[str, float | None] = {}

    def tell_plan(self, plan: BuildPlan) -> None:
        """How many engines, how many of them are in the cache, and how long the others take."""
        for job, engine in zip(self._open.values(), plan.engines, strict=True):
            self._estimates[job.spec.key] = engine.seconds
        self._tell(events.PLAN, message=describe_plan(plan), estimate_s=plan.seconds)

    def tell_waiting(self, job: Job, why: str) -> None:
        """It could begin, but for `why`; told once, and not at all where `why` is empty."""
        if why and job.number not in self._told_waiting:
            self._told_waiting.add(job.number)
            self._tell(events.PHASE, job, phase=events.WAITING, message=why)

    def note_begun(self, job: Job) -> None:
        """A job begins. It may yet be found in the cache, so nothing is told."""
        self._begun_at[job.number] = time.monotonic()

    def tell_progress(self, job: Job, progress: Progress) -> None:
        """A build starts, has a new phase, or gives a sign of life."""
        last = self._phases.get(job.number)
        self._phases[job.number] = progress
        waits = progress.phase == events.WAITING
        if not waits and self._tell_started(job):
            return
        kind = events.HEARTBEAT if last is not None and last.phase == progress.phase else events.PHASE
        self._tell(kind, job, phase=progress.phase, memory_bytes=progress.memory_bytes, message=progress.message)

    def _tell_started(self, job: Job) -> bool:
        """Once; whether it was told just now."""
        is_new = job not in self._started
        if is_new:
            self._started.add(job)
            self._tell(events.STARTED, job, phase=events.STARTING)
        return is_new

    def tell_life(self, job: Job) -> None:
        """A sign of life of a job that gives none: its files are read, copied or hashed just now."""
        last = self._told_at.get(job.number, self._begun_at[job.number])
        if time.monotonic() - last > 2 * events.HEARTBEAT_S:
            phase = self._phases.get(job.number, Progress(events.PREPARING))
            self._tell(events.HEARTBEAT, job, phase=phase.phase, memory_bytes=phase.memory_bytes)

    def tell_made(self, job: Job, made: Made) -> None:
        """A job has its engine."""
        if not made.is_cached:
            self._tell_started(job)
        self._close(job)
        kind = events.CACHED if made.is_cached else events.FINISHED
        peak = 0 if made.is_cached else made.engine.build_peak_bytes
        self._tell(kind, job, bytes=made.engine.bytes, memory_bytes=peak)

    def tell_failed(self, job: Job, error: BuildError) -> None:
        """A job has failed for good."""
        self._close(job)
        last = self._phases.get(job.number, Progress(""))
        message = error.why or error.what
        self._tell(events.FAILED, job, phase=last.phase, memory_bytes=last.peak_bytes, message=message, error=error)

    def tell_retry(self, job: Job, error: BuildError) -> None:
        """A job has failed, and will be tried again."""
        message = (
            f"{error.cause}: {error.why or error.what} It is tried again at the end, alone, with less asked of it."
        )
        self._tell(events.PHASE, job, phase=events.WAITING, message=message)

    def tell_replaced(self, job: Job, error: BuildError, new: Sequence[Job]) -> None:
        """A range that the model cannot have: engines of single shapes are built in its place."""
        self._close(job)
        self._open.update((other.number, other) for other in new)
        self._count += len(new)
        message = f"{error.why or error.what} Built instead: {len(new)} engines of the shapes seen in it."
        self._tell(events.PHASE, job, phase=REPLACED, message=message)

    def tell_cancelled(self, job: Job) -> None:
        """A job was ended."""
        self._close(job)
        self._tell(events.CANCELLED, job)

    def tell_end(self, error: BaseException) -> None:
        """The run ends before its end."""
        left = len(self._open)
        name = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
        self._tell(events.CANCELLED, message=f"{name}; {left} engines were not begun; what was finished is kept")

    def _close(self, job: Job) -> None:
        self._open.pop(job.number, None)

    def _tell(self, kind: str, job: Job | None = None, **facts: Any) -> None:
        if job is not None:
            spec, begun = job.spec, self._begun_at.get(job.number)
            self._told_at[job.number] = time.monotonic()
            facts = {
                "engine": job.number,
                "segment": spec.segment,
                "shapes": spec.shapes.describe(),
                "backend": spec.backend,
                "target": spec.target,
                "key": spec.key,
                "elapsed_s": time.monotonic() - begun if begun else 0.0,
                "estimate_s": self._estimate(spec),
                **facts,
            }
        else:
            facts = {"elapsed_s": time.monotonic() - self._begun, **facts}
        facts.setdefault("left_s", self._estimate_left())
        self._on_event(BuildEvent(kind, time.time(), engines=self._count, **facts))

    def _estimate(self, spec: EngineSpec) -> float | None:
        """Seconds by past builds; read once, at first."""
        if spec.key not in self._estimates:
            known = self._cache.history.estimate(spec).seconds if self._cache is not None else None
            self._estimates[spec.key] = known
        return self._estimates[spec.key]

    def _estimate_left(self) -> float | None:
        """Seconds until all is done, if every job that is not done has an estimate; a build that is late counts as done."""
        now = time.monotonic()
        begun = {number: now - at for number, at in self._begun_at.items()}
        jobs = sorted(self._open.values(), key=lambda job: job.number not in begun)  # those at work first
        estimates = [(self._estimate(job.spec), begun.get(job.number, 0.0)) for job in jobs]
        left = [None if seconds is None else max(0.0, seconds - passed) for seconds, passed in estimates]
        ends = schedule(left, self._workers)
        return max((end for end in ends if end is not None), default=0.0) if None not in ends else None
