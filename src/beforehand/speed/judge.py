"""What is too slow, and which of several is faster: by the interval, never by the median alone."""

from __future__ import annotations

from beforehand.records import EngineSpeed
from beforehand.speed.estimate_ratio import Ratio
from beforehand.speed.race_engines import NATIVE, Race

FASTER = 1.0


def find_slowness(speed: EngineSpeed | None, min_speedup: float | None) -> str:
    """Why an engine is not worth using; empty if it is, if that is undecided, or if nobody can tell.

    Where the interval holds `min_speedup`, the engine stays: it is what the user asked to build, and no slower than can be seen.
    """
    if not min_speedup or speed is None or speed.not_timed or speed.high >= min_speedup:
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
