"""Segments of random graphs that also have constants, parts computed from constants alone, and control edges."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

import tensorflow as tf

from beforehand.records import FlatGraph, LeftOut, Partition, Signature, TensorSpec
from beforehand.segment import reasons
from beforehand.segment.segment_graph import SegmentLimits, segment_graph

SPEC = TensorSpec("x", "float32", (None, 4))


@dataclasses.dataclass(frozen=True)
class Case:
    """Node i adds two sources (-1 the input, -2 a constant, else an earlier node) and waits for `control[i]`."""

    sources: tuple[tuple[int, int], ...]
    control: tuple[frozenset[int], ...]
    native: frozenset[int]
    minimum: int

    def list_parents(self, index: int) -> set[int]:
        return {source for source in self.sources[index] if source >= 0} | self.control[index]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    size = draw(st.integers(1, 12))
    sources = tuple((draw(st.integers(-2, i - 1)), draw(st.integers(-2, i - 1))) for i in range(size))
    native = draw(st.frozensets(st.integers(0, size - 1)))
    # freeze_signature leaves control edges only from nodes that have effects, and these are native.
    control = tuple(
        draw(st.frozensets(st.sampled_from(before), max_size=1)) if (before := sorted(n for n in native if n < i)) else
        frozenset() for i in range(size)
    )  # fmt: skip
    return Case(sources, control, native, draw(st.integers(1, 4)))


def divide(case: Case) -> Partition:
    graph_def = tf.compat.v1.GraphDef()
    for name, op in (("x", "Placeholder"), ("c", "Const")):
        graph_def.node.add(name=name, op=op)
    names = {-1: "x:0", -2: "c:0"}
    for index, pair in enumerate(case.sources):
        data = [names.get(source, f"n{source}:0") for source in pair]
        control = [f"^n{source}" for source in sorted(case.control[index])]
        graph_def.node.add(name=f"n{index}", op="AddV2", input=[*data, *control])
    read = {source for pair in case.sources for source in pair}
    outputs = tuple(f"n{index}:0" for index in range(len(case.sources)) if index not in read)
    signature = Signature("serving_default", (SPEC,), tuple(dataclasses.replace(SPEC, name=o) for o in outputs))
    graph = FlatGraph(signature, graph_def, ("x:0",), outputs, ())
    tensors = {f"{node.name}:0": dataclasses.replace(SPEC, name=f"{node.name}:0") for node in graph_def.node}
    left_out = {f"n{index}": LeftOut(f"n{index}", "AddV2", reasons.OP_UNSUPPORTED) for index in case.native}
    return segment_graph(graph, tensors, left_out, SegmentLimits(case.minimum, 0, 0), {})


def list_segments(partition: Partition) -> list[set[int]]:
    return [{int(name[1:]) for name in segment.nodes} for segment in partition.segments]


@settings(max_examples=300, deadline=None)
@given(cases())
def test_segments_are_convex_disjoint_and_with_the_native_nodes_complete(case: Case) -> None:
    partition = divide(case)
    native = [int(name[1:]) for _, names in partition.native_levels for name in names]
    everything = [*native, *(index for segment in list_segments(partition) for index in segment)]
    assert sorted(everything) == list(range(len(case.sources)))
    assert case.native <= set(native)
    for segment in list_segments(partition):
        # What depends on the segment but lies outside of it must not be read by the segment again.
        tainted: set[int] = set()
        for index in range(len(case.sources)):
            parents = case.list_parents(index)
            if index in segment:
                assert not parents & tainted
            elif parents & (segment | tainted):
                tainted.add(index)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_level_by_level_everything_is_there_when_it_is_read(case: Case) -> None:
    """Native nodes of a level first, then its segments: the order in which the converted function is made."""
    partition = divide(case)
    native = dict(partition.native_levels)
    done: set[int] = set()
    for level in sorted({*native, *(segment.level for segment in partition.segments)}):
        chunk = [int(name[1:]) for name in native.get(level, ())]
        for group in (chunk, *([int(n[1:]) for n in s.nodes] for s in partition.segments if s.level == level)):
            for index in group:
                assert case.list_parents(index) <= done | set(group)
            done.update(group)
    assert done == set(range(len(case.sources)))


@settings(max_examples=100, deadline=None)
@given(cases())
def test_no_segment_is_without_an_input_without_an_output_or_too_small(case: Case) -> None:
    for segment in divide(case).segments:
        assert segment.inputs
        assert segment.outputs
        assert segment.size >= case.minimum


@settings(max_examples=50, deadline=None)
@given(cases())
def test_the_same_graph_gives_the_same_segments(case: Case) -> None:
    first, second = divide(case), divide(case)
    assert (first.segments, first.native_levels, first.left_out) == (
        second.segments, second.native_levels, second.left_out
    )  # fmt: skip


def test_what_is_computed_from_constants_joins_the_segment_that_reads_it() -> None:
    any_case: dict[str, Any] = {"control": (frozenset(),) * 3, "native": frozenset({1}), "minimum": 1}
    partition = divide(Case(sources=((-2, -2), (-1, -1), (0, 1)), **any_case))
    assert list_segments(partition) == [{0, 2}]
