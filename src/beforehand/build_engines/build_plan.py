"""What a build would do, before its first second: which engines, which of them are there, what past builds say of the rest."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Iterable, Sequence
from typing import Any

from beforehand.records import EngineSpec
from beforehand.store.cache_folder import CacheFolder


@dataclasses.dataclass(frozen=True)
class PlannedEngine:
    """One engine to make.

    Attributes:
        spec: What it is.
        is_cached: It is in the user's cache: nothing is built for it.
        seconds: How long its build takes by past builds on this machine; 0 if it is cached, None if nothing is known.
        peak_bytes: Most memory of its build, likewise.
        engine_bytes: Its size on disk, likewise; None: not known, but no less than `spec.weight_bytes` or so, as an engine
            holds all weights of its segment.
        basis: Which builds that was seen in: "same engine", "same segment" (of other shapes), "cache", "" if none; or
            "built above" for a segment that equals another: it takes the engine that was built for that one.
    """

    spec: EngineSpec
    is_cached: bool
    seconds: float | None
    peak_bytes: int | None
    engine_bytes: int | None
    basis: str


@dataclasses.dataclass(frozen=True)
class BuildPlan:
    """All engines of a build, in the order in which they would be built, `workers` at once."""

    engines: tuple[PlannedEngine, ...]
    workers: int = 1

    @property
    def to_build(self) -> tuple[PlannedEngine, ...]:
        """Those that are not in the cache."""
        return tuple(engine for engine in self.engines if not engine.is_cached)

    @property
    def seconds(self) -> float | None:
        """For all of it, by past builds; None if one is not known."""
        ends = schedule([engine.seconds for engine in self.engines], self.workers)
        return max((end for end in ends if end is not None), default=0.0) if None not in ends else None

    @property
    def peak_bytes(self) -> int | None:
        """Most memory of all builds at once, by past builds; None if one is not known."""
        peaks = [engine.peak_bytes for engine in self.to_build]
        known = sorted((peak for peak in peaks if peak is not None), reverse=True)
        return sum(known[: self.workers]) if len(known) == len(peaks) else None

    @property
    def disk_bytes(self) -> int:
        """Of all engines; those of which nothing is known count as the weights of their segment, which is the least."""
        return sum(e.engine_bytes if e.engine_bytes is not None else e.spec.weight_bytes for e in self.engines)

    @property
    def is_disk_known(self) -> bool:
        """Whether `disk_bytes` is what was seen, and not the least that it can be."""
        return all(engine.engine_bytes is not None for engine in self.engines)

    def fit(self, budget_s: float) -> tuple[PlannedEngine, ...]:
        """The engines that are made within so many seconds; none of which no time is known, or that begins after such a one."""
        ends = zip(self.engines, schedule([engine.seconds for engine in self.engines], self.workers), strict=True)
        return tuple(engine for engine, end in ends if end is not None and end <= budget_s)

    def list_targets(self) -> tuple[str, ...]:
        """Targets, in order."""
        return tuple(dict.fromkeys(engine.spec.target for engine in self.engines))

    def select_target(self, target: str) -> BuildPlan:
        """The part of one target."""
        return BuildPlan(tuple(engine for engine in self.engines if engine.spec.target == target), self.workers)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "engines": [_encode(engine) for engine in self.engines],
            "workers": self.workers,
            "to_build": len(self.to_build),
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "disk_bytes": self.disk_bytes,
            "is_disk_known": self.is_disk_known,
            "targets": {target: self.select_target(target)._sum_up() for target in self.list_targets()},
        }

    def _sum_up(self) -> dict[str, Any]:
        return {
            "engines": len(self.engines),
            "to_build": len(self.to_build),
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "disk_bytes": self.disk_bytes,
        }


def schedule(seconds: Sequence[float | None], workers: int) -> list[float | None]:
    """When each of these builds ends, if each goes to the worker that is free first; None from the first unknown time on."""
    free = [0.0] * workers
    ends: list[float | None] = []
    for time in seconds:
        if time is None:
            break
        end = heapq.heappop(free) + time
        heapq.heappush(free, end)
        ends.append(end)
    return [*ends, *[None] * (len(seconds) - len(ends))]


def make_plan(specs: Iterable[EngineSpec], cache: CacheFolder, workers: int = 1) -> BuildPlan:
    """What `build_all` would do with `specs`. No engine is read; one whose file turns out to be altered is built after all."""
    engines: list[PlannedEngine] = []
    for spec in specs:
        above = next((engine for engine in engines if engine.spec.key == spec.key and not engine.is_cached), None)
        engines.append(_plan_engine(spec, cache) if above is None else _plan_repeat(spec, above))
    return BuildPlan(tuple(engines), workers)


def _plan_engine(spec: EngineSpec, cache: CacheFolder) -> PlannedEngine:
    size = cache.measure_engine(spec)
    if size is not None:
        return PlannedEngine(spec, True, 0.0, 0, size, "cache")
    estimate = cache.history.estimate(spec)
    return PlannedEngine(spec, False, estimate.seconds, estimate.peak_bytes, estimate.engine_bytes, estimate.basis)


def _plan_repeat(spec: EngineSpec, above: PlannedEngine) -> PlannedEngine:
    return PlannedEngine(spec, True, 0.0, 0, above.engine_bytes, "built above")


def _encode(engine: PlannedEngine) -> dict[str, Any]:
    spec = engine.spec
    return {
        "segment": spec.segment,
        "shapes": spec.shapes.describe(),
        "backend": spec.backend,
        "backend_version": spec.backend_version,
        "precision": spec.precision,
        "target": spec.target,
        "key": spec.key,
        "weight_bytes": spec.weight_bytes,
        **{name: getattr(engine, name) for name in ("is_cached", "seconds", "peak_bytes", "engine_bytes", "basis")},
    }
