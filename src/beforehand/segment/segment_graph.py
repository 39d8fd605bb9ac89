"""A flat graph to convex segments.

Method: every node gets a level, which rises by one wherever an edge passes between nodes that can enter an engine and
nodes that cannot. A path between two nodes of one level never leaves that level, so each connected part of a level is
convex: no search for cycles is needed, and the result depends on nothing but the graph. A loop or branch of TensorFlow 1
has one level as a whole (see find_regions.py).
"""

from __future__ import annotations

import dataclasses
import graphlib
import itertools
from collections.abc import Iterable, Mapping

from beforehand.records import FlatGraph, LeftOut, Opened, Partition, Segment, TensorSpec
from beforehand.segment import reasons
from beforehand.segment.count_flops import count_flops
from beforehand.segment.find_data_dependent import find_data_dependent
from beforehand.segment.find_regions import find_regions
from beforehand.store.layout import name_segment

# TF-TRT's rule: these are not counted in a segment's size, constants are.
_UNCOUNTED = frozenset({"Identity", "Snapshot", "StopGradient"})


@dataclasses.dataclass(frozen=True)
class SegmentLimits:
    """Which segments are worth an engine.

    Attributes:
        minimum_size: Smaller ones stay native; -1: all do.
        max_segments: Keep that many, the largest; 0: all.
        minimum_flops: Those of fewer operations a call (unknown dimensions counted as 1) stay native.
    """

    minimum_size: int
    max_segments: int
    minimum_flops: int


def segment_graph(
    graph: FlatGraph,
    tensors: Mapping[str, TensorSpec],
    left_out: Mapping[str, LeftOut],
    limits: SegmentLimits,
    opened: Mapping[str, Opened],
    flops: Mapping[str, int] | None = None,
) -> Partition:
    """Divide a flat graph.

    Args:
        graph: The graph.
        tensors: Its tensors (see `describe_tensors`).
        left_out: Nodes that cannot enter an engine (see `find_left_out`).
        limits: Which segments are kept.
        opened: Of these nodes, those with segments in their bodies.
        flops: Operations of each node (see `count_graph_flops`); None: counted here, without bodies.

    Returns:
        The partition; its segments are numbered from 0 and named for graph 0 (see `renumber_segments`).
    """
    view = _View(graph, set(left_out), set(opened))
    parts = view.find_parts()
    if flops is None:
        flops = {node.name: count_flops(node, tensors) for node in graph.graph_def.node}
    kept, dropped = _choose_parts(view, parts, limits, flops)
    total = sum(flops[name] for name in view.order) or 1
    free = find_data_dependent(graph, tensors)
    described = (
        _describe_segment(view, part, tensors, name_segment(0, index), index, sum(flops[n] for n in part) / total)
        for index, part in enumerate(kept)
    )
    segments = tuple(
        dataclasses.replace(segment, free_inputs=tuple(tensor in free for tensor in segment.input_tensors))
        for segment in described
    )
    inside = {name for segment in segments for name in segment.nodes}
    native = [name for name in view.order if name not in inside and name not in opened]
    levels = sorted({view.levels[name] for name in native})
    return Partition(
        graph,
        segments,
        tuple((level, tuple(name for name in native if view.levels[name] == level)) for level in levels),
        tuple(
            left_out.get(name) or LeftOut(name, view.nodes[name].op, dropped[name])
            for name in view.order
            if name not in inside and view.nodes[name].op != "NoOp"
        ),
        tuple(dataclasses.replace(opened[name], level=view.levels[name]) for name in view.order if name in opened),
        total,
    )


def renumber_segments(partition: Partition, graph_number: int) -> Partition:
    """The partition with all its segments, those in bodies too, numbered and named in the order of `Partition.walk`.

    Shares of a segment in a body become shares of the whole, by one iteration.
    """
    counter = itertools.count()

    def renumber(part: Partition) -> Partition:
        segments = []
        for segment in part.segments:
            index = next(counter)
            share = segment.flops_share * part.flops / partition.flops
            name = name_segment(graph_number, index)
            segments.append(dataclasses.replace(segment, index=index, name=name, flops_share=share))
        opened = tuple(
            dataclasses.replace(item, bodies=tuple(renumber(body) for body in item.bodies)) for item in part.opened
        )
        return dataclasses.replace(part, segments=tuple(segments), opened=opened)

    return renumber(partition)


class _View:
    """A flat graph with what the algorithm needs at hand."""

    def __init__(self, graph: FlatGraph, native: set[str], opened: set[str]) -> None:
        self.graph = graph
        self.native = native
        self._opened = opened
        self.nodes = {node.name: node for node in graph.graph_def.node}
        inputs = {tensor.partition(":")[0] for tensor in graph.input_tensors}
        self.constants = {
            name for name, node in self.nodes.items() if node.op in ("Const", "Placeholder") and name not in inputs
        }
        self.order = [n.name for n in graph.graph_def.node if n.name not in self.constants and n.name not in inputs]
        self._known = set(self.order)
        self._places = {name: place for place, name in enumerate(self.order)}
        self._regions = find_regions(self.nodes)
        self.consumers: dict[str, list[str]] = {name: [] for name in self.order}
        for name in self.order:
            for before in self._list_before(name):
                self.consumers[before].append(name)
        self.levels = self._find_levels()

    def _list_before(self, name: str) -> list[str]:
        names = (tensor.lstrip("^").partition(":")[0] for tensor in self.nodes[name].input)
        return [before for before in names if before in self._known]

    def _list_units(self) -> list[list[str]]:
        """Nodes in topological order; those of one region of TensorFlow 1's control flow come together."""
        if not self._regions:
            return [[name] for name in self.order]
        members: dict[str, list[str]] = {}
        for name in self.order:
            members.setdefault(self._regions.get(name, name), []).append(name)
        unit_of = {name: unit for unit, names in members.items() for name in names}
        sorter = graphlib.TopologicalSorter(
            {
                unit: dict.fromkeys(unit_of[b] for name in names for b in self._list_before(name) if unit_of[b] != unit)
                for unit, names in members.items()
            }
        )
        return [members[unit] for unit in sorter.static_order()]

    def _find_levels(self) -> dict[str, int]:
        """One more wherever an edge passes between nodes for engines, native nodes, and native nodes with engines inside."""
        levels: dict[str, int] = {}
        fixed: set[str] = set()  # nodes that depend on an input of the graph or on a native node
        for unit in self._list_units():
            native = unit[0] in self.native
            level = 0 if native else 1
            for other in (b for name in unit for b in self._list_before(name) if b in levels):
                level = max(level, levels[other] + (self._find_kind(unit[0]) != self._find_kind(other)))
            levels.update(dict.fromkeys(unit, level))
            data = [tensor for name in unit for tensor in self.nodes[name].input if not tensor.startswith("^")]
            if native or any(t.partition(":")[0] in fixed or not self._is_inner(t) for t in data):
                fixed.update(unit)
        # What is computed from constants alone goes where it is used, or it would be a segment without an input.
        for name in reversed(self.order):
            users = self.consumers[name]
            if name not in fixed and users and not any(user in self.native for user in users):
                levels[name] = min(levels[user] for user in users)
        return levels

    def _find_kind(self, name: str) -> int:
        return (name in self.native) + (name in self._opened)

    def _is_inner(self, tensor: str) -> bool:
        name = tensor.partition(":")[0]
        return name in self._known or name in self.constants

    def find_parts(self) -> list[list[str]]:
        """Connected parts of each odd level, in order of level, then of first node."""
        parent = {name: name for name in self.order}

        def find(name: str) -> str:
            while parent[name] != name:
                parent[name] = parent[parent[name]]
                name = parent[name]
            return name

        for name in self.order:
            for before in self._list_before(name):
                if self._is_one_part(name, before):
                    parent[find(name)] = find(before)
        parts: dict[str, list[str]] = {}
        for name in self.order:
            if name not in self.native:
                parts.setdefault(find(name), []).append(name)
        return sorted(parts.values(), key=lambda part: self.levels[part[0]])

    def _is_one_part(self, name: str, before: str) -> bool:
        both = name not in self.native and before not in self.native
        return both and self.levels[name] == self.levels[before]

    def list_constants(self, part: Iterable[str]) -> list[str]:
        """The constants that a part reads, each once."""
        tensors = (tensor for name in part for tensor in self.nodes[name].input)
        return list(dict.fromkeys(n for n in (t.partition(":")[0] for t in tensors) if n in self.constants))

    def list_inputs(self, part: Iterable[str]) -> list[str]:
        """The tensors that a part reads from outside, each once."""
        inside = set(part)
        tensors = (tensor for name in part for tensor in self.nodes[name].input if not tensor.startswith("^"))
        full = (tensor if ":" in tensor else f"{tensor}:0" for tensor in tensors)
        outside = (t for t in full if t.partition(":")[0] not in inside and t.partition(":")[0] not in self.constants)
        return list(dict.fromkeys(outside))

    def list_outputs(self, part: Iterable[str]) -> list[str]:
        """The tensors of a part that others read, each once."""
        inside = set(part)
        found: dict[str, None] = {}
        # By way of the consumers: all nodes for each of hundreds of parts were minutes, of 18,000 nodes.
        readers = {reader for name in inside for reader in self.consumers[name]} - inside
        for name in sorted(readers, key=self._places.__getitem__):
            for tensor in self.nodes[name].input:
                if tensor.partition(":")[0] in inside:
                    found[tensor if ":" in tensor else f"{tensor}:0"] = None
        for tensor in self.graph.output_tensors:
            if tensor.partition(":")[0] in inside:
                found[tensor] = None
        return list(found)

    def measure(self, part: Iterable[str]) -> int:
        """Size by TF-TRT's rule."""
        part = list(part)
        return sum(self.nodes[name].op not in _UNCOUNTED for name in part) + len(self.list_constants(part))


def _choose_parts(
    view: _View, parts: list[list[str]], limits: SegmentLimits, flops: Mapping[str, int]
) -> tuple[list[list[str]], dict[str, str]]:
    """The parts that become segments; of the other nodes, the reason."""
    dropped: dict[str, str] = {}
    good = []
    for part in parts:
        size = view.measure(part)
        if limits.minimum_size < 0 or size < limits.minimum_size or not size:
            dropped.update(dict.fromkeys(part, reasons.TOO_SMALL))
        elif not view.list_inputs(part):
            dropped.update(dict.fromkeys(part, reasons.NO_INPUT))
        elif not view.list_outputs(part):
            dropped.update(dict.fromkeys(part, reasons.TOO_SMALL))
        elif sum(flops[name] for name in part) < limits.minimum_flops:
            dropped.update(dict.fromkeys(part, reasons.TOO_LITTLE))
        else:
            good.append((size, part))
    if limits.max_segments > 0:
        largest = sorted(good, key=lambda item: -item[0])[: limits.max_segments]
        for item in good:
            if item not in largest:
                dropped.update(dict.fromkeys(item[1], reasons.TOO_MANY))
        good = [item for item in good if item in largest]
    return [part for _, part in good], dropped


def _describe_segment(
    view: _View, part: list[str], tensors: Mapping[str, TensorSpec], name: str, index: int, flops_share: float
) -> Segment:
    inputs, outputs = view.list_inputs(part), view.list_outputs(part)
    shown = dict(zip(view.graph.input_tensors, (spec.name for spec in view.graph.signature.inputs), strict=True))
    specs = {spec.name: spec for spec in view.graph.signature.inputs}

    def describe(tensor: str) -> TensorSpec:
        spec = tensors[tensor]
        if tensor in shown:
            return dataclasses.replace(spec, name=shown[tensor], shape=specs[shown[tensor]].shape)
        return dataclasses.replace(spec, name=tensor.removesuffix(":0"))

    return Segment(
        name,
        index,
        view.graph.signature.key,
        tuple(part),
        tuple(view.list_constants(part)),
        tuple(describe(tensor) for tensor in inputs),
        tuple(describe(tensor) for tensor in outputs),
        tuple(inputs),
        tuple(outputs),
        view.levels[part[0]],
        flops_share,
    )
