"""START HERE: the stages in order, one call each.

SavedModel -> freeze -> segment -> lower (ONNX) -> calibrate (INT8 alone) -> plan -> build -> SavedModel; `runtime/` then runs what was built.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from beforehand.backends.protocol import Backend
from beforehand.build_engines.build_all import BuildHooks, BuildResult, build_all
from beforehand.build_engines.plan_engines import make_key, plan_engines
from beforehand.build_engines.settings import read_settings
from beforehand.calibrate.capture_inputs import InputCapture
from beforehand.calibrate.quantize_segment import quantize_segment
from beforehand.divide_graph import divide_graph
from beforehand.errors import BuildError, NothingConvertedError
from beforehand.freeze.find_resources import find_initializers
from beforehand.freeze.freeze_signature import find_checkpoint_keys, freeze_signature
from beforehand.freeze.hash_graph import hash_graph
from beforehand.options import Options
from beforehand.profiles.plan_profiles import Rule, plan_profiles
from beforehand.profiles.replace_refused import replace_refused
from beforehand.records import (
    Engine,
    EngineSpec,
    Initializer,
    LoweredSegment,
    Partition,
    SegmentRecord,
    ShapeSet,
    Signature,
)
from beforehand.runtime.tensorflow_private import find_op_def
from beforehand.saved_model.open_weights import ReadWeight, open_weights
from beforehand.saved_model.read_callables import SourceCallable, read_callables
from beforehand.saved_model.read_object_keys import read_object_keys
from beforehand.saved_model.read_saved_model import read_saved_model
from beforehand.segment.find_whole import find_whole
from beforehand.store import layout
from beforehand.store.cache_folder import CacheFolder
from beforehand.store.quantized_cache import QuantizedCache

_log = logging.getLogger("beforehand")
DEFAULT_SIGNATURE = "serving_default"


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What `convert_model` gives: partitions, their segments as ONNX, and which signature has which partition.

    Attributes:
        signatures: All signatures, in the order of the manifest.
        partitions: One for each different graph.
        lowered: Every segment of every partition, in the order of the manifest.
        graph_of: Of each signature, the index of its partition; signatures of one graph share it.
        first_segments: Of each partition, the index of its first segment in the manifest.
        callables: Functions of the source's root that equal a signature.
        not_kept: What else the source's root had, in words.
        read_weight: Gives the value of a weight.
        initializers: What fills the tables of the source, by their identity.
        files: The folder of the source's assets.
    """

    signatures: tuple[Signature, ...]
    partitions: tuple[Partition, ...]
    lowered: tuple[LoweredSegment, ...]
    graph_of: tuple[int, ...]
    first_segments: tuple[int, ...]
    callables: tuple[SourceCallable, ...]
    not_kept: tuple[str, ...]
    read_weight: ReadWeight
    initializers: Mapping[str, Initializer]
    files: pathlib.Path

    def find_partition(self, key: str) -> tuple[Partition, int]:
        """The partition of a signature, and the manifest's index of its first segment."""
        graph = self.graph_of[[signature.key for signature in self.signatures].index(key)]
        return self.partitions[graph], self.first_segments[graph]


def convert_model(
    folder: pathlib.Path,
    tags: Sequence[str],
    keys: Sequence[str] | None,
    options: Options,
    backend: Backend,
    work: pathlib.Path,
) -> Conversion:
    """From a SavedModel to segments written as ONNX. Nothing is built.

    Raises:
        SourceError: the source cannot be read. NothingConvertedError: BH301, no node can enter an engine.
    """
    conversion = divide_model(folder, tags, keys, options, backend, work)
    if not conversion.lowered:
        _refuse_nothing(folder, conversion.partitions, options)
    return conversion


def divide_model(
    folder: pathlib.Path,
    tags: Sequence[str],
    keys: Sequence[str] | None,
    options: Options,
    backend: Backend,
    work: pathlib.Path,
) -> Conversion:
    """The same, where no segment at all is an answer too.

    Raises:
        SourceError: the source cannot be read.
    """
    source = read_saved_model(folder, tags, keys)
    callables, not_kept = read_callables(source)
    checkpoint_keys = find_checkpoint_keys(source.meta_graph, find_op_def, read_object_keys(source))
    constants: dict[str, Any] = {}
    read_weight = open_weights(source, constants)
    graphs: dict[str, int] = {}
    partitions: list[Partition] = []
    lowered: list[LoweredSegment] = []
    first_segments: list[int] = []
    graph_of = []
    ordered = sorted(source.signatures, key=lambda item: item.signature.key != DEFAULT_SIGNATURE)
    for item in ordered:
        graph = freeze_signature(
            source.meta_graph, item.signature, item.input_tensors, item.output_tensors, checkpoint_keys, find_op_def
        )
        constants.update(graph.constants)
        identity = hash_graph(graph)
        if identity not in graphs:
            graphs[identity] = len(partitions)
            first_segments.append(len(lowered))
            partition, segments = divide_graph(graph, len(partitions), options, backend, read_weight, work)
            partitions.append(partition)
            lowered.extend(segments)
        graph_of.append(graphs[identity])
        _log.debug("%s: %d nodes, graph %d of the model", item.signature.key, len(graph.graph_def.node), graph_of[-1])
    wholes = [find_whole(partition, first) for partition, first in zip(partitions, first_segments, strict=True)]
    signatures = tuple(
        dataclasses.replace(item.signature, whole=wholes[graph]) for item, graph in zip(ordered, graph_of, strict=True)
    )
    return Conversion(
        signatures, tuple(partitions), tuple(lowered), tuple(graph_of), tuple(first_segments), callables, not_kept,
        read_weight, find_initializers(source.meta_graph, checkpoint_keys.tables, find_op_def), folder / layout.ASSETS,
    )  # fmt: skip


def _refuse_nothing(folder: pathlib.Path, partitions: Iterable[Partition], options: Options) -> None:
    reasons = Counter(node.reason for top in partitions for partition in top.walk() for node in partition.left_out)
    counted = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
    raise NothingConvertedError(
        f"no part of {folder} can run in an engine of {options.backend}",
        why=f"nodes left out by reason: {counted or 'the graph has no nodes'}",
        advice="a smaller minimum_segment_size, if that is the reason above; else use the model as it is",
    )


def quantize_segments(
    conversion: Conversion, key: str, capture: InputCapture, options: Options, cancel: threading.Event | None = None
) -> Conversion:
    """The same, with quantised graphs of the segments of signature `key`, by what came to their inputs.

    Raises:
        BuildError: BH401, one could not be quantised. BackendError: BH701, what quantises is not installed.
    """
    partition, first = conversion.find_partition(key)
    lowered = list(conversion.lowered)
    cache, settings = QuantizedCache(CacheFolder()), read_settings(options)
    for index in range(first, first + sum(len(part.segments) for part in partition.walk())):
        if lowered[index].quantized_sha256 == lowered[index].onnx_sha256:
            continue  # it has ranges of its own
        inputs = capture.find(index)
        if inputs is not None:
            lowered[index] = quantize_segment(lowered[index], inputs, settings, cache, cancel)
        _tell_float(lowered[index], is_reached=inputs is not None)
    return dataclasses.replace(conversion, lowered=tuple(lowered))


def _tell_float(lowered: LoweredSegment, *, is_reached: bool) -> None:
    if not is_reached:
        _log.warning("no calibration sample reached %s: its engines will not run in INT8", lowered.segment.name)
    elif not lowered.quantized_sha256:
        _log.info("nothing in %s runs in INT8", lowered.segment.name)


@dataclasses.dataclass(frozen=True)
class BuildRequest:
    """Shapes seen of some segments (by their index in the manifest), in order, and the rule that makes profiles of them."""

    conversion: Conversion
    segments: tuple[SegmentRecord, ...]
    options: Options
    backend: Backend
    rule: Rule
    seen: Sequence[tuple[int, ShapeSet]]

    def plan(self, shapes: Iterable[tuple[int, ShapeSet]], built: Iterable[Engine]) -> list[EngineSpec]:
        """The engines to build for these shapes, without those that are built."""
        keys = {(engine.segment_index, engine.key) for engine in built}
        specs = plan_engines(dict(enumerate(self.conversion.lowered)), shapes, self.backend, self.options)
        return [spec for spec in specs if (spec.segment_index, spec.key) not in keys]


def plan_seen(request: BuildRequest, built: Sequence[Engine]) -> list[EngineSpec]:
    """What the request's rule makes of its shapes, beside what is built.

    Raises:
        SampleError: BH122, the rule cannot be applied to them.
    """
    there = {index: _list_shapes(built, index) for index, _ in request.seen}
    planned = plan_profiles(request.seen, request.rule, request.segments, there)
    return request.plan(planned, built)


def build_seen(
    request: BuildRequest, built: Sequence[Engine], folder: pathlib.Path, hooks: BuildHooks, cancel: threading.Event
) -> BuildResult:
    """Build what the request's rule makes of its shapes, beside what is built, or take it from the user's cache.

    Raises:
        SampleError: BH122, the rule cannot be applied to them. BuildCancelledError: BH403.
    """

    def replace(spec: EngineSpec, error: BuildError, newer: Sequence[Engine]) -> list[EngineSpec] | None:
        have = [*built, *newer]
        engines = _list_shapes(have, spec.segment_index)
        shapes = replace_refused(spec, error, request.rule, request.seen, engines)
        return None if shapes is None else request.plan(shapes, have)

    specs, settings = plan_seen(request, built), read_settings(request.options)
    return build_all(specs, folder, settings, CacheFolder(), dataclasses.replace(hooks, replace=replace), cancel)


def rebuild_kept(
    request: BuildRequest,
    engine: Engine,
    kept: Sequence[str] | None,
    folder: pathlib.Path,
    hooks: BuildHooks,
    cancel: threading.Event,
) -> Engine | None:
    """The engine for the same shapes with these ONNX nodes in a higher precision; None if it cannot be built.

    Args:
        request: Of the build.
        engine: What was built.
        kept: The nodes; None: all of it in FP32.
        folder: Where the engine's file goes.
        hooks: What is told of the build.
        cancel: Once it is set, no build outlives a few seconds.

    Raises:
        BuildCancelledError: BH403.
    """
    if kept is None:
        request = dataclasses.replace(request, options=dataclasses.replace(request.options, precision_mode="FP32"))
    [spec] = request.plan([(engine.segment_index, engine.shapes)], ())
    spec = dataclasses.replace(spec, kept=tuple(kept or ()))
    spec = dataclasses.replace(spec, key=make_key(spec))
    result = build_all([spec], folder, read_settings(request.options), CacheFolder(), hooks, cancel)
    return next(iter(result.engines), None)


def _list_shapes(engines: Iterable[Engine], segment: int) -> list[ShapeSet]:
    return [engine.shapes for engine in engines if engine.segment_index == segment]


def describe_segments(conversion: Conversion) -> tuple[SegmentRecord, ...]:
    """What the manifest keeps of each segment."""
    records = []
    parts = [(part, segment) for top in conversion.partitions for part in top.walk() for segment in part.segments]
    for (part, segment), lowered in zip(parts, conversion.lowered, strict=True):
        nodes = {node.name: node.op for node in part.graph.graph_def.node}
        weights = {weight.node for weight in part.graph.weights}
        ops = Counter(nodes[name] for name in segment.nodes)
        ops.update("Const" if name in weights else nodes[name] for name in segment.constants)
        records.append(
            SegmentRecord(
                segment.name, segment.signature, segment.size, segment.flops_share, segment.inputs, segment.outputs,
                tuple(sorted(ops.items())), _measure_weights(lowered),
            )
        )  # fmt: skip
    return tuple(records)


def _measure_weights(lowered: LoweredSegment) -> int:
    """Size of the segment as ONNX: two files in a folder of their own."""
    return sum(file.stat().st_size for file in pathlib.Path(lowered.onnx_file).parent.iterdir())
