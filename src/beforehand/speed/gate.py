"""After a build: engines that are slower than TensorFlow are not used."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from beforehand.accuracy.settle_build import Excess
from beforehand.accuracy.used_engines import UsedEngines
from beforehand.records import Engine, EngineSpeed
from beforehand.speed.judge import find_slowness
from beforehand.speed.time_engines import EngineTimer

if TYPE_CHECKING:
    from beforehand.live_model import LiveModel

_log = logging.getLogger("beforehand")


class SpeedGate:
    """Passes the engines of one build that are as fast as they must be.

    Args:
        live: The model that runs them.
        used: All engines of the converter.
        min_speedup: How many times as fast as TensorFlow they must be; None or 0: any may pass.
    """

    def __init__(self, live: LiveModel, used: UsedEngines, min_speedup: float | None) -> None:
        self._live, self._used, self._min_speedup = live, used, min_speedup

    def pass_engines(self, timer: EngineTimer, engines: Sequence[Engine]) -> list[Engine]:
        """Those that are fast enough, with their `speed`. Where nothing is asked of them, nothing is timed.

        Raises:
            BuildCancelledError: BH403.
        """
        if not self._min_speedup:
            return list(engines)
        timed = []
        for engine in engines:
            race = timer.race([engine])
            speed = EngineSpeed(not_timed=race) if isinstance(race, str) else race.describe(1)
            timed.append(dataclasses.replace(engine, speed=speed))
        return self.settle(timed)

    def settle(self, timed: Sequence[Engine]) -> list[Engine]:
        """Use those that are fast enough, and leave the others' shapes to TensorFlow."""
        passed = []
        for engine in timed:
            reason = find_slowness(
                engine.speed,
                self._min_speedup,
                f"{engine.segment} for {engine.shapes.describe()} in {engine.precision}",
            )
            if reason:
                self.leave_native(engine, reason)
            else:
                self._used.use(engine)
                passed.append(engine)
        return passed

    def leave_native(self, engine: Engine, reason: str) -> None:
        """Do not use an engine; its record says so."""
        speed = dataclasses.replace(engine.speed or EngineSpeed(not_timed="it was not asked for"), kept=False)
        excess = Excess(dataclasses.replace(engine, speed=speed), reason)
        self._live.remove_engine(engine)
        self._used.leave_out(excess)
        _log.warning("%s. Such calls run natively, in TensorFlow.", excess.describe())
