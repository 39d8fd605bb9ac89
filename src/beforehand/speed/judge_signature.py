"""A whole signature with its engines beside the same signature without: where it is slower, its engines are not used."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from beforehand import causes
from beforehand.accuracy.keep_samples import KeptSamples
from beforehand.accuracy.observe_segments import list_tries
from beforehand.errors import BuildCancelledError
from beforehand.records import EngineSpeed, Signature, describe_range
from beforehand.speed.judge import find_slowness, is_clear
from beforehand.speed.race_engines import NATIVE, Race, TimeAllowance, run_race
from beforehand.speed.time_calls import Way

if TYPE_CHECKING:
    from beforehand.live_model import LiveModel

_log = logging.getLogger("beforehand")
EACH_S, TOTAL_S = 3.0, 30.0
Place = tuple[int, str]  # of an engine: its segment and key


class SignatureJudge:
    """Times calls of one signature as its users make them, in turns with and without engines.

    Args:
        live: The model.
        signature: Which.
        min_speedup: How many times as fast it must be with engines.
        cancel: Once it is set, no sample is begun.
    """

    def __init__(self, live: LiveModel, signature: Signature, min_speedup: float, cancel: threading.Event) -> None:
        self._live, self._signature, self._min_speedup, self._cancel = live, signature, min_speedup, cancel
        self._allowance = TimeAllowance(EACH_S, TOTAL_S)

    def find_slow(self, kept: KeptSamples, note: Callable[[str, EngineSpeed], None]) -> dict[Place, str]:
        """The engines that serve samples with which the signature is slower, and none with which it is not; and why.

        Args:
            kept: Samples; of each shapes one is timed.
            note: Is told of each sample that was timed.

        Raises:
            BuildCancelledError: BH403.
        """
        slow: dict[Place, str] = {}
        fast: set[Place] = set()
        by_shapes = {tuple(array.shape for array in sample.values()): sample for sample in reversed(kept.samples)}
        for sample in reversed(by_shapes.values()):
            if self._cancel.is_set():
                raise BuildCancelledError(
                    "the build was cancelled while its signature was timed", cause=causes.CANCELLED
                )
            served, speed = self._time(sample)
            if speed is None:
                fast.update(served)
                continue
            called = f"{self._signature.key} for {_describe(sample)}"
            reason = find_slowness(speed, self._min_speedup, called)
            note(called, speed)
            _log.info("%s takes %s", called, speed.describe())
            if reason:
                slow.update(dict.fromkeys(served, f"with it the whole signature is slower: {called}: {reason}"))
            else:
                fast.update(served)
        return {place: reason for place, reason in slow.items() if place not in fast}

    def _time(self, sample: Mapping[str, Any]) -> tuple[Sequence[Place], EngineSpeed | None]:
        """The engines that serve a sample, and how fast it is with them; None where that cannot be told."""
        seconds = self._allowance.find_seconds()
        start = time.perf_counter()
        served: Sequence[Place] = ()
        for given, _ in list_tries(dict(sample)):
            try:
                with self._live.keep_variables():
                    call = self._live.make_signature_call(self._signature, given)
                    served = self._list_served(call)
                    race = self._race(call, seconds) if served and seconds else None
            except Exception as error:  # noqa: BLE001 (of TensorFlow, whose classes are many; the next one is tried)
                _log.debug("%s cannot be timed on a sample: %s", self._signature.key, error)
                continue
            finally:
                self._allowance.spend(start)
                start = time.perf_counter()
            return served, None if race is None else race.describe(1)
        return served, None

    def _list_served(self, call: Callable[[], object]) -> Sequence[Place]:
        self._live.ask_engines(asked=True)
        before = self._live.count_calls()
        call()
        return [place for place, count in self._live.count_calls().items() if count > before.get(place, 0)]

    def _race(self, call: Callable[[], object], seconds: float) -> Race | None:
        ways = [
            Way(call, lambda: self._live.ask_engines(asked=False)),
            Way(call, lambda: self._live.ask_engines(asked=True)),
        ]
        try:
            return run_race(ways, 1, lambda found: is_clear(found.compare(1, NATIVE), self._min_speedup), seconds)
        finally:
            self._live.ask_engines(asked=True)


def _describe(sample: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={describe_range(array.shape, array.shape)}" for name, array in sample.items())
