"""What a build would do, before its first second: which engines, which of them are there, what past builds say of the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
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
        basis: Which builds that was seen in: "same engine", "same segment" (of other shapes), "cache", or "".
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
        known = [engine.seconds for engine in self.to_build if engine.seconds is not None]
        return sum(known) / self.workers if len(known) == len(self.to_build) else None

    @property
    def peak_bytes(self) -> int | None:
        """Most memory of all builds at once, by past builds; None if one is not known."""
        known = sorted((e.peak_bytes for e in self.to_build if e.peak_bytes is not None), reverse=True)
        return sum(known[: self.workers]) if len(known) == len(self.to_build) else None

    @property
    def disk_bytes(self) -> int:
        """Of all engines; those of which nothing is known count as the weights of their segment, which is the least."""
        return sum(e.engine_bytes if e.engine_bytes is not None else e.spec.weight_bytes for e in self.engines)

    @property
    def is_disk_known(self) -> bool:
        """Whether `disk_bytes` is what was seen, and not the least that it can be."""
        return all(engine.engine_bytes is not None for engine in self.engines)

    def fit(self, budget_s: float) -> tuple[PlannedEngine, ...]:
        """The engines, in order, that are made within so many seconds: up to the first of which no time is known."""
        fitting, spent = [], 0.0
        for engine in self.engines:
            if engine.seconds is None:
                break
            spent += engine.seconds / self.workers
            if spent > budget_s:
                break
            fitting.append(engine)
        return tuple(fitting)

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
        }


def make_plan(specs: Iterable[EngineSpec], cache: CacheFolder, workers: int = 1) -> BuildPlan:
    """What `build_all` would do with `specs`. No engine is read; one whose file turns out to be altered is built after all."""
    return BuildPlan(tuple(_plan_engine(spec, cache) for spec in specs), workers)


def _plan_engine(spec: EngineSpec, cache: CacheFolder) -> PlannedEngine:
    size = cache.measure_engine(spec)
    if size is not None:
        return PlannedEngine(spec, True, 0.0, 0, size, "cache")
    estimate = cache.history.estimate(spec)
    return PlannedEngine(spec, False, estimate.seconds, estimate.peak_bytes, estimate.engine_bytes, estimate.basis)


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
