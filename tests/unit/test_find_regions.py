"""Regions of random graphs with TensorFlow 1's branches and loops: closed, complete, and no larger than they must be."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from beforehand.records import FlatGraph, LeftOut, Signature, TensorSpec
from beforehand.segment import reasons
from beforehand.segment.find_regions import find_regions
from beforehand.segment.segment_graph import SegmentLimits, segment_graph


@dataclasses.dataclass
class Builder:
    """A graph in topological order but for back edges; `inside` are the nodes of branches and loops."""

    nodes: dict[str, Any] = dataclasses.field(default_factory=dict)
    inside: set[str] = dataclasses.field(default_factory=set)

    def add(self, op: str, *inputs: str, inner: bool) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes[name] = tf.compat.v1.NodeDef(name=name, op=op, input=[f"{other}:0" for other in inputs])
        if inner:
            self.inside.add(name)
        return name

    def add_branch(self, value: str, draw: st.DrawFn, depth: int, *, inner: bool) -> str:
        chosen = self.add("Less", value, inner=inner)
        switch = self.add("Switch", value, chosen, inner=True)
        sides = [self.add_parts(switch, draw, depth + 1, inner=True) for _ in range(2)]
        return self.add("Merge", *sides, inner=True)

    def add_loop(self, value: str, draw: st.DrawFn, depth: int) -> str:
        merge = self.add("Merge", self.add("Enter", value, inner=True), inner=True)
        condition = self.add("LoopCond", self.add("Less", merge, inner=True), inner=True)
        switch = self.add("Switch", merge, condition, inner=True)
        body = self.add_parts(switch, draw, depth + 1, inner=True)
        self.nodes[merge].input.append(f"{self.add('NextIteration', body, inner=True)}:0")
        return self.add("Exit", switch, inner=True)

    def add_parts(self, value: str, draw: st.DrawFn, depth: int, *, inner: bool) -> str:
        kinds = ["node", "branch", "loop"] if depth < 2 else ["node"]
        for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3)):
            if kind == "node":
                value = self.add("Relu", value, inner=inner)
            elif kind == "branch":
                value = self.add_branch(value, draw, depth, inner=inner)
            else:
                value = self.add_loop(value, draw, depth)
        return value


@st.composite
def graphs(draw: st.DrawFn) -> Builder:
    """Chains that meet: what is between two parts of control flow may be outside of both or on a way back."""
    builder = Builder()
    values = [builder.add("Placeholder", inner=False)]
    for _ in range(draw(st.integers(1, 4))):
        pair = [draw(st.sampled_from(values)), draw(st.sampled_from(values))]
        values.append(builder.add_parts(builder.add("AddV2", *pair, inner=False), draw, 0, inner=False))
    return builder


def list_before(nodes: dict[str, Any]) -> dict[str, set[str]]:
    return {name: {tensor.partition(":")[0] for tensor in node.input} for name, node in nodes.items()}


def find_reached(start: set[str], edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [other for name in start for other in edges[name]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(edges[name])
    return found


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_regions_hold_all_control_flow_are_closed_and_no_larger_than_that(builder: Builder) -> None:
    regions = find_regions(builder.nodes)
    before = list_before(builder.nodes)
    after = {name: {other for other in before if name in before[other]} for name in before}
    assert builder.inside <= set(regions)
    members: dict[str, set[str]] = {}
    for name, region in regions.items():
        members.setdefault(region, set()).add(name)
    for part in members.values():
        between = find_reached(part, after) & find_reached(part, before)
        assert between <= part, "a path leaves the region and comes back"
        assert part & builder.inside
    for name in set(regions) - builder.inside:
        part = members[regions[name]] - {name}
        assert name in find_reached(part, after) & find_reached(part, before), f"{name} is in a region without need"


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_levels_of_a_graph_with_regions_give_an_order(builder: Builder) -> None:
    nodes = builder.nodes
    read = set().union(*list_before(nodes).values())
    outputs = tuple(f"{name}:0" for name in nodes if name not in read)
    tensors = {f"{name}:0": TensorSpec(f"{name}:0", "float32", (None, 4)) for name in nodes}
    graph_def = tf.compat.v1.GraphDef()
    graph_def.node.extend(nodes.values())
    signature = Signature("s", (tensors["n0:0"],), tuple(tensors[output] for output in outputs))
    regions = find_regions(nodes)
    left_out = {name: LeftOut(name, nodes[name].op, reasons.CONTROL_FLOW) for name in regions}
    graph = FlatGraph(signature, graph_def, ("n0:0",), outputs, ())
    partition = segment_graph(graph, tensors, left_out, SegmentLimits(1, 0, 0), {})
    natives = dict(partition.native_levels)
    there = {"n0"}
    for level in sorted({*natives, *(segment.level for segment in partition.segments)}):
        made = set(natives.get(level, ()))
        for segment in partition.segments:
            if segment.level == level:
                assert {tensor.partition(":")[0] for tensor in segment.input_tensors} <= there | made
                assert not set(segment.nodes) & set(regions)
                made |= set(segment.nodes)
        there |= made
        assert all(other in there for name in made for other in list_before(nodes)[name])
    assert there == set(nodes)


def test_a_graph_without_control_flow_has_no_regions() -> None:
    builder = Builder()
    builder.add("Relu", builder.add("Placeholder", inner=False), inner=False)
    assert find_regions(builder.nodes) == {}
