"""A partition to what is said of it: segments, native nodes, layers."""

from __future__ import annotations

from collections.abc import Sequence

from beforehand.backends.protocol import Backend
from beforehand.explanation.explanation import ExplainedGraph, ExplainedSegment, Layer, NativeNode
from beforehand.explanation.find_changes import find_changes
from beforehand.explanation.view_parts import PartView, view_parts
from beforehand.options import Options
from beforehand.records import Partition


def explain_partition(
    partition: Partition, signatures: Sequence[str], options: Options, backend: Backend
) -> ExplainedGraph:
    """What `signatures`, which all have this graph, would run in engines of `backend`."""
    top = view_parts(partition)
    views = list(top.walk())
    native = tuple(
        NativeNode(node.name, node.op, node.reason, node.detail, view.layers[node.name], flops, view.inside)
        for view in views
        for node, flops in view.list_native()
    )
    inside = sum(len(view.list_nodes(segment)) for view in views for segment in view.part.segments)
    return ExplainedGraph(
        signatures=tuple(signatures),
        nodes=inside + len(native),
        flops=partition.flops,
        segments=tuple(segment for view in views for segment in _explain_segments(view)),
        native=native,
        layers=_group_layers(views),
        changes=find_changes(top, options, backend),
    )


def _explain_segments(view: PartView) -> list[ExplainedSegment]:
    return [
        ExplainedSegment(
            segment.name, len(view.list_nodes(segment)), view.sum_flops(segment), segment.flops_share, segment.inputs, segment.outputs,
            tuple(dict.fromkeys(view.layers[name] for name in view.list_nodes(segment))), view.inside,
        )
        for segment in view.part.segments
    ]  # fmt: skip


def _group_layers(views: Sequence[PartView]) -> tuple[Layer, ...]:
    """By layer: nodes and native nodes, operations and native operations."""
    counts: dict[str, list[int]] = {}
    for view in views:
        native = {node.name: flops for node, flops in view.list_native()}
        inside = {name for segment in view.part.segments for name in view.list_nodes(segment)}
        for node in view.part.graph.graph_def.node:
            if node.name not in native and node.name not in inside:
                continue
            row = counts.setdefault(view.layers[node.name], [0, 0, 0, 0])
            flops = native.get(node.name, view.flops[node.name])
            row[0] += 1
            row[2] += flops
            if node.name in native:
                row[1] += 1
                row[3] += flops
    return tuple(Layer(name, *row) for name, row in counts.items())
