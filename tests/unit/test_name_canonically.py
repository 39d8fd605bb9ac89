"""ONNX graphs named by structure alone: the same bytes in any process and from any names, the same results, still valid."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lower_segment import lower, save_model

from beforehand.lower.capture_invariants import list_subgraphs
from beforehand.lower.name_canonically import forget_names, name_canonically, sort_nodes

FLOAT, INT, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
make = onnx.helper.make_node


def value(name: str, dtype: int = FLOAT, shape: Any = (3,)) -> Any:
    return onnx.helper.make_tensor_value_info(name, dtype, shape)


def constant(name: str, array: Any) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(array), name)


def make_model(nodes: list[Any], outputs: list[Any], constants: list[Any], inputs: Any = None) -> Any:
    graph = onnx.helper.make_graph(nodes, "g", inputs or [value("x"), value("y")], outputs, constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)


# What a loop's body does: an op and its operands, which are earlier results of the body or of the graph around it.
STEPS = st.lists(
    st.tuples(st.sampled_from(["Add", "Sub", "Mul", "Max", "Loop"]), st.integers(0, 99), st.integers(0, 99)),
    min_size=1,
    max_size=6,
)


class _Builder:
    """A graph of steps, in which every name is chosen by `choose`."""

    def __init__(self, choose: Callable[[], str]) -> None:
        self._choose = choose

    def build(self, steps: list[Any], inner: list[Any]) -> Any:
        constants = [constant(self._choose(), np.float32([1, 2, 3])) for _ in range(2)]
        names = ["x", "y", *(tensor.name for tensor in constants)]
        nodes: list[Any] = []
        trips, yes = constant(self._choose(), np.int64(2)), constant(self._choose(), np.True_)
        self._add_steps(nodes, names, steps, (inner, trips.name, yes.name))
        unused = constant(self._choose(), np.float32([9, 9, 9]))
        nodes.append(make("Neg", [names[-1]], [self._choose()], self._choose()))  # nobody reads it
        nodes.append(make("Identity", [names[-1]], ["z"], self._choose()))
        return make_model(nodes, [value("z")], [unused, *constants, trips, yes])

    def _add_steps(
        self, nodes: list[Any], names: list[str], steps: list[Any], loop: tuple[list[Any], str, str]
    ) -> None:
        for op, first, second in steps:
            left, right, result = names[first % len(names)], names[second % len(names)], self._choose()
            if op == "Loop":
                body = self._make_body([*names], loop)
                nodes.append(make("Loop", [*loop[1:], left], [result], self._choose(), body=body))
            else:
                nodes.append(make(op, [left, right], [result], self._choose()))
            names.append(result)

    def _make_body(self, outside: list[str], loop: tuple[list[Any], str, str]) -> Any:
        count, go, state = (self._choose() for _ in range(3))
        own = constant(self._choose(), np.float32([0.5, -1, 0]))
        names, nodes = [*outside, own.name, state], [make("Identity", [go], [go_on := self._choose()], self._choose())]
        self._add_steps(nodes, names, [step for step in loop[0] if step[0] != "Loop"] or [("Add", 98, 99)], loop)
        idle = names[len(outside) // 2]
        nodes.append(make("Neg", [idle], [self._choose()], self._choose()))  # nobody reads it, here neither
        inputs = [value(count, INT, ()), value(go, BOOL, ()), value(state)]
        results = [value(go_on, BOOL, ()), value(names[-1])]
        return onnx.helper.make_graph(nodes, self._choose(), inputs, results, [own])


def number(prefix: str, order: Iterator[int]) -> Callable[[], str]:
    return lambda: f"{prefix}__{next(order)}"


def shuffle(graph: Any, random: Any) -> None:
    """Nodes and initializers in any order, in bodies too."""
    for field in (graph.node, graph.initializer):
        items = list(field)
        random.shuffle(items)
        del field[:]
        field.extend(items)
    for node in graph.node:
        for inner in list_subgraphs(node):
            shuffle(inner, random)


def serialize_values(model: Any) -> bytes:
    """The bytes, without what is no value: names of nodes and of bodies are for messages."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    forget_names(copy.graph)
    return bytes(copy.SerializeToString(deterministic=True))


def run(model: Any) -> Any:
    feeds = {"x": np.float32([1, -2, 3]), "y": np.float32([0.5, 2, -1])}
    return onnx.reference.ReferenceEvaluator(model).run(None, feeds)[0]


@settings(max_examples=25, deadline=None)
@given(STEPS, STEPS, st.randoms(use_true_random=False))
def test_other_names_and_another_order_give_the_same_bytes_and_the_same_results(
    steps: list[Any], inner: list[Any], random: Any
) -> None:
    numbers = random.sample(range(1000), 200)
    # "v7" is a name that may be given too, "z_" sorts elsewhere.
    plain = _Builder(number("value", iter(range(1000)))).build(steps, inner)
    other = _Builder(lambda: f"v{numbers.pop()}").build(steps, inner)
    shuffle(other.graph, random)
    expected = run(plain)
    for model in (plain, other):
        name_canonically(model.graph)
        onnx.checker.check_model(model, full_check=True)
        np.testing.assert_allclose(run(model), expected, rtol=1e-6)
    assert serialize_values(plain) == serialize_values(other)


@settings(max_examples=30, deadline=None)
@given(STEPS, STEPS)
def test_to_name_twice_is_to_name_once(steps: list[Any], inner: list[Any]) -> None:
    model = _Builder(number("value", iter(range(1000)))).build(steps, inner)
    name_canonically(model.graph)
    once = model.SerializeToString(deterministic=True)
    name_canonically(model.graph)
    assert model.SerializeToString(deterministic=True) == once


def test_another_structure_gives_other_bytes() -> None:
    builds = [
        ([("Sub", 0, 1)], []),
        ([("Sub", 1, 0)], []),
        ([("Loop", 0, 0)], [("Sub", 0, 1)]),
        ([("Loop", 0, 0)], [("Sub", 1, 0)]),
        ([("Loop", 0, 0)], [("Sub", 0, 5)]),
        ([("Loop", 1, 0)], [("Sub", 0, 1)]),
    ]
    texts = set()
    for steps, inner in builds:
        model = _Builder(number("value", iter(range(1000)))).build(steps, inner)
        name_canonically(model.graph)
        texts.add(serialize_values(model))
    assert len(texts) == len(builds)


def test_inputs_and_outputs_keep_their_names_and_what_no_output_needs_goes() -> None:
    model = _Builder(number("value", iter(range(1000)))).build([("Add", 0, 1)], [])
    name_canonically(model.graph)
    assert [item.name for item in model.graph.input] == ["x", "y"]
    assert [item.name for item in model.graph.output] == ["z"]
    assert [node.op_type for node in model.graph.node] == ["Add", "Identity"]
    assert not model.graph.initializer


def test_an_initializer_that_is_an_output_keeps_its_name() -> None:
    model = make_model([], [value("z")], [constant("z", np.float32([1, 2, 3]))])
    name_canonically(model.graph)
    assert [tensor.name for tensor in model.graph.initializer] == ["z"]


def test_nodes_lose_the_numbers_of_tf2onnx_and_are_still_told_apart() -> None:
    nodes = [
        make("Neg", ["x"], ["a"], "neg__17"),
        make("Neg", ["a"], ["b"], "neg__4"),
        make("Abs", ["b"], ["z"], "abs"),
    ]
    model = make_model(nodes, [value("z")], [])
    name_canonically(model.graph)
    assert [node.name for node in model.graph.node] == ["neg", "neg__2", "abs"]


def test_dimensions_are_numbered_and_equal_ones_stay_equal() -> None:
    inputs = [value("x", FLOAT, ("unk__7", "unk__9", 3)), value("y", FLOAT, ("unk__9", 3, 3))]
    model = make_model([make("Abs", ["x"], ["z"], "abs")], [value("z", FLOAT, ("unk__7", "unk__9", 3))], [], inputs)
    name_canonically(model.graph)
    dims = [
        [dim.dim_param or dim.dim_value for dim in item.type.tensor_type.shape.dim]
        for item in (*model.graph.input, *model.graph.output)
    ]
    assert dims == [["d0", "d1", 3], ["d1", 3, 3], ["d0", "d1", 3]]


def test_a_body_may_use_a_name_of_the_graph_around_it_for_a_value_of_its_own() -> None:
    """ONNX forbids it; tf2onnx has done it. The two values get two names."""
    body = onnx.helper.make_graph(
        [make("Identity", ["go"], ["go_on"]), make("Add", ["state", "y"], ["a"]), make("Add", ["a", "a"], ["next"])],
        "body",
        [value("i", INT, ()), value("go", BOOL, ()), value("state")],
        [value("go_on", BOOL, ()), value("next")],
    )
    nodes = [
        make("Neg", ["x"], ["a"]),
        make("Loop", ["trips", "yes", "a"], ["b"], body=body),
        make("Add", ["a", "b"], ["z"]),
    ]
    model = make_model(nodes, [value("z")], [constant("trips", np.int64(2)), constant("yes", np.True_)])
    name_canonically(model.graph)
    onnx.checker.check_model(model, full_check=True)
    x, y = np.float32([1, -2, 3]), np.float32([0.5, 2, -1])
    np.testing.assert_allclose(run(model), -x + (((-x + y) * 2) + y) * 2)


def test_nodes_are_sorted_by_what_they_read_those_of_bodies_too() -> None:
    body = onnx.helper.make_graph([make("Abs", ["late"], ["r"])], "body", [], [value("r")])
    nodes = [
        make("If", ["c"], ["z"], then_branch=body, else_branch=body),
        make("Neg", ["x"], ["late"]),
        make("Not", ["b"], ["c"]),
    ]
    makers = {output: node for node in nodes for output in node.output}
    assert [node.op_type for node in sort_nodes(["z"], makers)] == ["Not", "Neg", "If"]


# ------------------------------------------------------------------------------------------- TensorFlow's loops, lowered


def save_loops(folder: pathlib.Path, suffix: str) -> None:
    """Two loops that cannot be unrolled, one with a branch in it; names of their nodes end in `suffix`."""

    def function(module: Any, x: Any) -> Any:
        trips = tf.cast(tf.reduce_max(x), tf.int32) % 5
        rows = tf.reduce_mean(x, [1, 2], name=f"rows{suffix}")

        def body(i: Any, v: Any) -> Any:
            product = tf.matmul(v, module.weight, name=f"product{suffix}")
            taken = tf.cond(
                tf.reduce_sum(product) > 1.0, lambda: tf.tanh(product, name=f"then{suffix}"), lambda: product + v
            )
            return i + 1, taken

        first = tf.while_loop(lambda i, v: i < trips, body, [0, rows], name=f"first{suffix}")[1]
        return tf.while_loop(
            lambda i, v: i < trips, lambda i, v: (i + 1, tf.nn.relu(v + first)), [0, first], name=f"second{suffix}"
        )[1]

    save_model(folder, function, weight=np.arange(576, dtype=np.float32).reshape(24, 24) / 576)


def lower_loops(folder: pathlib.Path, suffix: str = "") -> tuple[str, onnx.ModelProto]:
    """Made, saved, frozen, lowered: the digest, and the ONNX graph."""
    save_loops(folder / "source", suffix)
    lowered = lower(folder / "source", folder / "lowered")
    return lowered.digest, onnx.load(lowered.onnx_file)


@pytest.fixture(scope="module")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, onnx.ModelProto]:
    return lower_loops(tmp_path_factory.mktemp("loops"))


def test_loops_made_and_lowered_again_have_the_same_digest(
    lowered: tuple[str, onnx.ModelProto], tmp_path: pathlib.Path
) -> None:
    digest, model = lowered
    assert [node.op_type for node in model.graph.node].count("Loop") == 2
    assert lower_loops(tmp_path)[0] == digest


def test_loops_of_other_names_differ_in_nothing_but_names_of_nodes(
    lowered: tuple[str, onnx.ModelProto], tmp_path: pathlib.Path
) -> None:
    digest, other = lower_loops(tmp_path, "_of_another")
    assert serialize_values(other) == serialize_values(lowered[1])
    assert digest == lowered[0]


def test_another_process_with_another_hash_seed_makes_loops_of_the_same_digest(
    lowered: tuple[str, onnx.ModelProto], tmp_path: pathlib.Path
) -> None:
    path = os.pathsep.join(item for item in sys.path if item)
    environ = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "4711"}
    command = [sys.executable, __file__, str(tmp_path)]
    process = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout.splitlines()[-1] == lowered[0]


if __name__ == "__main__":
    print(lower_loops(pathlib.Path(sys.argv[1]))[0])
