"""What `precision_mode="auto"` takes of the engines that it built; and what becomes of shapes for which none will do."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from beforehand.accuracy.check_build import tell_doubts
from beforehand.accuracy.check_metric import MetricBudget
from beforehand.accuracy.heal import LOW_PRECISIONS
from beforehand.accuracy.settle_build import Excess, tell_left_out
from beforehand.accuracy.used_engines import UsedEngines
from beforehand.options import Options
from beforehand.records import Engine, Signature
from beforehand.report.summarize_speed import describe_candidate
from beforehand.speed.choose_precision import Contest
from beforehand.speed.gate import SpeedGate
from beforehand.speed.other_work import MOST_OTHERS

if TYPE_CHECKING:
    from beforehand.live_model import LiveModel

_log = logging.getLogger("beforehand")
# What is given up, step by step, until the user's metric is within its budget.
_BARRED: tuple[frozenset[str], ...] = (frozenset(), frozenset({"INT8"}), LOW_PRECISIONS)


class AutoGate:
    """Takes the fastest engine of each contest.

    Args:
        live: The model that runs them.
        used: All engines of the converter.
        gate: Leaves to TensorFlow what is slower than it.
        options: The conversion's.
    """

    def __init__(self, live: LiveModel, used: UsedEngines, gate: SpeedGate, options: Options) -> None:
        self._live, self._used, self._gate, self._options = live, used, gate, options

    def pass_engines(self, contests: Sequence[Contest]) -> list[Engine]:
        """The fastest within the budget of each contest.

        Raises:
            AccuracyError: BH404, a contest has none, and `on_inaccurate` is "error".
        """
        passed, excesses = self._take(contests, ())
        self._tell_choices(passed)
        tell_left_out(excesses, self._options.on_inaccurate)
        return passed

    def pass_metric(self, contests: Sequence[Contest], budget: MetricBudget, signature: Signature) -> list[Engine]:
        """As `pass_engines`, without INT8, and then without half precision, where the metric is over its budget with it.

        Raises:
            AccuracyError: BH404. Exception: whatever the user's metric raises.
        """
        native = budget.measure(self._live.make_model(signature, native=True))
        converted = self._live.make_model(signature)
        tried: list[list[str]] = []
        passed: list[Engine] = []
        told = ""
        for barred in _BARRED:
            passed, excesses = self._take(contests, barred)
            keys = [engine.key for engine in passed]
            if keys in tried:
                continue
            tried.append(keys)
            drop = budget.judge(native, budget.measure(converted))
            told = drop.describe()
            _log.info("%s: %s", signature.key, told)
            if not drop.is_over:
                self._tell_choices(passed)
                tell_left_out(excesses, self._options.on_inaccurate)
                return passed
        left_out = [Excess(engine, told) for engine in passed]
        for excess in left_out:
            self._leave_out(excess)
        tell_left_out(left_out, self._options.on_inaccurate)
        return []

    def _take(self, contests: Sequence[Contest], barred: Collection[str]) -> tuple[list[Engine], list[Excess]]:
        chosen, excesses = [], []
        for contest in contests:
            best = contest.choose(barred)
            if best is None:
                first = contest.candidates[0]
                reason = first.excess or f"the metric is over its budget with {first.engine.precision}"
                excesses.append(Excess(first.engine, reason))
                self._leave_out(excesses[-1])
                continue
            for other in contest.candidates:
                self._used.use(best, other.engine)
            self._live.add_engines([best])
            chosen.append(best)
        return self._gate.settle(chosen), excesses

    def _leave_out(self, excess: Excess) -> None:
        self._live.remove_engine(excess.engine)
        self._used.leave_out(excess)

    def _tell_choices(self, engines: Sequence[Engine]) -> None:
        for engine in engines:
            others = ", ".join(map(describe_candidate, engine.speed.lost if engine.speed is not None else ()))
            told = engine.speed.describe() if engine.speed is not None else "not timed"
            _log.info(
                "%s for %s runs in %s (%s), not in %s",
                engine.segment, engine.shapes.describe(), engine.precision, told, others or "another: there is none",
            )  # fmt: skip
            if engine.speed is not None and engine.speed.others > MOST_OTHERS:
                _log.warning(
                    "%s for %s: the precision was chosen while other processes used %.0f %% of the CPUs: %s may not be the fastest. "
                    "Try: build where nothing else runs.",
                    engine.segment, engine.shapes.describe(), 100 * engine.speed.others, engine.precision,
                )  # fmt: skip
            if self._options.max_error is None:
                tell_doubts(engine)
