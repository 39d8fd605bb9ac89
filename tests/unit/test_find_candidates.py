"""Lists of tensors that would enter or leave a segment: the nodes that make or read them stay native, until none crosses."""

from __future__ import annotations

import pathlib
from typing import Any

import flat_models
import pytest
import tensorflow as tf

from beforehand.lower.translate import list_supported_ops
from beforehand.records import LeftOut, Partition
from beforehand.runtime.tensorflow_private import find_op_def
from beforehand.segment import reasons
from beforehand.segment.describe_tensors import describe_tensors
from beforehand.segment.find_candidates import Support, find_crossing_lists, find_left_out
from beforehand.segment.segment_graph import SegmentLimits, segment_graph

X = tf.TensorSpec([4, 3], tf.float32, name="x")
DTYPES = frozenset({"float32", "int32", "bool"})


def make_list(x: Any) -> Any:
    return tf.raw_ops.TensorListFromTensor(tensor=x * 2.0, element_shape=[3], name="make")


def read_list(items: Any) -> Any:
    return tf.raw_ops.TensorListStack(input_handle=items, element_shape=[3], element_dtype=tf.float32, name="stack")


def inside(x: Any) -> Any:
    """Made and read among nodes for engines."""
    return tf.tanh(read_list(make_list(x)))


def leaving(x: Any) -> Any:
    """Read by a native node too."""
    items = make_list(x)
    one = tf.raw_ops.TensorListGetItem(
        input_handle=items, index=1, element_shape=[3], element_dtype=tf.float32, name="native_item"
    )
    return tf.tanh(read_list(items)) + one


def entering(x: Any) -> Any:
    """Made by a native node."""
    items = tf.raw_ops.TensorListFromTensor(tensor=x * 2.0, element_shape=[3], name="native_list")
    changed = tf.raw_ops.TensorListSetItem(input_handle=items, index=0, item=x[0] + 1.0, name="set")
    return tf.tanh(read_list(changed))


def divide(folder: pathlib.Path, function: Any) -> tuple[list[set[str]], Partition]:
    """What crosses at each attempt, and the partition in which nothing does any more."""
    flat_models.save(folder, tf.Module(), [X], serving_default=lambda x: {"y": function(x)})
    graph = flat_models.freeze(folder).graph
    native = frozenset(node.name for node in graph.graph_def.node if "native" in node.name)
    tensors = describe_tensors(graph)
    left_out = find_left_out(graph, tensors, Support(list_supported_ops(), DTYPES, denied_nodes=native), find_op_def)
    attempts = []
    for _ in range(5):
        partition = segment_graph(graph, tensors, left_out, SegmentLimits(1, 0, 0), {})
        crossing = find_crossing_lists(partition)
        if not crossing:
            break
        assert all(
            node == LeftOut(name, node.op, reasons.RESOURCE_OR_STRING, node.detail) for name, node in crossing.items()
        )
        assert not set(crossing) & set(left_out), "a node that was native already"
        attempts.append(set(crossing))
        left_out.update(crossing)
    return attempts, partition


def list_ops(partition: Partition) -> set[str]:
    ops = {node.name: node.op for node in partition.graph.graph_def.node}
    return {ops[name] for segment in partition.segments for name in segment.nodes}


def test_a_list_that_is_made_and_read_inside_one_segment_crosses_nothing(tmp_path: pathlib.Path) -> None:
    attempts, partition = divide(tmp_path, inside)
    assert attempts == []
    assert len(partition.segments) == 1
    assert {"TensorListFromTensor", "TensorListStack"} <= list_ops(partition)


def test_who_makes_a_list_that_leaves_a_segment_stays_native_with_whoever_reads_it(tmp_path: pathlib.Path) -> None:
    attempts, partition = divide(tmp_path, leaving)
    assert attempts == [{"make", "stack"}]
    assert {"Mul", "Tanh"} <= list_ops(partition)
    assert not any(op.startswith("TensorList") for op in list_ops(partition))


def test_who_reads_a_list_that_enters_a_segment_stays_native_and_so_on_to_the_last(tmp_path: pathlib.Path) -> None:
    attempts, partition = divide(tmp_path, entering)
    assert attempts == [{"set"}, {"stack"}]
    assert {"Mul", "Tanh"} <= list_ops(partition)
    assert not any(op.startswith("TensorList") for op in list_ops(partition))


@pytest.mark.parametrize("function", [leaving, entering])
def test_no_segment_has_a_list_among_its_inputs_and_outputs_in_the_end(tmp_path: pathlib.Path, function: Any) -> None:
    _, partition = divide(tmp_path, function)
    assert partition.segments
    assert {spec.dtype for segment in partition.segments for spec in (*segment.inputs, *segment.outputs)} == {"float32"}
