"""What is too slow, and which of several is faster: by the interval, never by the median alone."""

from __future__ import annotations

import logging

from beforehand.records import EngineSpeed
from beforehand.speed.estimate_ratio import Ratio
from beforehand.speed.other_work import MOST_OTHERS
from beforehand.speed.race_engines import NATIVE, Race

_log = logging.getLogger("beforehand")
FASTER = 1.0


def find_slowness(speed: EngineSpeed | None, min_speedup: float | None, what: str) -> str:
    """Why an engine is not worth using; empty if it is, if that is undecided, or if nobody can tell.

    Where the interval holds `min_speedup`, the engine stays: it is what the user asked to build, and no slower than can be seen. It
    stays too, with a WARNING, where other processes kept the machine busy.

    Args:
        speed: What was measured.
        min_speedup: How many times as fast as TensorFlow it must be; None or 0: any is.
        what: The engine, or what else was timed, for the log.
    """
    if not min_speedup or speed is None or speed.not_timed or speed.high >= min_speedup:
        return ""
    if speed.others > MOST_OTHERS:
        _log.warning(
            "%s takes %s. That is not %g, but says little, and its engines are used. Try: build where nothing else runs, or "
            "min_speedup=None.", what, speed.describe(), min_speedup,
        )  # fmt: skip
        return ""
    return f"it takes {speed.describe()}, and must be {min_speedup:g}"


def is_clear(ratio: Ratio, threshold: float) -> bool:
    """Whether the interval lies on one side of the threshold."""
    return ratio.high < threshold or ratio.low >= threshold


def is_decided(race: Race, min_speedup: float | None) -> bool:
    """Whether every engine of a race is clearly fast enough or not, and one of them clearly the fastest."""
    runners = range(1, len(race.times) // race.samples)
    if not all(is_clear(race.compare(runner, NATIVE), min_speedup or FASTER) for runner in runners):
        return False
    best = min(runners, key=race.find_us)
    return all(race.compare(best, other).low > FASTER for other in runners if other != best)
