"""Engines beside TensorFlow, on the values that reach their segments."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from beforehand.accuracy.compare_outputs import compare_output, take_worst
from beforehand.backends.protocol import Executable
from beforehand.backends.registry import find_backend
from beforehand.records import Accuracy, Engine, SegmentRecord
from beforehand.runtime.choose_engines import find_fingerprint, find_fingerprints, fits
from beforehand.store import layout
from beforehand.store.verified_file import read_verified_file

if TYPE_CHECKING:
    from beforehand.live_model import SegmentSample


def find_obstacle(engine: Engine) -> str:
    """Why an engine cannot run on this machine; empty if it can."""
    here = find_fingerprints([engine.backend])[engine.backend]
    if fits(engine, here):
        return ""
    return f"it is for [{find_fingerprint(engine).describe()}], this machine is [{here.describe()}]"


def open_engine(engine: Engine, folder: pathlib.Path, device: int = 0) -> Executable:
    """The engine, opened for the comparison alone.

    Raises:
        Exception: whatever a backend raises.
    """
    data = read_verified_file(layout.find_engine_file(folder, engine.file), engine.sha256)
    backend = find_backend(engine.backend)
    return backend.load(data, engine.input_names, engine.output_names, precision=engine.precision, device=device)


def choose_samples(engine: Engine, samples: Sequence[SegmentSample], most: int) -> list[SegmentSample]:
    """Those that the engine serves: `most` of its shapes; of a range, of the smallest shapes, the largest and the opt's."""
    fitting: dict[tuple[tuple[int, ...], ...], list[SegmentSample]] = {}
    for sample in samples:
        shapes = tuple(array.shape for array in sample.inputs)
        if sample.segment == engine.segment_index and engine.shapes.contains(shapes):
            fitting.setdefault(shapes, []).append(sample)
    ordered = sorted(fitting, key=lambda shapes: sum(map(_count, shapes)))
    wanted = dict.fromkeys([*ordered[:1], *ordered[-1:], engine.shapes.opt_shapes])
    return [sample for shapes in wanted for sample in fitting.get(shapes, ())[:most]]


def _count(shape: tuple[int, ...]) -> int:
    size = 1
    for dim in shape:
        size *= dim
    return size


def compare_engine(executable: Executable, segment: SegmentRecord, samples: Sequence[SegmentSample]) -> Accuracy:
    """An open engine beside TensorFlow, on samples that it serves, at least one.

    Raises:
        Exception: whatever a backend raises.
    """
    several = []
    for sample in samples:
        found = executable.run(sample.inputs)
        triples = zip(segment.outputs, sample.outputs, found, strict=True)
        several.append([compare_output(spec.name, wanted, given) for spec, wanted, given in triples])
    return Accuracy(
        tuple(map(take_worst, zip(*several, strict=True))), len(samples), any(sample.is_drawn for sample in samples)
    )
