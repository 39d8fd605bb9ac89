"""The values that reach each segment, and TensorFlow's outputs of them, for the samples kept of a build."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from beforehand.accuracy.draw_inputs import draw_inputs
from beforehand.accuracy.keep_samples import KeptSamples, has_values
from beforehand.records import Engine, Shape, Signature
from beforehand.saved_model.check_sample import Sample

if TYPE_CHECKING:
    from beforehand.live_model import LiveModel, SegmentSample

_log = logging.getLogger("beforehand")
Shapes = tuple[Shape, ...]


def observe_segments(live: LiveModel, signature: Signature, kept: KeptSamples) -> list[SegmentSample]:
    """Run the samples natively; those that are shapes alone with values drawn at random, if TensorFlow can run these.

    A sample that TensorFlow cannot run says nothing of engines, and is left out.
    """
    found: list[SegmentSample] = []
    for sample in kept.samples:
        for given, is_drawn in list_tries(sample):
            try:
                observed = live.observe(signature, given, kept.most)
            except Exception as error:  # noqa: BLE001 (of TensorFlow, whose classes are many; the next one is tried)
                _log.debug("TensorFlow cannot run a sample for the comparison of engines: %s", error)
                continue
            found += [dataclasses.replace(item, is_drawn=is_drawn) for item in observed]
            break
    return found


def list_tries(sample: Sample) -> list[tuple[Sample, bool]]:
    """What to run for a sample until TensorFlow can run it, and whether that is drawn: itself, if it is more than its shapes."""
    return [(sample, False)] if has_values(sample) else [(draw_inputs(sample), True), (sample, True)]


def add_ends(live: LiveModel, engine: Engine, samples: list[SegmentSample], own: bool) -> list[SegmentSample]:
    """Samples of an engine's range, with others at either end of it that were not observed.

    They are made of an observed one, cut short or repeated in each dimension, where the segment reads the model's own inputs
    and nothing else: what a segment is given by others is not for us to guess.
    """
    shapes = engine.shapes
    if not (shapes.is_range and shapes.is_bounded and own and samples):
        return samples
    seen = {tuple(array.shape for array in sample.inputs) for sample in samples}
    added = []
    for end in dict.fromkeys((shapes.shapes, shapes.max_shapes)):
        if end not in seen and all(0 not in shape for shape in end):
            inputs = tuple(_stretch(array, shape) for array, shape in zip(samples[0].inputs, end, strict=True))
            try:
                outputs = live.run_segment(engine.segment_index, inputs)
            except Exception as error:  # noqa: BLE001 (as above)
                _log.debug("TensorFlow cannot run %s at %s: %s", engine.segment, end, error)
                continue
            added.append(dataclasses.replace(samples[0], inputs=inputs, outputs=outputs))
    return [*samples, *added]


def _stretch(array: np.ndarray[Any, Any], shape: Shape) -> np.ndarray[Any, Any]:
    for axis, size in enumerate(shape):
        array = np.take(array, np.arange(size) % array.shape[axis], axis)
    return array
