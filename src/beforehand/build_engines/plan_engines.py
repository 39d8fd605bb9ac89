"""Segments times shapes to a list of engines to build, each with the hash of all that can change it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterable, Mapping

from beforehand.backends.protocol import Backend
from beforehand.build_engines.follow_healed import follow_healed, list_nearest
from beforehand.errors import PrecisionError
from beforehand.options import AUTO, Options
from beforehand.records import EngineSpec, LoweredSegment, Manifest, ShapeSet
from beforehand.store import layout
from beforehand.store.hashing import hash_data

_log = logging.getLogger("beforehand")
# Raised when the same parts come to another engine, because a backend is asked otherwise.
_RECIPE = 4
INT8, _EXACT = "INT8", "FP32"
# Options that stand in the key as what they came to: the target "" is this machine's, and has its key; FP16 on a CPU that
# computes in BF16 is BF16.
_RESOLVED = ("backend", "precision_mode", "target")


def plan_engines(
    segments: Mapping[int, LoweredSegment],
    shapes: Iterable[tuple[int, ShapeSet]],
    backend: Backend,
    options: Options,
) -> tuple[EngineSpec, ...]:
    """What to build, without repeats, in the order given.

    Args:
        segments: Lowered segments, by their index in the manifest.
        shapes: Which segment to build for which shapes.
        backend: Who builds.
        options: The conversion's options.

    Raises:
        PrecisionError: BH103, the target cannot have the precision.
    """
    version, target = backend.probe().version, backend.describe_target(options.target)
    precision, kernels = backend.resolve_precision(options.precision_mode, target), backend.describe_kernels(target)
    specs: dict[str, EngineSpec] = {}
    for index, shape_set in shapes:
        lowered = segments[index]
        quantized = lowered.quantized_sha256 if precision == INT8 else ""
        spec = EngineSpec(
            segment=lowered.segment.name,
            segment_index=index,
            onnx_file=lowered.quantized_file if quantized else lowered.onnx_file,
            input_names=lowered.input_names,
            output_names=lowered.output_names,
            shapes=shape_set,
            backend=backend.name,
            backend_version=version,
            precision=_find_precision(precision, quantized, backend, target),
            target=target,
            options=options.to_key(),
            key="",
            graph=lowered.digest,
            onnx_sha256=quantized or lowered.onnx_sha256,
            weights_sha256=lowered.weights_sha256,
            weight_bytes=lowered.bytes,
            kernels=kernels,
            quantized=quantized,
        )
        key = make_key(spec)
        specs.setdefault(f"{index}/{key}", dataclasses.replace(spec, key=key))
    return tuple(specs.values())


def make_spec(
    manifest: Manifest, segment: int, shapes: ShapeSet, backend: Backend, target: str | None = None
) -> EngineSpec:
    """What `plan_engines` would have planned when the model was converted, from what the saved model keeps.

    Args:
        manifest: Of a converted SavedModel that has its sources.
        segment: Index of the segment.
        shapes: What the engine is to serve.
        backend: Who builds.
        target: As the option of that name, whose value at the conversion is taken for None.

    Returns:
        The specification; its `onnx_file` is the name of a file in the folder that `restore_onnx` writes.

    Raises:
        PrecisionError: BH103, the target cannot have the conversion's precision.
    """
    source = manifest.sources[segment]
    asked = {**dict(manifest.options), "backend": backend.name}
    if target is not None:
        asked["target"] = target
    described = backend.describe_target(asked["target"])
    mode = asked["precision_mode"]
    if mode == AUTO:
        mode = _find_taken(manifest, segment, shapes, backend, described)
    precision = backend.resolve_precision(mode, described)
    quantized = source.quantized_sha256 if precision == INT8 else ""
    spec = EngineSpec(
        segment=manifest.segments[segment].name,
        segment_index=segment,
        onnx_file=layout.ONNX_QUANTIZED if quantized and quantized != source.onnx_sha256 else layout.ONNX_MODEL,
        input_names=source.input_names,
        output_names=source.output_names,
        shapes=shapes,
        backend=backend.name,
        backend_version=backend.probe().version,
        precision=_find_precision(precision, quantized, backend, described),
        target=described,
        options=tuple((name, asked[name]) for name, _ in manifest.options),
        key="",
        graph=source.digest,
        onnx_sha256=quantized or source.onnx_sha256,
        weights_sha256=source.weights_sha256,
        weight_bytes=manifest.segments[segment].weight_bytes,
        kernels=backend.describe_kernels(described),
        quantized=quantized,
    )
    spec = follow_healed(spec, manifest, backend)
    return dataclasses.replace(spec, key=make_key(spec))


def _find_precision(precision: str, quantized: str, backend: Backend, target: str) -> str:
    """A segment that has no quantised graph is built in what the parts of others compute in that are not quantised."""
    return backend.resolve_rest(target) if precision == INT8 and not quantized else precision


def _find_taken(manifest: Manifest, segment: int, shapes: ShapeSet, backend: Backend, target: str) -> str:
    """What precision_mode "auto" came to for these shapes, else for others of the segment, where `target` has it; else FP32.

    That was measured when the model was converted; nothing is measured now.
    """
    for engine in list_nearest(manifest, segment, shapes):
        with contextlib.suppress(PrecisionError):
            backend.resolve_precision(engine.precision, target)
            return engine.precision
    return _EXACT


def make_key(spec: EngineSpec) -> str:
    """Hash of everything that can change an engine: graph and weights (by their digest), shapes, backend, options."""
    shapes = spec.shapes
    # Where these are empty, the key is the one that there was before the fields.
    more = {"kept": sorted(spec.kept)} if spec.kept else {}
    more.update({"quantized": [spec.quantized]} if spec.quantized else {})
    return hash_data(
        {
            **more,
            "recipe": _RECIPE,
            "graph": spec.graph,
            "names": [spec.input_names, spec.output_names],
            "shapes": [shapes.shapes, shapes.max_shapes, shapes.opt_shapes, shapes.one_batch],
            "backend": [spec.backend, spec.backend_version],
            "precision": spec.precision,
            "target": [spec.target, spec.kernels] if spec.kernels else spec.target,
            "options": sorted(pair for pair in spec.options if pair[0] not in _RESOLVED),
        }
    )


def tell_precision(asked: str, backend: Backend, target: str) -> None:
    """Say it where engines run in another precision than the one asked for; "auto" asks for none."""
    found = asked if asked == AUTO else backend.resolve_precision(asked, target)
    if found != asked:
        _log.warning("precision_mode %s runs in %s on %s, which has no %s arithmetic", asked, found, target, asked)
