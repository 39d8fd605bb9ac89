"""Engines of segments by themselves: given what the reference gives each segment, so that no error of another comes in."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from beforehand.accuracy.compare_engines import open_engine
from beforehand.accuracy.compare_outputs import take_worst
from beforehand.backends.protocol import Executable
from beforehand.records import Engine, Manifest, OutputAccuracy
from beforehand.store import layout
from beforehand.verification.compare_values import compare_values
from beforehand.verification.records import Drift, NotVerified, SegmentRow
from beforehand.verification.tolerances import judge_output

if TYPE_CHECKING:
    from beforehand.verification.reference import SegmentCall

_log = logging.getLogger("beforehand")
# Loops call a segment many times: of one sample so many of each engine.
_MOST_CALLS = 8
_Pair = tuple[
    OutputAccuracy, "OutputAccuracy | None"
]  # the engine's, and that of TensorFlow in float32 where it is known


@dataclasses.dataclass(frozen=True)
class _Place:
    """An engine's file, and an output of its segment."""

    engine: str
    output: int


class SegmentChecker:
    """Compares engines as calls of their segments come, and keeps the worst of each."""

    def __init__(
        self, manifest: Manifest, engines: Sequence[Engine], assets: pathlib.Path, tolerance: float | None
    ) -> None:
        self._manifest, self._assets, self._tolerance = manifest, assets, tolerance
        self._engines = {engine.file: engine for engine in engines}
        self._opened: dict[str, Executable] = {}
        self._failures: dict[str, NotVerified] = {}
        self._found: dict[_Place, list[_Pair]] = {}  # in the order in which segments ran

    def add(self, calls: Sequence[SegmentCall], plain: Sequence[SegmentCall]) -> None:
        """Compare the engines that serve these calls.

        Args:
            calls: Of the reference, in order.
            plain: Of TensorFlow in float32, in order; not used where these are others.
        """
        is_alike = [call.segment for call in calls] == [call.segment for call in plain]
        counts: dict[str, int] = {}
        for place, call in enumerate(calls):
            shapes = tuple(array.shape for array in call.inputs)
            for engine in self._engines.values():
                if engine.segment_index != call.segment or not engine.shapes.contains(shapes):
                    continue
                counts[engine.file] = counts.get(engine.file, 0) + 1
                if counts[engine.file] <= _MOST_CALLS and engine.file not in self._failures:
                    self._compare(engine, call, plain[place] if is_alike else None)

    def _compare(self, engine: Engine, call: SegmentCall, plain: SegmentCall | None) -> None:
        segment = self._manifest.segments[call.segment]
        pairs = zip(segment.inputs, call.inputs, strict=True)
        inputs = tuple(np.asarray(array, spec.dtype, order="C") for spec, array in pairs)
        try:
            if engine.file not in self._opened:
                self._opened[engine.file] = open_engine(engine, self._assets, self._manifest.policies.device)
            outputs = self._opened[engine.file].run(inputs)
        except Exception as error:  # noqa: BLE001 (a backend may raise anything, and the other engines are to be compared)
            told = f"it cannot be run here: {type(error).__name__}: {' '.join(str(error).split())}"[:300]
            self._failures[engine.file] = NotVerified(engine.segment, engine.file, told)
            return
        for index, (spec, wanted, given) in enumerate(zip(segment.outputs, call.outputs, outputs, strict=True)):
            native = None if plain is None else compare_values(spec.name, wanted, plain.outputs[index])
            pair = (compare_values(spec.name, wanted, np.asarray(given)), native)
            self._found.setdefault(_Place(engine.file, index), []).append(pair)

    def list_rows(self) -> tuple[SegmentRow, ...]:
        """What was found, in the order in which the segments ran."""
        return tuple(self._make_row(place, pairs) for place, pairs in self._found.items())

    def list_failures(self) -> tuple[NotVerified, ...]:
        """Engines that could not be run."""
        return tuple(self._failures.values())

    def find_first_drift(self) -> Drift | None:
        """The first of the segments, in the order in which they ran, of which an engine is wrong: its worst output."""
        wrong = [(place, row) for place, row in zip(self._found, self.list_rows(), strict=True) if not row.ok]
        if not wrong:
            return None
        first = wrong[0][0].engine
        place, row = max(
            (pair for pair in wrong if pair[0].engine == first), key=lambda pair: (pair[1].lost, pair[1].max_rel)
        )
        error = row.max_rel if row.unequal is None else row.unequal
        tensor = f"{layout.name_native_segment(row.segment)}:{place.output}"
        return Drift(row.segment, row.output, tensor, error, row.engine)

    def _make_row(self, place: _Place, pairs: Sequence[_Pair]) -> SegmentRow:
        engine = self._engines[place.engine]
        worst = take_worst([found for found, _ in pairs])
        natives = [native for _, native in pairs if native is not None]
        judged = judge_output(worst, engine.precision, take_worst(natives) if natives else None, self._tolerance)
        return SegmentRow(
            engine.segment, engine.file, engine.shapes.describe(), engine.precision, worst.name, worst.max_abs, worst.max_rel,
            worst.mean_abs, worst.cosine, worst.lost, worst.top1, worst.unequal, judged.tolerance, len(pairs),
            judged.is_right, judged.why,
        )  # fmt: skip
