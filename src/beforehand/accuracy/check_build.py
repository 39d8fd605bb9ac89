"""After a build: compare its engines with TensorFlow, and find those that are over the budget."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from beforehand.accuracy.compare_engines import choose_samples, compare_engine, find_obstacle, open_engine
from beforehand.accuracy.judge import find_budget, find_doubts, find_excess
from beforehand.accuracy.keep_samples import KeptSamples
from beforehand.accuracy.observe_segments import add_ends, observe_segments
from beforehand.accuracy.settle_build import Excess
from beforehand.options import Options
from beforehand.records import Accuracy, Engine, SegmentRecord, Signature
from beforehand.report.summarize_accuracy import summarize_accuracy

if TYPE_CHECKING:
    from beforehand.live_model import LiveModel, SegmentSample

_log = logging.getLogger("beforehand")


@dataclasses.dataclass(frozen=True)
class Checked:
    """The engines of a build with what the comparison found, and those of them that are over the budget."""

    engines: tuple[Engine, ...]
    excesses: tuple[Excess, ...]

    @property
    def usable(self) -> tuple[Engine, ...]:
        """The others."""
        over = {id(item.engine) for item in self.excesses}
        return tuple(engine for engine in self.engines if id(engine) not in over)


class BuildChecker:
    """Compares the engines of builds of one signature; values are observed once, when they are first needed."""

    def __init__(
        self,
        live: LiveModel,
        signature: Signature,
        segments: Sequence[SegmentRecord],
        kept: KeptSamples,
        folder: pathlib.Path,
        options: Options,
    ) -> None:
        self._live, self._signature, self._segments = live, signature, tuple(segments)
        self._kept, self._folder, self._options = kept, folder, options
        self._samples: list[SegmentSample] | None = None
        self._inputs = {spec.name for spec in signature.inputs}

    @property
    def kept(self) -> KeptSamples:
        """The samples of the signature."""
        return self._kept

    def check(self, engines: Sequence[Engine]) -> Checked:
        """Each engine with its `accuracy`; told in one line of the log, and a WARNING for each that is over or doubtful."""
        if not self._options.compare_samples or not engines:
            return Checked(tuple(engines), ())
        compared = tuple(dataclasses.replace(engine, accuracy=self.compare(engine)) for engine in engines)
        excesses = []
        for engine in compared:
            budget = find_budget(self._options.max_error, engine.precision)
            reason = find_excess(engine.accuracy, budget)
            if reason:
                excesses.append(Excess(engine, reason))
            elif self._options.max_error is None:
                tell_doubts(engine)
        checked = Checked(compared, tuple(excesses))
        _log.info("%s", summarize_accuracy(checked.engines))
        return checked

    def compare(self, engine: Engine) -> Accuracy:
        """One engine beside TensorFlow; why it was not compared where it could not be."""
        obstacle = find_obstacle(engine)
        if obstacle:
            return Accuracy(not_compared=obstacle)
        samples = self.find_samples(engine)
        if not samples:
            return Accuracy(not_compared="no values that reach it could be had")
        try:
            executable = open_engine(engine, self._folder, self._options.device)
            segment = self._segments[engine.segment_index]
            return compare_engine(executable, segment, samples)
        except Exception as error:  # noqa: BLE001 (a backend may raise anything; calls of such an engine run natively)
            told = f"it cannot be run here: {type(error).__name__}: {error}"[:500]
            _log.warning(
                "the engine of %s for %s could not be compared with TensorFlow: %s",
                engine.segment, engine.shapes.describe(), told,
            )  # fmt: skip
            return Accuracy(not_compared=told)

    def find_samples(self, engine: Engine) -> list[SegmentSample]:
        """The samples on which an engine is compared."""
        if self._samples is None:
            self._samples = observe_segments(self._live, self._signature, self._kept)
        chosen = choose_samples(engine, self._samples, self._kept.most)
        names = {spec.name for spec in self._segments[engine.segment_index].inputs}
        return add_ends(self._live, engine, chosen, own=names <= self._inputs)


def tell_doubts(engine: Engine) -> None:
    """A WARNING, where an engine for which there is no budget is not as near to TensorFlow as it should be."""
    doubts = find_doubts(engine.accuracy)
    if doubts:
        drawn = " (on inputs drawn at random)" if engine.accuracy is not None and engine.accuracy.is_drawn else ""
        _log.warning(
            "%s for %s in %s differs from TensorFlow%s: %s. Compare on data of yours (input_fn), or give a budget: max_error.",
            engine.segment, engine.shapes.describe(), engine.precision, drawn, "; ".join(doubts),
        )  # fmt: skip
