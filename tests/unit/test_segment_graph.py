"""Segments of random graphs: convex, disjoint, complete, the same each time; and the rules of size and number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

import tensorflow as tf

from beforehand.records import FlatGraph, LeftOut, Opened, Partition, Signature, TensorSpec
from beforehand.segment import reasons
from beforehand.segment.count_flops import count_flops
from beforehand.segment.segment_graph import SegmentLimits, renumber_segments, segment_graph

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


def divide(
    parents: list[tuple[int, int]],
    native: set[int],
    *,
    minimum: int = 1,
    most: int = 0,
    least: int = 0,
    flops: Mapping[str, int] | None = None,
    opened: Mapping[str, Opened] | None = None,
) -> Partition:
    graph = make_graph(parents)
    tensors: Mapping[str, TensorSpec] = {
        f"{name}:0": TensorSpec(f"{name}:0", "float32", (None, 4))
        for name in ["x", *(f"n{i}" for i in range(len(parents)))]
    }
    left_out = {f"n{i}": LeftOut(f"n{i}", "AddV2", reasons.OP_UNSUPPORTED) for i in native}
    return segment_graph(graph, tensors, left_out, SegmentLimits(minimum, most, least), opened or {}, flops)


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


# Two segments, n0 with n1, and n3 with n4 and n5, around the native n2.
AROUND: Edges = [(-1, -1), (0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]


def count_around(first: int, second: int) -> dict[str, int]:
    return {"x": 0, "n0": first - 1, "n1": 1, "n2": 50, "n3": second - 2, "n4": 1, "n5": 1}


@pytest.mark.parametrize(
    ("least", "kept"),
    [(0, ["n0", "n3"]), (30, ["n0", "n3"]), (31, ["n3"]), (40, ["n3"]), (41, [])],
)
def test_segments_of_fewer_operations_than_the_least_stay_native(least: int, kept: list[str]) -> None:
    partition = divide(AROUND, {2}, least=least, flops=count_around(30, 40))
    assert [segment.nodes[0] for segment in partition.segments] == kept
    dropped = {node.name for node in partition.left_out if node.reason == reasons.TOO_LITTLE}
    expected = {"n0": {"n0", "n1"}, "n3": {"n3", "n4", "n5"}}
    assert dropped == set().union(*(names for first, names in expected.items() if first not in kept))
    assert dropped <= {name for _, names in partition.native_levels for name in names}


def test_a_segment_that_is_too_small_is_not_said_to_have_too_little_arithmetic() -> None:
    partition = divide(AROUND, {2}, minimum=3, least=1000, flops=count_around(30, 40))
    found = {node.name: node.reason for node in partition.left_out}
    assert (found["n0"], found["n3"]) == (reasons.TOO_SMALL, reasons.TOO_LITTLE)


def test_segments_of_too_little_arithmetic_take_no_place_of_the_most_that_are_kept() -> None:
    """n3's is the larger one by its nodes."""
    partition = divide(AROUND, {2}, most=1, least=30, flops=count_around(30, 20))
    assert [segment.nodes[0] for segment in partition.segments] == ["n0"]
    assert {node.reason for node in partition.left_out} == {reasons.OP_UNSUPPORTED, reasons.TOO_LITTLE}


@pytest.mark.parametrize(("least", "kept"), [(8, 2), (9, 1), (12, 1), (13, 0)])
def test_operations_are_counted_here_unless_given_with_unknown_sizes_as_one(least: int, kept: int) -> None:
    """An addition of (?, 4) is four operations: eight in the first segment, twelve in the second."""
    assert len(divide(AROUND, {2}, least=least).segments) == kept


def test_shares_are_parts_of_all_operations_native_ones_too() -> None:
    partition = divide(AROUND, {2}, flops=count_around(30, 20))
    assert partition.flops == 100
    assert [segment.flops_share for segment in partition.segments] == [0.3, 0.2]
    nothing = divide(AROUND, {2}, flops=dict.fromkeys(count_around(2, 2), 0))
    assert (nothing.flops, [segment.flops_share for segment in nothing.segments]) == (1, [0.0, 0.0])


def open_node(name: str, *bodies: Partition) -> dict[str, Opened]:
    return {name: Opened(name, 0, bodies, (), ())}


def test_an_opened_node_has_its_reason_and_level_and_is_none_of_the_native_nodes() -> None:
    # n1 and n2 are native, and n2 has segments in its bodies
    partition = divide([(-1, -1), (0, 0), (1, 1), (2, 2)], {1, 2}, opened=open_node("n2", divide([(-1, -1)], set())))
    [opened] = partition.opened
    levels = {name: level for level, names in partition.native_levels for name in names}
    assert levels.keys() == {"n1"}
    before, behind = (segment.level for segment in partition.segments)
    assert before < levels["n1"] < opened.level < behind
    assert {node.name for node in partition.left_out} == {"n1", "n2"}


def test_segments_are_numbered_and_named_through_all_bodies_in_the_order_of_walk() -> None:
    innermost = divide(AROUND, {2})
    inner = divide([*AROUND, (5, 5)], {2, 6}, opened=open_node("n6", innermost))
    outer = divide(AROUND, {2}, opened=open_node("n2", inner, divide([(-1, -1)], set())))
    found = renumber_segments(outer, 7)
    segments = [segment for part in found.walk() for segment in part.segments]
    assert [segment.index for segment in segments] == list(range(7))
    assert [segment.name for segment in segments] == [f"TRTEngineOp_007_{index:03d}" for index in range(7)]
    before = [segment for part in outer.walk() for segment in part.segments]
    assert [segment.nodes for segment in segments] == [segment.nodes for segment in before]
    assert [segment.index for segment in before] == [0, 1, 0, 1, 0, 1, 0], "the argument has been changed"


def test_shares_in_bodies_become_shares_of_the_whole() -> None:
    inner = divide(AROUND, {2}, flops=count_around(30, 20))
    flops = {**count_around(100, 200), "n2": inner.flops}
    found = renumber_segments(divide(AROUND, {2}, opened=open_node("n2", inner), flops=flops), 0)
    shares = [segment.flops_share for part in found.walk() for segment in part.segments]
    assert shares == pytest.approx([100 / 400, 200 / 400, 30 / 400, 20 / 400])


def test_renumbering_changes_nothing_but_numbers_names_and_shares() -> None:
    outer = divide(AROUND, {2}, opened=open_node("n2", divide(AROUND, {2})))
    found = renumber_segments(outer, 3)
    for part, before in zip(found.walk(), outer.walk(), strict=True):
        assert [
            dataclasses.replace(segment, name=old.name, index=old.index, flops_share=old.flops_share)
            for segment, old in zip(part.segments, before.segments, strict=True)
        ] == list(before.segments)
        assert dataclasses.replace(part, segments=(), opened=()) == dataclasses.replace(before, segments=(), opened=())


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
