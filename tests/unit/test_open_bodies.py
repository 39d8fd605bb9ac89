"""The bodies of loops and branches as graphs: which nodes are opened, what is carried and captured, and what bodies compute."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import flat_models
import numpy as np
import pytest
import tensorflow as tf

from beforehand.records import FlatGraph
from beforehand.runtime.tensorflow_private import find_op_def
from beforehand.segment.open_bodies import OpenBodies, open_bodies

X = tf.TensorSpec([None, 4], tf.float32, name="x")
# What tf.while_loop puts before the loop's own values: a counter of iterations, and their largest number.
COUNTERS = (0, 1)


@pytest.fixture(scope="module")
def module() -> Any:
    rng, made = np.random.default_rng(5), tf.Module()
    made.w = tf.Variable(rng.normal(size=(4, 4)).astype(np.float32))
    made.b = tf.Variable(rng.normal(size=4).astype(np.float32))
    made.start = tf.Variable(rng.normal(size=(2, 4)).astype(np.float32))
    made.count = tf.Variable(0.0)
    return made


@pytest.fixture(scope="module")
def frozen(module: Any, tmp_path_factory: pytest.TempPathFactory) -> flat_models.Frozen:
    """A loop or branch in each signature, saved and frozen once."""

    def loop(x: Any) -> Any:
        return {"y": tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, tf.tanh(v @ module.w)), [0, x])[1]}

    def begun(x: Any) -> Any:
        return {
            "y": x[:1] + tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v @ module.w), [0, module.start])[1]
        }

    def counting(x: Any) -> Any:
        def body(i: Any, v: Any) -> Any:
            module.count.assign_add(1.0)
            return i + 1, v @ module.w

        return {"y": tf.while_loop(lambda i, v: i < 3, body, [0, x])[1]}

    def cond(x: Any) -> Any:
        return {"y": tf.cond(tf.reduce_sum(x) > 0, lambda: x @ module.w, lambda: x * 2.0 + module.b)}

    def case(x: Any) -> Any:
        chosen = tf.cast(tf.reduce_sum(x), tf.int32) % 3
        return {"y": tf.switch_case(chosen, [lambda: x @ module.w, lambda: x - 1.0, lambda: x * module.b])}

    def nested(x: Any) -> Any:
        def body(i: Any, v: Any) -> Any:
            return i + 1, loop(v)["y"] + 1.0

        return {"y": tf.while_loop(lambda i, v: i < 2, body, [0, x])[1]}

    functions = {f.__name__: f for f in (loop, begun, counting, cond, case, nested)}
    folder = tmp_path_factory.mktemp("bodies")
    flat_models.save(folder, module, [X], **functions)
    return flat_models.freeze(folder)


def find_control_flow(graph: FlatGraph) -> Any:
    [node] = [node for node in graph.graph_def.node if node.op.endswith(("While", "If", "Case"))]
    return node


def open_only(graph: FlatGraph) -> OpenBodies:
    """The bodies of the one loop or branch of a graph."""
    found = open_bodies(graph, find_control_flow(graph).name, find_op_def)
    assert found
    return found


def run(frozen: flat_models.Frozen, graph: FlatGraph, values: Sequence[Any]) -> list[Any]:
    """What a body gives, run as a graph with its weights fed."""
    feeds = {f"{weight.node}:0": frozen.read(weight) for weight in graph.weights}
    feeds.update(zip(graph.input_tensors, values, strict=True))
    with tf.Graph().as_default() as imported:
        tf.graph_util.import_graph_def(graph.graph_def, name="")
        with tf.compat.v1.Session(graph=imported) as session:
            found: list[Any] = session.run(list(graph.output_tensors), feeds)
    return found


def draw() -> Any:
    return np.random.default_rng(6).normal(size=(2, 4)).astype(np.float32)


@pytest.mark.parametrize("key", ["loop", "nested"])
def test_the_bodies_of_a_loop_run_in_turn_give_what_the_loop_gives(frozen: flat_models.Frozen, key: str) -> None:
    opened = open_only(frozen.graphs[key])
    condition, body = opened.graphs
    assert (opened.carried, opened.captured) == ((*COUNTERS, 2, 3), ())
    rounds, values = 0, [0, -1, 0, draw()]
    while run(frozen, condition, values)[0]:
        values = run(frozen, body, values)
        rounds += 1
    assert rounds == {"loop": 3, "nested": 2}[key]
    np.testing.assert_allclose(values[3], frozen.run({"x": draw()}, key)["y"], rtol=1e-5)


@pytest.mark.parametrize(("key", "factor"), [("cond", 1.0), ("cond", -1.0), ("case", 1.0)])
def test_a_way_of_a_branch_gives_what_the_branch_gives(frozen: flat_models.Frozen, key: str, factor: float) -> None:
    opened = open_only(frozen.graphs[key])
    x = np.abs(draw()) * np.float32(factor)
    place = {"cond": 0 if x.sum() > 0 else 1, "case": int(x.sum()) % 3}[key]
    [found] = run(frozen, opened.graphs[place], [x])
    np.testing.assert_allclose(found, frozen.run({"x": x}, key)["y"], rtol=1e-5)


@pytest.mark.parametrize(("key", "ways"), [("cond", 2), ("case", 3)])
def test_a_branch_captures_its_arguments_and_carries_none(frozen: flat_models.Frozen, key: str, ways: int) -> None:
    graph = frozen.graphs[key]
    opened = open_only(graph)
    assert len(opened.graphs) == ways
    assert opened.carried == ()
    # The node's first input is what chooses; arguments are counted without it.
    arguments = [tensor for tensor in find_control_flow(graph).input if not tensor.startswith("^")][1:]
    assert [arguments[index] for index in opened.captured] == [f"{key}_x:0"]


def test_weights_become_weights_of_each_body_with_their_shapes(frozen: flat_models.Frozen) -> None:
    graph_def = tf.compat.v1.GraphDef()
    graph_def.CopyFrom(frozen.graphs["loop"].graph_def)
    for function in graph_def.library.function:  # a function need not say what shapes its arguments have
        for shape in function.attr["_input_shapes"].list.shape:
            shape.CopyFrom(tf.TensorShape(None).as_proto())
    graph = dataclasses.replace(frozen.graphs["loop"], graph_def=graph_def)
    [weight] = graph.weights
    for body in open_only(graph).graphs:
        [own] = body.weights
        assert dataclasses.replace(own, node=weight.node) == weight
        [node] = [node for node in body.graph_def.node if node.name == own.node]
        assert node.op == "Placeholder"
        assert tf.TensorShape(node.attr["shape"].shape).as_list() == [4, 4]
        assert f"{own.node}:0" not in body.input_tensors
        assert {spec.shape for spec in body.signature.inputs} == {None}


def test_a_weight_with_which_a_loop_begins_is_carried_and_no_weight_of_the_body(frozen: flat_models.Frozen) -> None:
    opened = open_only(frozen.graphs["begun"])
    assert (opened.carried, opened.captured) == ((*COUNTERS, 2, 3), ())
    for body in opened.graphs:
        [own] = body.weights
        assert own.shape == (4, 4)
        assert [spec.shape for spec in body.signature.inputs] == [(), (), (), (2, 4)]


def test_a_handle_is_captured_and_comes_before_what_is_carried(frozen: flat_models.Frozen) -> None:
    opened = open_only(frozen.graphs["counting"])
    assert opened.carried == (*COUNTERS, 2, 3)
    assert len(opened.captured) == 1
    condition, body = opened.graphs
    for graph in opened.graphs:
        assert [spec.dtype for spec in graph.signature.inputs] == ["resource", "int32", "int32", "int32", "float32"]
    assert len(condition.output_tensors) == 1
    assert len(body.output_tensors) == len(opened.carried)
    assert "AssignAddVariableOp" in {node.op for node in body.graph_def.node}


def test_a_loop_inside_a_body_can_be_opened_too_with_its_weight(frozen: flat_models.Frozen) -> None:
    _, body = open_only(frozen.graphs["nested"]).graphs
    inner = open_only(body)
    assert [weight.shape for weight in inner.graphs[1].weights] == [(4, 4)]
    assert "MatMul" in {node.op for node in inner.graphs[1].graph_def.node}


@pytest.mark.parametrize("name", ["loop_x", "StatefulPartitionedCall/StatefulPartitionedCall/Identity", "nowhere", ""])
def test_what_is_no_loop_or_branch_is_not_opened(frozen: flat_models.Frozen, name: str) -> None:
    assert open_bodies(frozen.graphs["loop"], name, find_op_def) is None


@pytest.mark.parametrize("reader", ["output", "node"])
@pytest.mark.parametrize(("key", "kept"), [("loop", 4), ("counting", 4), ("counting", 5)])
def test_a_loop_is_not_opened_where_somebody_reads_what_it_hands_on(
    frozen: flat_models.Frozen, key: str, kept: int, reader: str
) -> None:
    """Weights and handles are not among the values that a loop made anew gives."""
    graph, node = frozen.graphs[key], find_control_flow(frozen.graphs[key])
    tensor = f"{node.name}:{kept}"
    if reader == "output":
        graph = dataclasses.replace(graph, output_tensors=(*graph.output_tensors, tensor))
    else:
        graph_def = tf.compat.v1.GraphDef()
        graph_def.CopyFrom(graph.graph_def)
        graph_def.node.add(name="reader", op="Identity", input=[tensor])
        graph = dataclasses.replace(graph, graph_def=graph_def)
    assert open_bodies(graph, node.name, find_op_def) is None
    carried = dataclasses.replace(graph, graph_def=frozen.graphs[key].graph_def, output_tensors=(f"{node.name}:3",))
    assert open_bodies(carried, node.name, find_op_def)


def test_a_loop_that_changes_its_handle_is_not_opened(frozen: flat_models.Frozen) -> None:
    graph = frozen.graphs["counting"]
    changed = tf.compat.v1.GraphDef()
    changed.CopyFrom(graph.graph_def)
    node = find_control_flow(graph)
    [body] = [f for f in changed.library.function if f.signature.name == node.attr["body"].func.name]
    handles = [argument.name for argument in body.signature.input_arg if argument.type == tf.resource.as_datatype_enum]
    [output] = [name for name, tensor in body.ret.items() if tensor in handles]
    body.node_def.add(name="another", op="Identity", input=handles).attr["T"].type = tf.resource.as_datatype_enum
    body.ret[output] = "another:output:0"
    assert open_bodies(dataclasses.replace(graph, graph_def=changed), node.name, find_op_def) is None


def test_opening_changes_nothing_in_the_graph(frozen: flat_models.Frozen) -> None:
    for graph in frozen.graphs.values():
        before = graph.graph_def.SerializeToString(deterministic=True)
        first, second = open_only(graph), open_only(graph)
        assert graph.graph_def.SerializeToString(deterministic=True) == before
        assert first == second
