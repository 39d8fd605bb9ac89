"""START HERE: the stages in order, one call each.

SavedModel -> freeze -> segment -> lower (ONNX) -> plan -> build -> SavedModel; `runtime/` then runs what was built.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import pathlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from beforehand import environment
from beforehand.backends.protocol import Backend, Refusal
from beforehand.build_engines.build_engine import build_engine
from beforehand.build_engines.plan_engines import plan_engines
from beforehand.errors import BuildError, LoweringError, NothingConvertedError
from beforehand.freeze.freeze_signature import find_checkpoint_keys, freeze_signature
from beforehand.freeze.hash_graph import hash_graph
from beforehand.lower.lower_segment import lower_segment
from beforehand.lower.translate import list_supported_ops
from beforehand.options import Options
from beforehand.records import (
    Engine,
    EngineSpec,
    FlatGraph,
    LeftOut,
    LoweredSegment,
    Partition,
    Segment,
    SegmentRecord,
    ShapeSet,
    Signature,
    TensorSpec,
)
from beforehand.runtime.tensorflow_private import find_op_def
from beforehand.saved_model.open_weights import ReadWeight, open_weights
from beforehand.saved_model.read_callables import SourceCallable, read_callables
from beforehand.saved_model.read_saved_model import read_saved_model
from beforehand.segment import reasons
from beforehand.segment.describe_tensors import describe_tensors
from beforehand.segment.find_candidates import Support, find_left_out
from beforehand.segment.find_refused import find_refused
from beforehand.segment.segment_graph import segment_graph

_log = logging.getLogger("beforehand")
DEFAULT_SIGNATURE = "serving_default"
_MAX_REFUSALS = 50


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
    """

    signatures: tuple[Signature, ...]
    partitions: tuple[Partition, ...]
    lowered: tuple[LoweredSegment, ...]
    graph_of: tuple[int, ...]
    first_segments: tuple[int, ...]
    callables: tuple[SourceCallable, ...]
    not_kept: tuple[str, ...]
    read_weight: ReadWeight

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
    source = read_saved_model(folder, tags, keys)
    callables, not_kept = read_callables(source)
    checkpoint_keys = find_checkpoint_keys(source.meta_graph, find_op_def)
    read_weight = open_weights(source)
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
        identity = hash_graph(graph)
        if identity not in graphs:
            graphs[identity] = len(partitions)
            first_segments.append(len(lowered))
            partition, segments = _divide_graph(graph, len(partitions), options, backend, read_weight, work)
            partitions.append(partition)
            lowered.extend(segments)
        graph_of.append(graphs[identity])
    if not lowered:
        _refuse_nothing(folder, partitions, options)
    signatures = tuple(item.signature for item in ordered)
    return Conversion(
        signatures, tuple(partitions), tuple(lowered), tuple(graph_of), tuple(first_segments), callables, not_kept,
        read_weight,
    )  # fmt: skip


def _divide_graph(
    graph: FlatGraph, number: int, options: Options, backend: Backend, read: ReadWeight, work: pathlib.Path
) -> tuple[Partition, list[LoweredSegment]]:
    """Segment and lower a graph; nodes that the lowering refuses when tried stay native, and it is tried again."""
    tensors = describe_tensors(graph)
    support = Support(
        ops=list_supported_ops(),
        dtypes=backend.dtypes,
        denied_ops=frozenset(options.ops_denylist) | environment.read_denied_ops(),
        denied_nodes=frozenset(options.nodes_denylist),
    )
    lower = functools.partial(_lower_checked, graph, tensors, read, backend, work)
    try_nodes = functools.partial(_try_nodes, graph, tensors, lower)
    refused: dict[str, str] = {}
    for _ in range(_MAX_REFUSALS):
        left_out = find_left_out(graph, tensors, support, find_op_def)
        partition = segment_graph(
            graph,
            tensors,
            left_out,
            number=number,
            minimum_size=options.minimum_segment_size,
            max_segments=options.max_engines,
        )
        lowered: list[LoweredSegment] = []
        refused = {}
        for segment in partition.segments:
            result = lower(segment)
            if isinstance(result, LoweredSegment):
                lowered.append(result)
            else:
                refused.update(find_refused(segment.nodes, result, try_nodes))
        if not refused:
            return partition, lowered
        for name, reason in refused.items():
            _log.debug("%s stays native: %s", name, reason)
        support = dataclasses.replace(support, refused=(*support.refused, *refused.items()))
    raise LoweringError(
        f"{_MAX_REFUSALS} attempts to lower {graph.signature.key} found new nodes to refuse each time",
        nodes=tuple(refused),
        why="; ".join(f"{name}: {reason}" for name, reason in refused.items())[:500],
        advice="ops_denylist or nodes_denylist, with what these nodes have in common",
    )


def _lower_checked(
    graph: FlatGraph,
    tensors: Mapping[str, TensorSpec],
    read: ReadWeight,
    backend: Backend,
    work: pathlib.Path,
    segment: Segment,
) -> LoweredSegment | Refusal:
    """A segment as ONNX that the backend takes; or why there is none."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{segment.name}.", dir=work))
    try:
        lowered = lower_segment(graph, segment, tensors, read, folder)
    except LoweringError as error:
        shutil.rmtree(folder)
        return Refusal(str(error), error.nodes)
    refusal = backend.check_model(lowered.onnx_file)
    if refusal:
        shutil.rmtree(folder)
    return refusal or lowered


def _try_nodes(
    graph: FlatGraph,
    tensors: Mapping[str, TensorSpec],
    lower: Callable[[Segment], LoweredSegment | Refusal],
    nodes: Sequence[str],
) -> Refusal | None:
    """Lower these nodes alone, as one segment or several; nothing is kept."""
    tried = set(nodes)
    others = {
        node.name: LeftOut(node.name, node.op, reasons.EXCLUDED)
        for node in graph.graph_def.node
        if node.name not in tried
    }
    for segment in segment_graph(graph, tensors, others, number=0, minimum_size=1, max_segments=0).segments:
        result = lower(segment)
        if isinstance(result, Refusal):
            return result
        shutil.rmtree(pathlib.Path(result.onnx_file).parent)
    return None


def _refuse_nothing(folder: pathlib.Path, partitions: Iterable[Partition], options: Options) -> None:
    reasons = Counter(node.reason for partition in partitions for node in partition.left_out)
    counted = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
    raise NothingConvertedError(
        f"no part of {folder} can run in an engine of {options.backend}",
        why=f"nodes left out by reason: {counted or 'the graph has no nodes'}",
        advice="a smaller minimum_segment_size, if that is the reason above; else use the model as it is",
    )


def plan_build(
    conversion: Conversion, shapes: Iterable[tuple[int, ShapeSet]], options: Options, backend: Backend
) -> tuple[EngineSpec, ...]:
    """What there is to build for these shapes of these segments (by their index in the manifest)."""
    return plan_engines(dict(enumerate(conversion.lowered)), shapes, backend, options)


def build_planned(
    specs: Sequence[EngineSpec], folder: pathlib.Path, options: Options
) -> tuple[list[Engine], list[BuildError]]:
    """Build each engine; a failure does not stop the others."""
    engines, failures = [], []
    for number, spec in enumerate(specs, 1):
        what = f"engine {number} of {len(specs)}: {spec.segment} for {spec.shapes.describe()}, {spec.backend}"
        _log.info("building %s", what)

        def tell(seconds: float, what: str = what) -> None:
            _log.info("still building %s, %.0f s", what, seconds)

        try:
            engine = build_engine(spec, folder, timeout_s=options.timeout_s, on_heartbeat=tell)
        except BuildError as error:
            _log.error("%s", error)
            failures.append(error)
        else:
            _log.info("built %s: %.1f MB in %.1f s", what, engine.bytes / 1e6, engine.build_seconds)
            engines.append(engine)
    return engines, failures


def describe_segments(conversion: Conversion) -> tuple[SegmentRecord, ...]:
    """What the manifest keeps of each segment."""
    records = []
    for lowered in conversion.lowered:
        segment = lowered.segment
        partition, _ = conversion.find_partition(segment.signature)
        nodes = {node.name: node.op for node in partition.graph.graph_def.node}
        weights = {weight.node for weight in partition.graph.weights}
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
