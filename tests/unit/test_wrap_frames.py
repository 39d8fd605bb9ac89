"""Loops and branches of TensorFlow 1 wrapped into one call: the same answers, inputs, outputs and effects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from beforehand.freeze.inline_functions import inline_functions, list_functions
from beforehand.freeze.to_graph_def import to_graph_def
from beforehand.graph.edges import name_node
from beforehand.graph.nodes import prune
from beforehand.runtime.tensorflow_private import add_functions, find_op_def
from beforehand.saved_model.wrap_frames import has_frames, list_read_outside, wrap_frames

v1 = tf.compat.v1
X = np.array([1.0, -2.0], np.float32)
Arrays = dict[str, Any]


def build(make: Callable[[Any], Any]) -> tuple[Any, list[str]]:
    """A flat graph with TensorFlow 1's control flow, of one placeholder `x`, and its outputs."""
    with tf.Graph().as_default() as graph:
        v1.disable_control_flow_v2()
        try:
            outputs = make(v1.placeholder(tf.float32, [None], name="x"))
        finally:
            v1.enable_control_flow_v2()
    source = graph.as_graph_def()
    nodes, moved = inline_functions(source, [tensor.name for tensor in outputs], find_op_def)
    prune(nodes, ["x", *moved.values()])
    return to_graph_def(nodes, list_functions(source), source.versions), list(moved.values())


def loop(x: Any) -> list[Any]:
    """One loop, of which the counter and the value are read."""
    return list(v1.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 2.0), [tf.constant(0), x]))


def loop_in_a_loop(x: Any) -> list[Any]:
    def body(i: Any, v: Any) -> Any:
        return i + 1, v1.while_loop(lambda j, w: j < i, lambda j, w: (j + 1, w + x), [0, v])[1]

    return [v1.while_loop(lambda i, v: i < 4, body, [0, x])[1]]


def branch(x: Any) -> list[Any]:
    return [v1.cond(tf.reduce_sum(x) > 0, lambda: x + 1.0, lambda: x - 1.0)]


def branch_in_a_loop(x: Any) -> list[Any]:
    def body(i: Any, v: Any) -> Any:
        return i + 1, v1.cond(tf.equal(i % 2, 0), lambda: v * 3.0, lambda: v - 1.0)

    return [v1.while_loop(lambda i, v: i < 5, body, [0, x])[1]]


def array_in_a_loop(x: Any) -> list[Any]:
    array = tf.TensorArray(tf.float32, 3)
    return [v1.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a.write(i, x + 1.0)), [0, array])[1].stack()]


GRAPHS = {f.__name__: f for f in (loop, loop_in_a_loop, branch, branch_in_a_loop, array_in_a_loop)}


def run_plainly(graph_def: Any, outputs: list[str], x: Any) -> list[Any]:
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        tf.graph_util.import_graph_def(graph_def, name="")
        return list(session.run(outputs, {"x:0": x}))


def cut(graph_def: Any, names: set[str]) -> Any:
    chunk = v1.GraphDef(versions=graph_def.versions)
    chunk.node.extend(node for node in graph_def.node if node.name in names)
    return chunk


def run_wrapped(chunk: Any, given: Mapping[str, Any], outputs: list[str], awaited: tuple[str, ...] = ()) -> list[Any]:
    """The call traced into a function, as a converted signature has it, and saved nowhere."""

    def call(*values: Any) -> list[Any]:
        tensors = dict(zip(given, map(tf.identity, values), strict=True))
        wrapped = wrap_frames(chunk, tensors, outputs, awaited)
        add_functions(wrapped)
        [node] = wrapped.node
        [operation] = tf.graph_util.import_graph_def(wrapped, dict(tensors), [node.name], name="")
        return [tf.identity(tensor) for tensor in operation.outputs]

    results = tf.function(call, autograph=False)(*(tf.constant(value) for value in given.values()))
    return [value.numpy() for value in results]


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_call_answers_as_its_nodes_do(name: str, sign: int) -> None:
    graph_def, outputs = build(GRAPHS[name])
    assert has_frames(graph_def.node)
    chunk = cut(graph_def, {node.name for node in graph_def.node} - {"x"})
    expected = run_plainly(graph_def, outputs, sign * X)
    for found, value in zip(run_wrapped(chunk, {"x:0": sign * X}, outputs), expected, strict=True):
        np.testing.assert_array_equal(found, value)


def test_outputs_come_and_inputs_go_in_the_order_asked_for() -> None:
    graph_def, outputs = build(loop)
    added, _ = build(lambda x: [tf.subtract(x, v1.placeholder(tf.float32, [None], name="other"), name="less")])
    graph_def.node.extend(node for node in added.node if node.name != "x")
    chunk = cut(graph_def, {node.name for node in graph_def.node} - {"x", "other"})
    counter, value = outputs
    given = {"other:0": X * 0 + 5, "x:0": X}
    found = run_wrapped(chunk, given, [value, "less:0", counter])
    for have, want in zip(found, [X * 8, X - 5, 3], strict=True):
        np.testing.assert_array_equal(have, want)


def test_the_chunk_is_not_changed() -> None:
    graph_def, outputs = build(branch_in_a_loop)
    chunk = cut(graph_def, {node.name for node in graph_def.node} - {"x"})
    before = chunk.SerializeToString(deterministic=True)
    run_wrapped(chunk, {"x:0": X}, outputs)
    assert chunk.SerializeToString(deterministic=True) == before


def add_assert(graph_def: Any, name: str, *after: str) -> None:
    """A node with an effect that nobody reads: it fails where `condition` is false."""
    node = graph_def.node.add(name=name, op="Assert", input=["condition:0", "x:0", *(f"^{item}" for item in after)])
    node.attr["T"].list.type.append(tf.float32.as_datatype_enum)


def test_what_is_awaited_in_the_chunk_is_done_by_the_call_though_no_output_needs_it() -> None:
    graph_def, outputs = build(loop)
    placeholder = graph_def.node.add(name="condition", op="Placeholder")
    placeholder.attr["dtype"].type = tf.bool.as_datatype_enum
    add_assert(graph_def, "check")
    chunk = cut(graph_def, {node.name for node in graph_def.node} - {"x", "condition"})
    for awaited, fails in (("check",), True), ((), False):
        given = {"x:0": X, "condition:0": np.False_}
        if fails:
            with pytest.raises(tf.errors.InvalidArgumentError, match="assertion failed"):
                run_wrapped(chunk, given, outputs, awaited)
        else:
            np.testing.assert_array_equal(run_wrapped(chunk, given, outputs, awaited)[1], X * 8)


def test_what_the_chunk_waits_for_outside_the_call_waits_for_once() -> None:
    graph_def, outputs = build(loop)
    chunk = cut(graph_def, {node.name for node in graph_def.node} - {"x"})
    inner = next(node.name for node in chunk.node if node.op == "Exit")
    for node in chunk.node:
        if node.op == "Enter":
            node.input.append("^outside")
        elif node.op == "LoopCond":
            node.input.append(f"^{name_node(node.input[0])}")
    [call] = wrap_frames(chunk, {"x:0": tf.constant(X)}, outputs, [inner]).node
    assert list(call.input) == ["x:0", "^outside"]
    [function] = wrap_frames(chunk, {"x:0": tf.constant(X)}, outputs, [inner]).library.function
    waits = {node.op: [tensor for tensor in node.input if tensor.startswith("^")] for node in function.node_def}
    assert waits["Enter"] == []
    assert waits["LoopCond"] == [f"^{next(node.name for node in function.node_def if node.op == 'Less')}"]


def test_dtypes_and_shapes_of_the_call_are_those_of_the_tensors() -> None:
    graph_def, outputs = build(loop)
    chunk = cut(graph_def, {node.name for node in graph_def.node} - {"x"})
    wrapped = wrap_frames(chunk, {"x:0": tf.constant(X)}, outputs, [])
    [call], [function] = wrapped.node, wrapped.library.function
    assert list(call.attr["Tin"].list.type) == [tf.float32.as_datatype_enum]
    assert list(call.attr["Tout"].list.type) == [tf.int32.as_datatype_enum, tf.float32.as_datatype_enum]
    assert [[dim.size for dim in shape.dim] for shape in function.attr["_input_shapes"].list.shape] == [[2]]
    assert wrapped.versions == chunk.versions


def test_functions_that_the_chunk_calls_come_along() -> None:
    def repeat(x: Any) -> Any:
        return tf.while_loop(lambda i, v: i < 2, lambda i, v: (i + 1, v + 1.0), [0, x])[1]

    graph_def, outputs = build(lambda x: [tf.function(repeat, autograph=False)(loop(x)[1])])
    assert len(graph_def.library.function) == 2
    chunk = cut(graph_def, {node.name for node in graph_def.node} - {"x"})
    chunk.library.CopyFrom(graph_def.library)
    [found] = run_wrapped(chunk, {"x:0": X}, outputs)
    np.testing.assert_array_equal(found, X * 8 + 2)


def test_control_flow_of_version_2_has_no_frames() -> None:
    def function(x: Any) -> Any:
        return tf.while_loop(
            lambda i, v: i < 3, lambda i, v: (i + 1, v * 2.0), [0, tf.cond(x[0] > 0, lambda: x, lambda: -x)]
        )

    graph_def = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec([2])).graph.as_graph_def()
    assert any("While" in node.op for node in graph_def.node)
    assert not has_frames(graph_def.node)


def test_what_others_read_and_wait_for_is_listed_once_without_what_only_the_nodes_themselves_read() -> None:
    def make(name: str, *inputs: str) -> Any:
        return v1.NodeDef(name=name, op="AddV2", input=inputs)

    nodes = {
        node.name: node
        for node in (
            make("before"),
            make("a", "before:0"),
            make("b", "a:0", "a:1", "^a"),
            make("c", "b:1", "^b"),
            make("reader", "a:1", "c:0", "before:0", "^b", "^before"),
            make("again", "c:0", "^b"),
        )
    }
    read, awaited = list_read_outside(nodes, {"a", "b", "c"}, ["b:0", "reader:0", "c:0"])
    assert read == ["a:1", "c:0", "b:0"]
    assert awaited == ["b"]
    assert {name_node(tensor) for tensor in read} <= {"a", "b", "c"}
