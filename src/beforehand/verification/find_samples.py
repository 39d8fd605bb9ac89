"""The samples to verify a signature on: those given, or drawn at the shapes of its engines."""

from __future__ import annotations

import dataclasses
import pathlib
import runpy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from beforehand.accuracy.draw_inputs import draw_inputs
from beforehand.accuracy.keep_samples import KeptSamples, has_values
from beforehand.errors import NoSamplesError, SampleError, SignatureError
from beforehand.records import Engine, Manifest, Shape, Signature
from beforehand.saved_model.check_sample import Sample
from beforehand.saved_model.read_samples import read_sample_files, read_samples
from beforehand.saved_model.read_shapes import make_zeros, read_shapes

_SCRIPT_NAMES = ("samples", "input_fn")


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A sample, and the same of zeros to try where TensorFlow cannot run it; `zeros` is None for samples that were given."""

    sample: Sample
    zeros: Sample | None = None


def find_samples(
    manifest: Manifest, signature: Signature, engines: Sequence[Engine], given: Any, shapes: Any, most: int
) -> list[Drawn]:
    """At most `most` samples of each set of shapes; drawn ones are one of each.

    Args:
        manifest: Of the converted model.
        signature: What the samples are for.
        engines: Those that run here.
        given: Samples in any form that `build` takes, or the path of a `.npz` file, a folder of them, or a Python script that defines
            `samples` or `input_fn`; None: none.
        shapes: Shapes to draw at, as `build` takes them; None: none.
        most: As above.

    Raises:
        NoSamplesError: BH121, neither was given, and the engines do not tell the shapes of all inputs. SampleError: BH122.
    """
    kept = KeptSamples(most)
    if given is not None:
        for sample in _read(given, signature):
            kept.add(sample)
    elif shapes is not None:
        for item in read_shapes(shapes, signature):
            kept.add(item.low)
            kept.add(item.high)
    else:
        for found in list_shapes(manifest, signature, engines):
            zeros = make_zeros(found, signature)
            kept.add({name: np.full(a.shape, b"", object) if a.dtype.kind == "O" else a for name, a in zeros.items()})
    return [
        Drawn(sample) if given is not None and has_values(sample) else Drawn(draw_inputs(sample), sample)
        for sample in kept.samples
    ]


def _read(given: Any, signature: Signature) -> Iterator[Sample]:
    if not isinstance(given, (str, pathlib.Path)):
        return read_samples(given, signature)
    path = pathlib.Path(given)
    if path.suffix != ".py":
        return read_sample_files(path, signature)
    if not path.is_file():
        raise SampleError(f"there is no script {path}")
    made = runpy.run_path(str(path))
    found = next((made[name] for name in _SCRIPT_NAMES if name in made), None)
    if found is None:
        raise SampleError(f"{path} defines neither `samples` nor `input_fn`", advice="`def samples(): yield {...}`")
    return read_samples(found, signature)


def find_signature(manifest: Manifest, key: str) -> Signature:
    """The signature of that key.

    Raises:
        SignatureError: BH203.
    """
    by_key = {signature.key: signature for signature in manifest.signatures}
    if key not in by_key:
        raise SignatureError(f"there is no signature {key!r}", advice="one of " + ", ".join(by_key))
    return by_key[key]


def list_segments(manifest: Manifest, signature: Signature) -> set[int]:
    """The segments of a signature, by index in the manifest; all of them where the manifest does not tell."""
    if signature.whole is not None:
        return {signature.whole.segment}
    own = {index for index, segment in enumerate(manifest.segments) if segment.signature == signature.key}
    return own or set(range(len(manifest.segments)))


def list_shapes(manifest: Manifest, signature: Signature, engines: Iterable[Engine]) -> list[dict[str, Shape]]:
    """The shapes of the signature's inputs at which its engines serve: of a range both ends.

    Engines of segments within the model tell no shapes of its inputs but the first dimension, so far as inputs leave no other open.

    Raises:
        NoSamplesError: BH121.
    """
    segments = list_segments(manifest, signature)
    known: dict[str, dict[str, Shape]] = {}
    engines = [engine for engine in engines if engine.segment_index in segments]
    for engine in engines:
        ends = [engine.shapes.shapes]
        ends += [engine.shapes.max_shapes] if engine.shapes.is_range and engine.shapes.is_bounded else []
        for end in ends:
            shapes = _fill(signature, dict(zip(engine.shapes.names, end, strict=True)))
            if shapes is not None:
                known[str(shapes)] = shapes
    if engines and not known:
        raise NoSamplesError(
            f"the engines do not tell the shapes of the inputs of {signature.key}",
            why=f"it takes {signature.describe_inputs()}",
            advice="--samples FILE.npz (samples=), or --shapes x=1x224x224x3 (shapes=)",
        )
    return list(known.values())


def _fill(signature: Signature, given: Mapping[str, Shape]) -> dict[str, Shape] | None:
    batch = next((shape[0] for shape in given.values() if shape), None)
    found = {}
    for spec in signature.inputs:
        if spec.name in given:
            found[spec.name] = given[spec.name]
            continue
        if spec.shape is None:
            return None
        dims = [batch if place == 0 and dim is None else dim for place, dim in enumerate(spec.shape)]
        if any(dim is None for dim in dims):
            return None
        found[spec.name] = tuple(dim for dim in dims if dim is not None)
    return found
