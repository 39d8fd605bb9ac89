"""What stands between engines that were built and engines that are used."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from beforehand.accuracy.check_build import BuildChecker
from beforehand.accuracy.check_metric import MetricBudget, heal_by_metric
from beforehand.accuracy.heal import LOW_PRECISIONS, Healer, Tools
from beforehand.accuracy.settle_build import Excess, tell_left_out
from beforehand.accuracy.used_engines import UsedEngines
from beforehand.options import Options
from beforehand.records import Engine, Signature

if TYPE_CHECKING:
    from beforehand.live_model import LiveModel

_log = logging.getLogger("beforehand")


class Gate:
    """Passes the engines of one build that are as accurate as they must be.

    Args:
        live: The model that runs them.
        used: All engines of the converter.
        tools: What a search does with engines.
        options: The conversion's.
    """

    def __init__(self, live: LiveModel, used: UsedEngines, tools: Tools, options: Options) -> None:
        self._live, self._used, self._tools, self._options = live, used, tools, options

    def pass_engines(self, checker: BuildChecker, engines: Sequence[Engine]) -> list[Engine]:
        """Those within their own budgets, as they were built or healed.

        Raises:
            AccuracyError: BH404. BuildCancelledError: BH403.
        """
        checked = checker.check(engines)
        for engine in checked.usable:
            self._used.use(engine)
        for excess in checked.excesses:  # nobody is answered by them meanwhile
            self._live.remove_engine(excess.engine)
            self._used.drop(excess.engine)
        healer = Healer(self._tools, self._options.max_error, self._options.max_rebuilds)
        passed, left_out = list(checked.usable), []
        for excess in checked.excesses:
            healed = healer.heal(excess.engine, excess.reason)
            if healed is None:
                left_out.append(excess)
                self._used.leave_out(excess)
                continue
            self._used.use(healed, excess.engine)
            self._live.add_engines([healed])
            passed.append(healed)
        tell_left_out(left_out, self._options.on_inaccurate)
        return passed

    def pass_metric(self, budget: MetricBudget, signature: Signature, passed: Sequence[Engine]) -> list[Engine]:
        """Those with which the user's metric is within its budget: all, or some of them healed; else none in low precision.

        Raises:
            AccuracyError: BH404. BuildCancelledError: BH403. Exception: whatever the user's metric raises.
        """
        native = budget.measure(self._live.make_model(signature, native=True))
        converted = self._live.make_model(signature)
        found = budget.judge(native, budget.measure(converted))
        _log.info("%s: %s", signature.key, found.describe())
        if not found.is_over:
            return list(passed)
        indices = self._live.list_segments(signature)
        low = [e for e in self._used.engines if e.segment_index in indices and e.precision in LOW_PRECISIONS]

        def holds(tried: Sequence[Engine]) -> bool:
            self._live.add_engines(tried)
            return not budget.judge(native, budget.measure(converted)).is_over

        try:
            healed = heal_by_metric(low, self._tools, self._options.max_rebuilds, holds)
        finally:  # in place of what was tried last, also where the metric raised
            self._live.add_engines(low)
        if healed is None:
            suspects = low or [engine for engine in self._used.engines if engine.segment_index in indices]
            left_out = [Excess(engine, found.describe()) for engine in suspects]
            for excess in left_out:
                self._live.remove_engine(excess.engine)
                self._used.leave_out(excess)
            tell_left_out(left_out, self._options.on_inaccurate)
            return [engine for engine in passed if engine in self._used.engines]
        for old, new in zip(low, healed, strict=True):
            self._live.add_engines([new])
            self._used.use(new, old)
        return [healed[low.index(engine)] if engine in low else engine for engine in passed]
