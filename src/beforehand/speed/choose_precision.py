"""Of engines in several precisions for the same segment and shapes: compared, timed by turns, and the fastest within the budget taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

from beforehand.accuracy.check_build import BuildChecker
from beforehand.accuracy.judge import find_auto_excess
from beforehand.records import Engine, EngineSpeed, LostCandidate, ShapeSet
from beforehand.speed.judge import FASTER
from beforehand.speed.list_candidates import CANDIDATES
from beforehand.speed.race_engines import Race
from beforehand.speed.time_engines import EngineTimer


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An engine with its accuracy, and why it may not be taken; empty if it may."""

    engine: Engine
    excess: str


@dataclasses.dataclass(frozen=True)
class Contest:
    """The candidates for one segment and shapes, the most exact first, and the times of those within the budget.

    Attributes:
        candidates: At least one.
        race: Runner n is the n-th of those within the budget; or why they were not timed.
    """

    candidates: tuple[Candidate, ...]
    race: Race | str

    def choose(self, barred: Collection[str] = ()) -> Engine | None:
        """The fastest within the budget whose precision is not barred, with its `speed`; None if there is none.

        One that is less exact is taken where it is faster by the interval, not by the median alone. Where nobody could time them,
        the most exact is taken.
        """
        able = [item.engine for item in self.candidates if not item.excess]
        free = [engine for engine in able if engine.precision not in barred]
        if not free:
            return None
        best = free[0]
        if isinstance(self.race, Race):
            for engine in free[1:]:
                if self.race.compare(able.index(engine) + 1, able.index(best) + 1).low > FASTER:
                    best = engine
        speed = self._describe(able.index(best) + 1)
        lost = tuple(self._tell_lost(item, best, able, barred) for item in self.candidates if item.engine != best)
        return dataclasses.replace(best, speed=dataclasses.replace(speed, lost=lost))

    def _describe(self, runner: int) -> EngineSpeed:
        return EngineSpeed(not_timed=self.race) if isinstance(self.race, str) else self.race.describe(runner)

    def _tell_lost(
        self, candidate: Candidate, best: Engine, able: Sequence[Engine], barred: Collection[str]
    ) -> LostCandidate:
        engine, why = candidate.engine, candidate.excess
        compared = engine.accuracy is not None and bool(engine.accuracy.outputs)
        max_rel = engine.accuracy.max_rel if compared and engine.accuracy is not None else None
        if why or isinstance(self.race, str):
            return LostCandidate(engine.precision, 0.0, max_rel, why or "not timed")
        place, winner = able.index(engine) + 1, able.index(best) + 1
        ratio = self.race.compare(place, winner)
        why = f"{ratio.median:.3g} times as fast as {best.precision} ({ratio.low:.3g} to {ratio.high:.3g})"
        if engine.precision in barred:
            why += "; the metric was over its budget"
        return LostCandidate(engine.precision, self.race.find_us(place), max_rel, why)


def hold_contests(
    engines: Iterable[Engine], checker: BuildChecker, timer: EngineTimer, max_error: float | None
) -> list[Contest]:
    """One for each segment and shapes, in the order in which these came; every candidate is compared, and then timed.

    Nothing may be building meanwhile.

    Raises:
        BuildCancelledError: BH403.
    """
    groups: dict[tuple[int, ShapeSet], dict[str, Engine]] = {}
    for engine in engines:
        groups.setdefault((engine.segment_index, engine.shapes), {}).setdefault(engine.precision, engine)
    return [_hold(list(group.values()), checker, timer, max_error) for group in groups.values()]


def _hold(engines: Sequence[Engine], checker: BuildChecker, timer: EngineTimer, max_error: float | None) -> Contest:
    ordered = sorted(engines, key=lambda engine: CANDIDATES.index(engine.precision))
    compared = [dataclasses.replace(engine, accuracy=checker.compare(engine)) for engine in ordered]
    excesses = [find_auto_excess(engine.accuracy, max_error) for engine in compared]
    if not any(engine.accuracy is not None and engine.accuracy.outputs for engine in compared):
        excesses[0] = ""  # no values reach it, or none can be run: as by its name, the most exact is taken untried
    able = [engine for engine, excess in zip(compared, excesses, strict=True) if not excess]
    race = timer.race(able) if able else "none is within the budget"
    return Contest(tuple(map(Candidate, compared, excesses)), race)
