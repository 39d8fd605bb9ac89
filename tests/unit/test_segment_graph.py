"""Segments of random graphs: convex, disjoint, complete, the same each time; and the rules of size and number."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

import tensorflow as tf

from beforehand.records import FlatGraph, LeftOut, Partition, Signature, TensorSpec
from beforehand.segment import reasons
from beforehand.segment.count_flops import count_flops
from beforehand.segment.segment_graph import SegmentLimits, segment_graph

SPEC = TensorSpec("x", "float32", (None, 4))
Edges = list[tuple[int, int]]


def make_graph(parents: list[tuple[int, int]]) -> FlatGraph:
    """Node i adds two earlier tensors; -1 is the input of the graph. The last node and every unread one are outputs."""
    graph_def = tf.compat.v1.GraphDef()
    graph_def.node.add(name="x", op="Placeholder").attr["dtype"].type = tf.float32.as_datatype_enum
    read = {parent for pair in parents for parent in pair}
    for index, pair in enumerate(parents):
        inputs = ["x:0" if parent < 0 else f"n{parent}:0" for parent in pair]
        node = graph_def.node.add(name=f"n{index}", op="AddV2", input=inputs)
        node.attr["T"].type = tf.float32.as_datatype_enum
    outputs = [f"n{index}:0" for index in range(len(parents)) if index not in read]
    signature = Signature("serving_default", (SPEC,), tuple(TensorSpec(o, "float32", (None, 4)) for o in outputs))
    return FlatGraph(signature, graph_def, ("x:0",), tuple(outputs), ())


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[tuple[int, int]], set[int]]:
    size = draw(st.integers(1, 14))
    parents = [(draw(st.integers(-1, i - 1)), draw(st.integers(-1, i - 1))) for i in range(size)]
    return parents, draw(st.sets(st.integers(0, size - 1)))


def divide(parents: list[tuple[int, int]], native: set[int], *, minimum: int = 1, most: int = 0) -> Partition:
    graph = make_graph(parents)
    tensors: Mapping[str, TensorSpec] = {
        f"{name}:0": TensorSpec(f"{name}:0", "float32", (None, 4))
        for name in ["x", *(f"n{i}" for i in range(len(parents)))]
    }
    left_out = {f"n{i}": LeftOut(f"n{i}", "AddV2", reasons.OP_UNSUPPORTED) for i in native}
    return segment_graph(graph, tensors, left_out, SegmentLimits(minimum, most, 0), {})


def find_ancestors(parents: list[tuple[int, int]]) -> list[set[int]]:
    ancestors: list[set[int]] = []
    for pair in parents:
        ancestors.append({p for p in pair if p >= 0}.union(*(ancestors[p] for p in pair if p >= 0)))
    return ancestors


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_segments_are_convex_disjoint_and_complete(case: tuple[list[tuple[int, int]], set[int]]) -> None:
    parents, native = case
    partition = divide(parents, native)
    ancestors = find_ancestors(parents)
    parts = [{int(name[1:]) for name in segment.nodes} for segment in partition.segments]
    for part in parts:
        for outside in set(range(len(parents))) - part:
            reads = bool(ancestors[outside] & part)
            is_read = any(outside in ancestors[node] for node in part)
            assert not (reads and is_read), f"a path leaves {part} by n{outside} and comes back"
    inside = [node for part in parts for node in part]
    natives = [int(name[1:]) for _, names in partition.native_levels for name in names]
    assert sorted(inside + natives) == list(range(len(parents)))
    assert not native & set(inside)
    assert {node.name for node in partition.left_out} == {f"n{i}" for i in natives}


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_levels_give_an_order_in_which_everything_is_there_when_it_is_read(
    case: tuple[list[tuple[int, int]], set[int]],
) -> None:
    parents, native = case
    partition = divide(parents, native)
    there = {-1}
    natives = dict(partition.native_levels)
    for level in sorted({*natives, *(segment.level for segment in partition.segments)}):
        made = {int(name[1:]) for name in natives.get(level, ())}
        for segment in partition.segments:
            if segment.level == level:
                reads = {-1 if t == "x:0" else int(t[1:-2]) for t in segment.input_tensors}
                assert reads <= there | made
                made |= {int(name[1:]) for name in segment.nodes}
        assert all(parent in there | made for node in made for parent in parents[node])
        there |= made


@settings(max_examples=50, deadline=None)
@given(graphs(), st.integers(1, 6), st.integers(0, 3))
def test_size_number_and_names_keep_the_rules(
    case: tuple[list[tuple[int, int]], set[int]], minimum: int, most: int
) -> None:
    parents, native = case
    partition = divide(parents, native, minimum=minimum, most=most)
    assert partition == divide(parents, native, minimum=minimum, most=most)
    assert all(segment.size >= minimum for segment in partition.segments)
    assert not most or len(partition.segments) <= most
    assert [s.name for s in partition.segments] == [f"TRTEngineOp_000_{i:03d}" for i in range(len(partition.segments))]
    assert {node.reason for node in partition.left_out} <= set(reasons.ALL)


def test_a_diamond_around_an_unsupported_node_gives_two_segments() -> None:
    # A -> B -> D and A -> C -> D, without C
    partition = divide([(-1, -1), (0, 0), (0, 0), (1, 2)], {2})
    assert [segment.nodes for segment in partition.segments] == [("n0", "n1"), ("n3",)]
    assert [spec.name for spec in partition.segments[0].inputs] == ["x"]
    assert partition.segments[0].output_tensors == ("n0:0", "n1:0")


def test_minus_one_leaves_everything_native() -> None:
    partition = divide([(-1, -1), (0, 0)], set(), minimum=-1)
    assert partition.segments == ()
    assert {node.reason for node in partition.left_out} == {reasons.TOO_SMALL}


@pytest.mark.parametrize(
    ("op", "shapes", "output", "expected"),
    [
        ("Conv2D", [(1, 8, 8, 3), (3, 3, 3, 16)], (1, 6, 6, 16), 2 * 576 * 27),
        ("DepthwiseConv2dNative", [(1, 8, 8, 3), (3, 3, 3, 1)], (1, 6, 6, 3), 2 * 108 * 9),
        ("MatMul", [(5, 7), (7, 11)], (5, 11), 2 * 5 * 7 * 11),
        ("BatchMatMulV2", [(2, 5, 7), (2, 7, 11)], (2, 5, 11), 2 * 2 * 5 * 7 * 11),
        ("Relu", [(None, 10)], (None, 10), 10),
        ("Reshape", [(None, 10), (2,)], (None, 10), 0),
    ],
)
def test_operations_are_counted_by_the_convention(
    op: str, shapes: list[tuple[int | None, ...]], output: tuple[int | None, ...], expected: int
) -> None:
    node = tf.compat.v1.NodeDef(name="n", op=op, input=[f"i{index}" for index in range(len(shapes))])
    before = node.SerializeToString()
    tensors = {f"i{index}:0": TensorSpec("", "float32", shape) for index, shape in enumerate(shapes)}
    assert count_flops(node, {**tensors, "n:0": TensorSpec("", "float32", output)}) == expected
    assert node.SerializeToString() == before, "counting has changed the node"
