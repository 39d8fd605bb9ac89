"""Which engines of a converter are used, which were built and are not, and which others stand for."""

from __future__ import annotations

from beforehand.accuracy.settle_build import Excess
from beforehand.records import Engine, EngineSpeed, LeftNative
from beforehand.report.summarize_accuracy import summarize_accuracy
from beforehand.report.summarize_speed import summarize_calls, summarize_speed

Place = tuple[int, str]  # segment and key: equal segments have equal keys


class UsedEngines:
    """The engines of one converter."""

    def __init__(self) -> None:
        self._used: dict[Place, Engine] = {}
        self._replaced: dict[Place, Engine] = {}
        self._left_out: dict[Place, Excess] = {}
        self._signatures: dict[str, EngineSpeed] = {}  # by what was called

    @property
    def engines(self) -> tuple[Engine, ...]:
        """Those used, in the order in which they came."""
        return tuple(self._used.values())

    def list_built(self) -> list[Engine]:
        """What need not be built again."""
        return [*self._used.values(), *self._replaced.values()]

    def use(self, engine: Engine, instead_of: Engine | None = None) -> None:
        """Use an engine, or its record with more in it; `instead_of` one that was planned and is over its budget."""
        planned = instead_of or engine
        if _place(planned) != _place(engine):
            self._used.pop(_place(planned), None)
            # Where that one stands for another itself, it is no engine that a plan would have.
            if not planned.kept:
                self._replaced[_place(planned)] = planned
        self._used[_place(engine)] = engine
        self._left_out.pop(_place(planned), None)

    def drop(self, engine: Engine) -> None:
        """Do not use an engine."""
        self._used.pop(_place(engine), None)

    def leave_out(self, excess: Excess) -> None:
        """Do not use an engine, and remember why."""
        self.drop(excess.engine)
        self._left_out[_place(excess.engine)] = excess

    def note_signature(self, called: str, speed: EngineSpeed) -> None:
        """Remember how fast a whole signature is, for the summary."""
        self._signatures[called] = speed

    def list_left_native(self) -> list[LeftNative]:
        """For the manifest: shapes of engines that were left out, and why."""
        return [
            LeftNative(item.engine.segment_index, item.engine.shapes, item.reason, item.engine.speed)
            for item in self._left_out.values()
        ]

    def describe_accuracy(self) -> str:
        """A line for the summary."""
        left = [f"{item.describe()}: left in TensorFlow" for item in self._left_out.values() if not _is_slow(item)]
        return "; ".join(text for text in (summarize_accuracy(self.engines), *left) if text)

    def describe_speed(self) -> str:
        """A line for the summary."""
        left = [f"{item.describe()}: left in TensorFlow" for item in self._left_out.values() if _is_slow(item)]
        told = summarize_speed(self.engines), *left, summarize_calls(self._signatures)
        return "; ".join(text for text in told if text)


def _is_slow(excess: Excess) -> bool:
    return excess.engine.speed is not None and not excess.engine.speed.kept


def _place(engine: Engine) -> Place:
    return engine.segment_index, engine.key
