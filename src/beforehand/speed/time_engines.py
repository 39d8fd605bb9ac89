"""Engines of one segment and shapes, opened and timed beside TensorFlow; or why they could not be."""

from __future__ import annotations

import logging
import pathlib
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from beforehand import causes
from beforehand.accuracy.check_build import BuildChecker
from beforehand.accuracy.compare_engines import find_obstacle, open_engine
from beforehand.errors import BuildCancelledError
from beforehand.options import Options
from beforehand.records import Engine
from beforehand.speed.judge import is_decided
from beforehand.speed.race_engines import Race, TimeAllowance, race_engines

if TYPE_CHECKING:
    from beforehand.live_model import LiveModel

_log = logging.getLogger("beforehand")
# Seconds for the engines of one segment and shapes, and for all of one build.
EACH_S, TOTAL_S = 3.0, 60.0


class EngineTimer:
    """Times engines of one build, one set of shapes after the other, within an allowance.

    Args:
        live: The model.
        checker: Has the values that reach each segment.
        folder: Where the engines' files are.
        options: The conversion's.
        cancel: Once it is set, no race is begun.
    """

    def __init__(
        self, live: LiveModel, checker: BuildChecker, folder: pathlib.Path, options: Options, cancel: threading.Event
    ) -> None:
        self._live, self._checker, self._folder, self._options, self._cancel = live, checker, folder, options, cancel
        self._allowance = TimeAllowance(EACH_S, TOTAL_S)

    def race(self, engines: Sequence[Engine]) -> Race | str:
        """The times of engines for the same segment and shapes, as runners 1, 2, ...; or why there are none.

        Raises:
            BuildCancelledError: BH403.
        """
        if self._cancel.is_set():
            raise BuildCancelledError("the build was cancelled while its engines were timed", cause=causes.CANCELLED)
        obstacles = [obstacle for engine in engines if (obstacle := find_obstacle(engine))]
        samples = [] if obstacles else self._checker.find_samples(engines[0])
        seconds = self._allowance.find_seconds()
        if obstacles or not samples or not seconds:
            no_samples = "no values that reach it could be had" if not samples else ""
            return next(
                iter(obstacles), no_samples or f"the {TOTAL_S:g} s for timing the engines of a build were used up"
            )
        start = time.perf_counter()
        try:
            executables = [open_engine(engine, self._folder, self._options.device) for engine in engines]
            found = race_engines(
                self._live, executables, samples, lambda race: is_decided(race, self._options.min_speedup), seconds
            )
        except Exception as error:  # noqa: BLE001 (a backend may raise anything; calls of such an engine run natively)
            told = f"it cannot be run here: {type(error).__name__}: {error}"[:500]
            _log.warning("%s for %s could not be timed: %s", engines[0].segment, engines[0].shapes.describe(), told)
            return told
        finally:
            self._allowance.spend(start)
        return found or f"a call takes too long to be timed within {seconds:.3g} s"
