"""Engines of one segment and TensorFlow's own run of it, timed by turns on the values that reach the segment."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from beforehand.backends.protocol import Executable
from beforehand.records import EngineSpeed
from beforehand.speed.estimate_ratio import Ratio, estimate_ratio
from beforehand.speed.other_work import OtherWork
from beforehand.speed.time_calls import Times, Way, time_calls

if TYPE_CHECKING:
    from beforehand.live_model import LiveModel, SegmentSample

NATIVE = 0  # the first runner of every race; engines come after it


@dataclasses.dataclass(frozen=True)
class Race:
    """Times of several runners on the same samples: `times` of runner r on sample s stand at `r * samples + s`.

    `others`: what other processes used of all CPUs meanwhile, 0 to 1.
    """

    times: Times
    samples: int
    others: float = 0.0

    def compare(self, first: int, second: int) -> Ratio:
        """How many times faster the first runner is than the second: of several samples the geometric mean, round by round."""
        rows = [zip(self._of(first)[i], self._of(second)[i], strict=True) for i in range(self.samples)]
        logs = [[math.log(b / a) for a, b in row] for row in rows]
        return estimate_ratio([math.exp(statistics.fmean(several)) for several in zip(*logs, strict=True)])

    def find_us(self, runner: int) -> float:
        """Median microseconds of one call: of several samples, the geometric mean."""
        return 1e6 * statistics.geometric_mean(statistics.median(row) for row in self._of(runner))

    def describe(self, runner: int) -> EngineSpeed:
        """An engine beside TensorFlow."""
        ratio = self.compare(runner, NATIVE)
        return EngineSpeed(
            self.find_us(runner), self.find_us(NATIVE), ratio.median, low=ratio.low, high=ratio.high, others=self.others
        )

    def _of(self, runner: int) -> Times:
        return self.times[runner * self.samples : (runner + 1) * self.samples]


class TimeAllowance:
    """What may be spent on timing: so much for each race, and no more than so much for all of one build."""

    def __init__(self, each: float, total: float) -> None:
        self._each, self._left = each, total

    def find_seconds(self) -> float:
        """For the next race; 0 where nothing is left."""
        return max(0.0, min(self._each, self._left))

    def spend(self, start: float) -> None:
        """Something was timed that began at `start`, by `time.perf_counter`."""
        self._left -= time.perf_counter() - start


def race_engines(
    live: LiveModel,
    executables: Sequence[Executable],
    samples: Sequence[SegmentSample],
    is_decided: Callable[[Race], bool],
    seconds: float,
) -> Race | None:
    """Time open engines of one segment, and TensorFlow; None where they are too slow for the time there is.

    Args:
        live: The model that has the segment.
        executables: The engines; they serve all samples.
        samples: What reaches the segment, at least one; of each shapes one is taken.
        is_decided: Whether the times so far answer the question.
        seconds: About what it may take.

    Raises:
        Exception: whatever a backend or TensorFlow raises.
    """
    chosen = list({tuple(array.shape for array in sample.inputs): sample for sample in reversed(samples)}.values())
    ways = [Way(live.make_native_call(sample.segment, sample.inputs)) for sample in chosen]
    for executable in executables:
        ways += [_make_way(executable, sample) for sample in chosen]
    return run_race(ways, len(chosen), is_decided, seconds)


def run_race(ways: Sequence[Way], samples: int, is_decided: Callable[[Race], bool], seconds: float) -> Race | None:
    """Time these ways, in the order of `Race.times`; None where they are too slow for the time there is."""
    other_work = OtherWork()
    times = time_calls(ways, lambda so_far: is_decided(Race(so_far, samples)), seconds)
    return None if times is None else Race(times, samples, other_work.find_share())


def _make_way(executable: Executable, sample: SegmentSample) -> Way:
    return Way(lambda: executable.run(sample.inputs))
