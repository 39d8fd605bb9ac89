"""Function calls become the nodes of their bodies, and the graph computes what it did."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from beforehand.errors import GraphError
from beforehand.freeze.inline_functions import CALL_OPS, inline_functions, name_node
from beforehand.runtime.tensorflow_private import find_op_def

F32 = tf.TensorSpec([None], tf.float32, name="x")


def trace(function: Any) -> tuple[Any, str]:
    """GraphDef of a function of one vector `x`, and its output tensor."""
    concrete = tf.function(function, autograph=False).get_concrete_function(F32)
    graph_def = concrete.graph.as_graph_def()
    return graph_def, concrete.graph.outputs[0].name


def inline(graph_def: Any, *outputs: str) -> tuple[dict[str, Any], dict[str, str]]:
    return inline_functions(graph_def, outputs, find_op_def)


def make_graph_def(nodes: dict[str, Any], source: Any) -> Any:
    graph_def = tf.compat.v1.GraphDef(versions=source.versions, library=source.library)
    graph_def.node.extend(nodes.values())
    return graph_def


def compute(nodes: dict[str, Any], source: Any, output: str, x: Any) -> Any:
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(make_graph_def(nodes, source), name="")
        with tf.compat.v1.Session(graph=graph) as session:
            return session.run(output, {"x:0": x})


def test_nested_calls_disappear_and_the_answer_stays() -> None:
    @tf.function
    def inner(x: Any) -> Any:
        return x * 3.0

    @tf.function
    def middle(x: Any) -> Any:
        return inner(x) + inner(x + 1.0)

    graph_def, output = trace(lambda x: middle(middle(x)))
    assert any(node.op in CALL_OPS for node in graph_def.node)

    nodes, moved = inline(graph_def, output)

    assert not [node for node in nodes.values() if node.op in CALL_OPS]
    assert sum(node.op == "Mul" for node in nodes.values()) == 4
    x = np.array([1.0, -2.5], np.float32)
    np.testing.assert_allclose(compute(nodes, graph_def, moved[output], x), 6 * (6 * x + 3) + 3)


def test_the_argument_is_not_changed() -> None:
    graph_def, output = trace(tf.function(lambda y: y + 1.0))
    before = graph_def.SerializeToString(deterministic=True)
    nodes, _ = inline(graph_def, output)
    next(iter(nodes.values())).device = "/device:GPU:7"
    assert graph_def.SerializeToString(deterministic=True) == before


def test_inner_nodes_keep_their_names_where_these_are_free_and_get_the_calls_name_where_not() -> None:
    @tf.function
    def inner(x: Any) -> Any:
        return tf.multiply(x, x, name="squared")

    graph_def, output = trace(lambda x: inner(inner(x)))
    nodes, _ = inline(graph_def, output)
    squared = sorted(name for name in nodes if name.endswith("squared"))
    assert len(squared) == 2
    assert "squared" in squared
    other = next(name for name in squared if name != "squared")
    assert other.removesuffix("/squared") in {node.name for node in graph_def.node if node.op in CALL_OPS}


def test_an_inner_node_never_takes_a_name_of_the_top_level() -> None:
    @tf.function
    def inner(x: Any) -> Any:
        return tf.add(x, x, name="sum")

    graph_def, output = trace(lambda x: tf.add(inner(x), 1.0, name="sum"))
    nodes, moved = inline(graph_def, output)
    assert nodes["sum"].op == next(node.op for node in graph_def.node if node.name == "sum")
    np.testing.assert_allclose(compute(nodes, graph_def, moved[output], np.array([2.0], np.float32)), [5.0])


def test_an_output_that_is_an_argument_of_the_call_is_followed_to_its_source() -> None:
    @tf.function
    def swap(x: Any, y: Any) -> Any:
        return y, x

    graph_def, output = trace(lambda x: swap(x, x * 2.0)[1] + 0.0)
    nodes, moved = inline(graph_def, output)
    np.testing.assert_allclose(compute(nodes, graph_def, moved[output], np.array([4.0], np.float32)), [4.0])


@pytest.mark.parametrize(
    ("name", "function"),
    {
        "a number of outputs": lambda x: tf.split(tf.concat([x, x * 2.0], 0), 2)[1],
        "a list of types": lambda x: tf.identity_n([x, x * 3.0])[1],
        "outputs by name": lambda x: tf.cast(tf.math.top_k(x, 1).indices, tf.float32),
        "outputs by name, both": lambda x: (
            tf.math.top_k(x, 1).values + tf.cast(tf.math.top_k(x, 1).indices, tf.float32)
        ),
    }.items(),
)
def test_the_right_output_of_an_op_with_several_is_taken(name: str, function: Any) -> None:
    del name
    inner = tf.function(function, autograph=False)
    graph_def, output = trace(lambda x: inner(x) + 0.0)
    nodes, moved = inline(graph_def, output)
    x = np.array([1.0, 5.0], np.float32)
    np.testing.assert_allclose(compute(nodes, graph_def, moved[output], x), function(tf.constant(x)))


def test_functional_control_flow_stays_as_it_is() -> None:
    def body(x: Any) -> Any:
        return tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 2.0), [0, x])[1]

    inner = tf.function(body, autograph=False)
    graph_def, output = trace(lambda x: inner(x) + 0.0)
    nodes, moved = inline(graph_def, output)
    assert [node.op for node in nodes.values() if "While" in node.op] in (["While"], ["StatelessWhile"])
    np.testing.assert_allclose(compute(nodes, graph_def, moved[output], np.array([1.5], np.float32)), [12.0])


def test_what_a_call_waits_for_its_effects_wait_for_but_its_pure_nodes_do_not() -> None:
    @tf.function
    def noisy(x: Any) -> Any:
        tf.raw_ops.Assert(condition=True, data=["fine"], name="inner_assert")
        return tf.add(x, 1.0, name="pure")

    def outer(x: Any) -> Any:
        first = tf.raw_ops.Assert(condition=True, data=["first"], name="first")
        with tf.control_dependencies([first]):
            return noisy(x)

    graph_def, output = trace(outer)
    nodes, _ = inline(graph_def, output)

    def list_before(name: str) -> set[str]:
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            for tensor in nodes[waiting.pop()].input:
                if name_node(tensor) not in seen:
                    seen.add(name_node(tensor))
                    waiting.append(name_node(tensor))
        return seen

    assert "first" in list_before("inner_assert")
    assert "first" not in list_before("pure")


def test_a_control_output_of_a_call_becomes_control_edges_on_its_effects() -> None:
    @tf.function
    def noisy(x: Any) -> Any:
        tf.raw_ops.Assert(condition=True, data=["fine"], name="inner_assert")
        return x

    def outer(x: Any) -> Any:
        noisy(x)
        with tf.control_dependencies(
            [op for op in tf.compat.v1.get_default_graph().get_operations() if "Call" in op.type]
        ):
            return tf.add(x, 1.0, name="last")

    graph_def, output = trace(outer)
    nodes, _ = inline(graph_def, output)
    waiting, reached = ["last"], set()
    while waiting:
        for tensor in nodes[waiting.pop()].input:
            if name_node(tensor) not in reached:
                reached.add(name_node(tensor))
                waiting.append(name_node(tensor))
    assert "inner_assert" in reached


def test_attributes_that_a_function_takes_from_its_call_are_filled_in() -> None:
    graph_def = tf.compat.v1.GraphDef()
    x = graph_def.node.add(name="x", op="Placeholder")
    x.attr["dtype"].type = tf.float32.as_datatype_enum
    function = graph_def.library.function.add()
    function.signature.name = "generic"
    function.signature.input_arg.add(name="a", type_attr="T")
    function.signature.output_arg.add(name="b", type_attr="T")
    node = function.node_def.add(name="double", op="AddV2", input=["a", "a"])
    node.attr["T"].placeholder = "T"
    function.ret["b"] = "double:z:0"
    call = graph_def.node.add(name="call", op="generic", input=["x"])
    call.attr["T"].type = tf.float32.as_datatype_enum

    nodes, moved = inline(graph_def, "call:0")

    assert moved["call:0"] == "double:0"
    assert nodes["double"].attr["T"].type == tf.float32.as_datatype_enum
    assert list(nodes["double"].input) == ["x:0", "x:0"]


def test_devices_of_the_machine_that_saved_are_dropped() -> None:
    graph_def, output = trace(lambda x: x + 1.0)
    for node in graph_def.node:
        node.device = "/job:worker/device:GPU:3"
    nodes, _ = inline(graph_def, output)
    assert {node.device for node in nodes.values()} == {""}


def test_a_node_that_is_not_there_is_refused_by_name() -> None:
    graph_def, _ = trace(lambda x: x + 1.0)
    with pytest.raises(GraphError, match=r"^BH205 the graph has no node 'nowhere'\.$"):
        inline(graph_def, "nowhere:0")


def test_an_op_that_tensorflow_does_not_know_is_refused_by_name() -> None:
    graph_def, output = trace(lambda x: tf.function(lambda y: tf.add(y, 1.0, name="odd"))(x) + 0.0)
    for node in graph_def.library.function[0].node_def:
        if node.name == "odd":
            node.op = "NoSuchOp"
    with pytest.raises(GraphError, match=r"^BH205 the op NoSuchOp of odd is not known to TensorFlow "):
        inline(graph_def, output)


def test_a_call_with_a_wrong_number_of_inputs_is_refused() -> None:
    graph_def, output = trace(lambda x: tf.function(lambda y: y + 1.0)(x) + 0.0)
    for node in graph_def.node:
        if node.op in CALL_OPS:
            node.input.append("x")
    with pytest.raises(GraphError, match=r"^BH205 the call .* has 2 inputs, not 1\.$"):
        inline(graph_def, output)
