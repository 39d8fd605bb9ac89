"""One signature of a converted SavedModel beside its references: called whole, and each segment's engines by themselves."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from beforehand import loaded as counters
from beforehand.accuracy.compare_outputs import take_worst
from beforehand.errors import BeforehandError
from beforehand.records import Engine, Manifest, OutputAccuracy, Signature
from beforehand.saved_model.check_sample import Sample
from beforehand.saved_model.read_saved_model import Source, read_saved_model
from beforehand.saved_model.save_source import save_source
from beforehand.store import layout
from beforehand.verification.compare_segments import SegmentChecker
from beforehand.verification.compare_values import compare_values
from beforehand.verification.find_samples import Drawn
from beforehand.verification.read_native_graph import read_native_graph
from beforehand.verification.records import Drift, NotVerified, OutputRow, SegmentRow
from beforehand.verification.reference import FLOAT32, FLOAT64, Answer, Reference
from beforehand.verification.tolerances import find_coarsest, judge_output

_log = logging.getLogger("beforehand")
# What the graphs of a source and of its conversion may differ by: both compute the same, in the same precision.
_SAME_GRAPH = {FLOAT64: 1e-5, FLOAT32: 1e-3}


@dataclasses.dataclass(frozen=True)
class SignatureResult:
    """What was found of one signature; `reference` is "float64" or "float32".

    `differences` tell of outputs by which the source's graph and the converted model's own differ, engines aside.
    """

    signature: str
    reference: str
    reference_note: str
    rows: tuple[OutputRow, ...]
    segments: tuple[SegmentRow, ...]
    not_verified: tuple[NotVerified, ...]
    first_drift: Drift | None
    differences: tuple[str, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Asked:
    """Who answered a call: names of segments by engines and by TensorFlow, the coarsest precision, and what went wrong."""

    engines: tuple[str, ...]
    native: tuple[str, ...]
    precision: str
    told: str


@dataclasses.dataclass(frozen=True)
class ModelPair:
    """A converted SavedModel, loaded as users load it, and the graphs that it is compared with.

    `source` is that of `against`; None: `native`, which is the converted model's own graph.
    """

    manifest: Manifest
    usable: tuple[Engine, ...]
    loaded: Any
    native: Source
    source: Source | None
    assets: pathlib.Path

    @staticmethod
    def open(
        path: pathlib.Path, manifest: Manifest, usable: tuple[Engine, ...], against: Any, scratch: pathlib.Path
    ) -> ModelPair:
        """Read both.

        Raises:
            SourceNotFoundError: BH201. SignatureError: BH203. GraphError: BH205.
        """
        source = None
        if against is not None:
            source = read_saved_model(save_source(against, scratch), ("serve",), None, allow_converted=False)
        native = read_native_graph(path, manifest.segments)
        loaded = tf.saved_model.load(str(path))
        # Engines that were built while we look would answer some calls and not others.
        counters.set_policies(loaded, on_unseen_shape="native", on_mismatch="native")
        return ModelPair(manifest, usable, loaded, native, source, path / layout.ASSETS)

    def verify(self, signature: Signature, drawn: Sequence[Drawn], tolerance: float | None) -> SignatureResult:
        """Compare one signature on samples."""
        counts = tuple(len(segment.inputs) for segment in self.manifest.segments)
        own = Reference(self.native, signature.key, counts)
        single = Reference(self.native, signature.key, counts, wide=False)
        source = None if self.source is None else Reference(self.source, signature.key)
        checker = SegmentChecker(self.manifest, self.usable, self.assets, tolerance)
        found: list[_Compared] = []
        notes: list[str] = []
        try:
            for item in drawn:
                compared = self._compare(signature, item, (own, single, source), checker)
                if compared is None:
                    notes.append(f"{signature.key}: TensorFlow cannot run {_describe(item.sample)}: not compared")
                else:
                    found.append(compared)
            differences = _list_differences(signature, own, source, found)
        finally:
            for reference in (own, single, source):
                if reference is not None:
                    reference.close()
        used = source or own
        return SignatureResult(
            signature.key, used.precision, used.note, tuple(_make_rows(signature, found, tolerance)), checker.list_rows(),
            checker.list_failures(), checker.find_first_drift(), tuple(differences), tuple(notes),
        )  # fmt: skip

    def _compare(
        self,
        signature: Signature,
        item: Drawn,
        references: tuple[Reference, Reference, Reference | None],
        checker: SegmentChecker,
    ) -> _Compared | None:
        own, single, source = references
        for sample, is_drawn in ((item.sample, item.zeros is not None), (item.zeros, True)):
            if sample is None:
                continue
            try:
                plain = single.run(sample)  # first: what fails there says nothing of float64
                answer = own.run(sample)
                expected = answer if source is None else source.run(sample)
            except (tf.errors.OpError, ValueError) as error:
                _log.debug("TensorFlow cannot run a sample: %s", error)
                continue
            checker.add(answer.calls, plain.calls)
            asked, outputs = self._call(signature, sample, answer)
            shapes = {name: list(array.shape) for name, array in sample.items()}
            return _Compared(shapes, is_drawn, asked, expected, plain, answer, outputs)
        return None

    def _call(self, signature: Signature, sample: Sample, answer: Answer) -> tuple[_Asked, dict[str, Any] | None]:
        """Call the loaded model, and read from its counters who answered."""
        counters.reset_stats(self.loaded)
        tensors = {spec.name: tf.constant(sample[spec.name], spec.dtype) for spec in signature.inputs}
        try:
            outputs = {
                name: np.asarray(value) for name, value in self.loaded.signatures[signature.key](**tensors).items()
            }
        except (tf.errors.OpError, BeforehandError) as error:
            told = " ".join(str(error).split())[:300]
            return _Asked((), (), "FP32", f"the call failed: {told}"), None
        return self._find_asked(answer), outputs

    def _find_asked(self, answer: Answer) -> _Asked:
        ran: Counter[str] = Counter()
        precisions = []
        for entry in counters.stats(self.loaded)["engines"]:
            if entry["engine_calls"]:
                ran[entry["segment"]] += entry["engine_calls"]
                precisions += [
                    engine.precision
                    for engine in self.usable
                    if (engine.segment, engine.shapes.to_dict(), engine.shapes.to_max_dict())
                    == (entry["segment"], entry["shapes"], entry["max_shapes"])
                ]
        wanted: Counter[str] = Counter()
        native: dict[str, None] = {}
        for call in answer.calls:
            shapes = tuple(array.shape for array in call.inputs)
            name = self.manifest.segments[call.segment].name
            if any(e.segment_index == call.segment and e.shapes.contains(shapes) for e in self.usable):
                wanted[name] += 1
            else:
                native[name] = None
        silent = [name for name, count in wanted.items() if ran[name] < count]
        told = f"the engines of {', '.join(silent)} did not answer, though they serve these shapes" if silent else ""
        return _Asked(tuple(sorted(ran)), tuple(native), find_coarsest(tuple(precisions)), told)


@dataclasses.dataclass(frozen=True)
class _Compared:
    """One sample: who answered, what was expected, and what came; `outputs` is None where the call failed."""

    shapes: dict[str, list[int]]
    is_drawn: bool
    asked: _Asked
    expected: Answer
    plain: Answer
    own: Answer
    outputs: dict[str, Any] | None


def _make_rows(signature: Signature, found: Sequence[_Compared], tolerance: float | None) -> list[OutputRow]:
    groups: dict[str, list[_Compared]] = {}
    for item in found:
        groups.setdefault(str(item.shapes), []).append(item)
    return [
        _make_row(signature, spec.name, group, tolerance) for group in groups.values() for spec in signature.outputs
    ]


def _make_row(signature: Signature, name: str, group: Sequence[_Compared], tolerance: float | None) -> OutputRow:
    answered = [item for item in group if item.outputs is not None]
    pairs = [(item.expected.outputs[name], (item.outputs or {})[name]) for item in answered]
    worst = take_worst([compare_values(name, *pair) for pair in pairs]) if pairs else OutputAccuracy(name, 0, 0, 0, 0)
    # Both of the converted model's own graph: a source that is another model says nothing of rounding.
    native = take_worst([compare_values(name, item.own.outputs[name], item.plain.outputs[name]) for item in group])
    precision = find_coarsest(tuple(item.asked.precision for item in group))
    judged = judge_output(worst, precision, native, tolerance)
    engines = tuple(sorted({segment for item in group for segment in item.asked.engines}))
    told = next((item.asked.told for item in group if item.asked.told), "") or (judged.why if engines else "")
    ok = False if told else (True if engines else None)
    return OutputRow(
        signature.key, name, group[0].shapes, engines, tuple(sorted({s for item in group for s in item.asked.native})),
        precision, worst.max_abs, worst.max_rel, worst.mean_abs, worst.cosine, worst.lost, worst.top1, worst.unequal,
        native.max_rel, judged.tolerance, len(group), any(item.is_drawn for item in group), ok,
        told or ("" if engines else "answered by TensorFlow: no engine serves these shapes"),
    )  # fmt: skip


def _list_differences(
    signature: Signature, own: Reference, source: Reference | None, found: Sequence[_Compared]
) -> list[str]:
    """A note for each output by which the source's graph and the converted model's own differ: they should be the same."""
    if source is None or not found:
        return []
    limit = _SAME_GRAPH[FLOAT64 if own.precision == source.precision == FLOAT64 else FLOAT32]
    notes = []
    for spec in signature.outputs:
        worst = take_worst(
            [compare_values(spec.name, item.expected.outputs[spec.name], item.own.outputs[spec.name]) for item in found]
        )
        if worst.lost or worst.max_rel > limit:
            notes.append(
                f"{signature.key}: {spec.name} of the graph within the converted model is off by {worst.max_rel:.1e} from the "
                "source's, engines aside: it was converted from another version of the source"
            )
    return notes


def _describe(sample: Sample) -> str:
    return ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in sample.items())
