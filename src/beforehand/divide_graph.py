"""A flat graph to segments as ONNX that the backend takes; what is refused on the way stays native, and it is tried again.

The bodies of loops and branches that stay native are divided too, each like a graph of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import pathlib
import shutil
import tempfile
from collections.abc import Sequence

from beforehand import environment
from beforehand.backends.protocol import Backend, Refusal
from beforehand.errors import LoweringError
from beforehand.lower.lower_segment import lower_segment
from beforehand.lower.translate import list_supported_ops
from beforehand.options import Options
from beforehand.records import FlatGraph, LeftOut, LoweredSegment, Opened, Partition, Segment, TensorSpec
from beforehand.runtime.tensorflow_private import find_op_def
from beforehand.saved_model.open_weights import ReadWeight
from beforehand.segment import reasons
from beforehand.segment.count_graph_flops import count_graph_flops
from beforehand.segment.describe_tensors import describe_tensors
from beforehand.segment.find_candidates import Support, find_crossing_lists, find_left_out
from beforehand.segment.find_refused import find_refused
from beforehand.segment.open_bodies import OpenBodies, open_bodies
from beforehand.segment.segment_graph import SegmentLimits, renumber_segments, segment_graph

_log = logging.getLogger("beforehand")
_MAX_REFUSALS = 50
# An engine call costs 0.1 to 0.2 ms, in which TensorFlow does some million operations; a body may run a thousand times.
_BODY_FLOPS = 2_000_000
_LEAST_FLOPS = 1  # what only moves data, or computes shapes, is no faster in an engine


def divide_graph(
    graph: FlatGraph, number: int, options: Options, backend: Backend, read: ReadWeight, work: pathlib.Path
) -> tuple[Partition, list[LoweredSegment]]:
    """Segment and lower a graph.

    Args:
        graph: The graph.
        number: Its number, for the segments' names.
        options: The conversion's options.
        backend: Who must take the segments.
        read: Gives the value of a weight.
        work: Where the ONNX files go, each segment in a folder of its own.

    Returns:
        The partition, and its segments (see `list_segments`) as ONNX.

    Raises:
        LoweringError: BH302, new nodes were refused again and again.
    """
    return _Divider(number, options, backend, read, work).divide(graph)


def find_support(options: Options, backend: Backend) -> Support:
    """What can enter an engine before anything is tried."""
    return Support(
        ops=list_supported_ops(),
        dtypes=backend.dtypes,
        denied_ops=frozenset(options.ops_denylist) | environment.read_denied_ops(),
        denied_nodes=frozenset(options.nodes_denylist),
    )


def find_limits(options: Options, *, is_body: bool) -> SegmentLimits:
    """Which segments are worth an engine, in the graph of a signature or in the body of a loop or branch."""
    return SegmentLimits(options.minimum_segment_size, options.max_engines, _BODY_FLOPS if is_body else _LEAST_FLOPS)


class _Divider:
    def __init__(self, number: int, options: Options, backend: Backend, read: ReadWeight, work: pathlib.Path) -> None:
        self._number = number
        self._options = options
        self._backend = backend
        self._read = read
        self._work = work
        self._tensors: dict[int, dict[str, TensorSpec]] = {}
        self._flops: dict[int, dict[str, int]] = {}
        self._opened: dict[tuple[int, str], OpenBodies | None] = {}
        # By graph: two ways of a branch may have nodes of one name.
        self._refused: dict[int, dict[str, str]] = {}

    def divide(self, graph: FlatGraph) -> tuple[Partition, list[LoweredSegment]]:
        support = find_support(self._options, self._backend)
        refused: dict[str, str] = {}
        for _ in range(_MAX_REFUSALS):
            partition = renumber_segments(self._segment(graph, support, is_body=False), self._number)
            lowered, refused = self._lower_all(partition)
            for item in lowered:
                told = item.segment
                _log.debug(
                    "%s: %d nodes as ONNX, %d bytes, %.2f%% of the arithmetic",
                    told.name,
                    told.size,
                    item.bytes,
                    100 * told.flops_share,
                )
            if not refused:
                return partition, lowered
            for name, reason in refused.items():
                _log.debug("%s stays native: %s", name, reason)
            for item in lowered:
                shutil.rmtree(pathlib.Path(item.onnx_file).parent)
        raise LoweringError(
            f"{_MAX_REFUSALS} attempts to lower {graph.signature.key} found new nodes to refuse each time",
            nodes=tuple(refused),
            why="; ".join(f"{name}: {reason}" for name, reason in refused.items())[:500],
            advice="ops_denylist or nodes_denylist, with what these nodes have in common",
        )

    def _segment(self, graph: FlatGraph, support: Support, *, is_body: bool) -> Partition:
        tensors = self._describe(graph)
        refused = tuple(self._refused.get(id(graph), {}).items())
        left_out = find_left_out(graph, tensors, dataclasses.replace(support, refused=refused), find_op_def)
        limits = find_limits(self._options, is_body=is_body)
        while True:
            opened = self._open(graph, left_out, support)
            partition = segment_graph(graph, tensors, left_out, limits, opened, self._flops[id(graph)])
            crossing = find_crossing_lists(partition)
            if not crossing:
                return partition
            left_out.update(crossing)

    def _open(self, graph: FlatGraph, left_out: dict[str, LeftOut], support: Support) -> dict[str, Opened]:
        """The native loops and branches that have segments in their bodies."""
        found = {}
        for name, node in left_out.items():
            if node.reason == reasons.EXCLUDED:
                continue
            key = id(graph), name
            if key not in self._opened:
                self._opened[key] = open_bodies(graph, name, find_op_def)
            bodies = self._opened[key]
            if bodies is None:
                continue
            partitions = tuple(self._segment(body, support, is_body=True) for body in bodies.graphs)
            if any(partition.segments or partition.opened for partition in partitions):
                found[name] = Opened(name, 0, partitions, bodies.carried, bodies.captured)
        return found

    def _describe(self, graph: FlatGraph) -> dict[str, TensorSpec]:
        if id(graph) not in self._tensors:
            self._tensors[id(graph)] = describe_tensors(graph)
            self._flops[id(graph)] = count_graph_flops(graph.graph_def, self._tensors[id(graph)], find_op_def)
        return self._tensors[id(graph)]

    def _lower_all(self, partition: Partition) -> tuple[list[LoweredSegment], dict[str, str]]:
        """Every segment as ONNX, and the nodes for which that failed, which are kept in mind."""
        lowered: list[LoweredSegment] = []
        refused: dict[str, str] = {}
        for part in partition.walk():
            for segment in part.segments:
                result = self._lower(part.graph, segment)
                if isinstance(result, LoweredSegment):
                    lowered.append(result)
                else:
                    try_nodes = functools.partial(self._try, part.graph)
                    found = find_refused(segment.nodes, result, try_nodes)
                    self._refused.setdefault(id(part.graph), {}).update(found)
                    refused.update(found)
        return lowered, refused

    def _lower(self, graph: FlatGraph, segment: Segment) -> LoweredSegment | Refusal:
        """A segment as ONNX that the backend takes; or why there is none."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{segment.name}.", dir=self._work))
        try:
            lowered = lower_segment(graph, segment, self._describe(graph), self._read, folder, find_op_def)
        except LoweringError as error:
            shutil.rmtree(folder)
            return Refusal(str(error), error.nodes)
        refusal = self._backend.check_model(lowered.onnx_file)
        if refusal:
            shutil.rmtree(folder)
        return refusal or lowered

    def _try(self, graph: FlatGraph, nodes: Sequence[str]) -> Refusal | None:
        """Lower these nodes alone, as one segment or several; nothing is kept."""
        tried = set(nodes)
        others = {
            node.name: LeftOut(node.name, node.op, reasons.EXCLUDED)
            for node in graph.graph_def.node
            if node.name not in tried
        }
        for segment in segment_graph(graph, self._describe(graph), others, SegmentLimits(1, 0, 0), {}).segments:
            result = self._lower(graph, segment)
            if isinstance(result, Refusal):
                return result
            shutil.rmtree(pathlib.Path(result.onnx_file).parent)
        return None
