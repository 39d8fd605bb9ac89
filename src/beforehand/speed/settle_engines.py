"""What becomes of the engines of one build: compared with TensorFlow, timed beside it, used or left out; in this order."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from beforehand.accuracy.check_build import BuildChecker
from beforehand.accuracy.check_metric import MetricBudget
from beforehand.accuracy.gate import Gate
from beforehand.accuracy.used_engines import UsedEngines
from beforehand.options import AUTO, Options
from beforehand.records import Engine, Signature
from beforehand.speed.choose_precision import hold_contests
from beforehand.speed.gate import SpeedGate
from beforehand.speed.judge_signature import SignatureJudge
from beforehand.speed.settle_auto import AutoGate
from beforehand.speed.time_engines import EngineTimer

if TYPE_CHECKING:
    from beforehand.live_model import LiveModel


class Settler:
    """Settles builds of one converter; nothing is building while it does.

    Args:
        live: The model.
        used: All engines of the converter.
        options: The conversion's.
        folder: Where the engines' files are.
        cancel: Once it is set, it ends within seconds.
    """

    def __init__(
        self, live: LiveModel, used: UsedEngines, options: Options, folder: pathlib.Path, cancel: threading.Event
    ) -> None:
        self._live, self._used, self._options, self._folder, self._cancel = live, used, options, folder, cancel
        self._speed = SpeedGate(live, used, options.min_speedup)

    def settle(
        self,
        engines: Sequence[Engine],
        accuracy: Gate,
        checker: BuildChecker,
        signature: Signature,
        budget: MetricBudget | None,
    ) -> list[Engine]:
        """The engines that are used.

        Raises:
            AccuracyError: BH404. BuildCancelledError: BH403. Exception: whatever the user's metric raises.
        """
        timer = EngineTimer(self._live, checker, self._folder, self._options, self._cancel)
        try:
            if self._options.precision_mode == AUTO:
                auto = AutoGate(self._live, self._used, self._speed, self._options)
                contests = hold_contests(engines, checker, timer, self._options.max_error)
                passed = (
                    auto.pass_engines(contests) if budget is None else auto.pass_metric(contests, budget, signature)
                )
            else:
                passed = accuracy.pass_engines(checker, engines)
                passed = passed if budget is None else accuracy.pass_metric(budget, signature, passed)
                passed = self._speed.pass_engines(timer, passed)
            return self._judge_signature(passed, checker, signature)
        finally:
            self._live.leave_native(self._used.list_left_native())

    def _judge_signature(self, passed: Sequence[Engine], checker: BuildChecker, signature: Signature) -> list[Engine]:
        if not (self._options.min_speedup and passed):
            return list(passed)
        judge = SignatureJudge(self._live, signature, self._options.min_speedup, self._cancel)
        slow = judge.find_slow(checker.kept, self._used.note_signature)
        for engine in self._used.engines:
            place = engine.segment_index, engine.key
            if place in slow:
                self._speed.leave_native(engine, slow[place])
        return [engine for engine in passed if (engine.segment_index, engine.key) not in slow]
