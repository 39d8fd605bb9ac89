"""A loop or branch made anew does what TensorFlow's own op does: conditions of any kind, indices out of range, state."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import flat_models
import numpy as np
import pytest
import tensorflow as tf

from beforehand.records import FlatGraph, Opened, Partition, Signature
from beforehand.saved_model.call_opened import call_opened

NOTHING = Partition(FlatGraph(Signature("", (), ()), tf.compat.v1.GraphDef(), (), (), ()), (), (), ())
X = np.arange(6, dtype=np.float32).reshape(2, 3)
W = np.random.default_rng(0).normal(0, 0.06, (256, 256)).astype(np.float32)


def concrete(function: Any, *specs: tf.TensorSpec) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(*specs)


def spec_of(value: Any, *, known: bool = True) -> tf.TensorSpec:
    array = np.asarray(value)
    return tf.TensorSpec(array.shape if known else None, tf.as_dtype(tf.constant(value).dtype))


def call(op: str, opened: Opened, values: Sequence[Any], bodies: Sequence[Any], known: bool = True) -> list[Any]:
    """`call_opened` of a node `op` whose bodies are Python functions of the arguments."""
    node = tf.compat.v1.NodeDef(name="n", op=op)

    def function(*given: tf.Tensor) -> list[tf.Tensor]:
        found = call_opened(node, opened, given, lambda place, inputs: bodies[place](*inputs))
        return [found[index] for index in sorted(found)]

    specs = [spec_of(values[0], known=known), *(spec_of(value) for value in values[1:])]
    return [value.numpy() for value in concrete(function, *specs)(*(tf.constant(value) for value in values))]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "condition",
    [True, False, 0, 7, -1, 0.0, 0.5, "", "no", [0], [False, False], np.zeros([0], np.int32), np.zeros([0, 3], bool)],
    ids=repr,
)
def test_a_branch_takes_the_side_that_if_takes(condition: Any, known: bool) -> None:
    branches = [lambda x: [x + 1.0, x * 2.0], lambda x: [x - 1.0, x * 3.0]]
    found = call("StatelessIf", Opened("n", 0, (NOTHING, NOTHING), (), (0,)), [condition, X], branches, known)

    then_branch, else_branch = (concrete(branch, tf.TensorSpec(X.shape, tf.float32)) for branch in branches)
    expected = tf.raw_ops.If(
        cond=tf.constant(condition), input=[X], Tout=[tf.float32] * 2, then_branch=then_branch, else_branch=else_branch
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("index", [-(2**31), -1, 0, 1, 2, 3, 2**31 - 1])
@pytest.mark.parametrize("count", [1, 3])
def test_a_case_takes_the_branch_that_case_takes_and_out_of_range_the_last(index: int, count: int) -> None:
    branches = [lambda x: [x + 1.0], lambda x: [x * 2.0], lambda x: [x - 3.0]][:count]
    chosen = np.int32(index)
    [found] = call("StatelessCase", Opened("n", 0, (NOTHING,) * count, (), (0,)), [chosen, X], branches)

    made = [concrete(branch, tf.TensorSpec(X.shape, tf.float32)) for branch in branches]
    [expected] = tf.raw_ops.Case(branch_index=chosen, input=[X], Tout=[tf.float32], branches=made)
    np.testing.assert_array_equal(found, expected)
    if not 0 <= index < count:
        np.testing.assert_array_equal(found, branches[-1](X)[0])


@pytest.mark.parametrize(
    "make_condition",
    [
        lambda i, v: i < 3,
        lambda i, v: 3 - i,
        lambda i, v: tf.cast(3 - i, tf.float32),
        lambda i, v: tf.zeros([3 - i]),
        lambda i, v: tf.strings.substr("abc", i, 3),
        lambda i, v: tf.reshape(v[:0, 0], [-1, 1]),
    ],
    ids=["bool", "int", "float", "elements", "text", "empty"],
)
def test_a_loop_makes_as_many_rounds_as_while_does(make_condition: Any) -> None:
    def step(i: Any, v: Any) -> list[Any]:
        return [i + 1, v * 2.0 + 1.0]

    def condition(i: Any, v: Any) -> list[Any]:
        return [make_condition(i, v)]

    found = call("StatelessWhile", Opened("n", 0, (NOTHING, NOTHING), (0, 1), ()), [0, X], [condition, step])

    specs = [tf.TensorSpec([], tf.int32), tf.TensorSpec(X.shape, tf.float32)]
    expected = tf.raw_ops.While(
        input=[tf.constant(0), tf.constant(X)],
        cond=concrete(make_condition, *specs),
        body=concrete(step, *specs),
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_condition_of_one_element_counts_its_elements_as_in_while() -> None:
    """TensorFlow's Python takes [False] for False; its op, which a SavedModel has, takes it for true."""

    def condition(i: Any) -> list[Any]:
        return [tf.zeros([tf.where(i < 3, 1, 0)], tf.bool)]

    [found] = call("While", Opened("n", 0, (NOTHING, NOTHING), (0,), ()), [0], [condition, lambda i: [i + 1]])
    assert found == 3

    def one_element(i: Any) -> list[Any]:
        with tf.control_dependencies([tf.debugging.assert_less(i, 3, "still going")]):
            return [tf.zeros([1], tf.bool)]

    with pytest.raises(tf.errors.InvalidArgumentError, match="still going"):
        call("While", Opened("n", 0, (NOTHING, NOTHING), (0,), ()), [0], [one_element, lambda i: [i + 1]])


def test_what_stays_in_a_loop_comes_before_what_changes() -> None:
    def condition(scale: Any, i: Any, v: Any) -> list[Any]:
        return [i < tf.cast(scale, tf.int32)]

    def step(scale: Any, i: Any, v: Any) -> list[Any]:
        return [i + 1, v * scale]

    opened = Opened("n", 0, (NOTHING, NOTHING), (0, 2), (1,))
    found = call("StatelessWhile", opened, [0, np.float32(2.0), X], [condition, step])
    assert found[0] == 2
    np.testing.assert_array_equal(found[1], X * 4.0)


def test_a_carried_value_may_change_its_shape_where_the_loop_says_so() -> None:
    node = tf.compat.v1.NodeDef(name="n", op="StatelessWhile")
    for shape in ([], [None, 3]):
        node.attr["output_shapes"].list.shape.add().CopyFrom(tf.TensorShape(shape).as_proto())

    def bodies(place: int, inputs: Sequence[Any]) -> list[Any]:
        i, v = inputs
        return [i < 2] if place == 0 else [i + 1, tf.concat([v, v], 0)]

    opened = Opened("n", 0, (NOTHING, NOTHING), (0, 1), ())
    function = concrete(lambda x: call_opened(node, opened, [tf.constant(0), x], bodies)[1], spec_of(X))
    np.testing.assert_array_equal(function(tf.constant(X)), np.concatenate([X] * 4))


def make_module(**variables: Any) -> tf.Module:
    module = tf.Module()
    for name, value in variables.items():
        setattr(module, name, tf.Variable(value))
    return module


def dense(module: Any, v: Any) -> Any:
    return tf.tanh(tf.nn.relu(v @ module.w) @ module.w) + 0.1


def loop(module: Any, start: Any) -> Any:
    """Three rounds of a body that an engine cannot run as a whole."""

    def body(i: Any, v: Any) -> Any:
        return i + tf.minimum(tf.strings.length(tf.strings.as_string(i)), 1), dense(module, v)

    return tf.while_loop(lambda i, v: i < 3, body, [0, start])[1]


def branch(module: Any, condition: Any, x: Any) -> Any:
    def tell() -> Any:
        return tf.strings.as_string(x[0, 0]), dense(module, dense(module, x))

    text, y = tf.cond(condition, tell, lambda: (tf.constant("short"), x + 1.0))
    return {"y": y, "length": tf.strings.length(text)}


BATCH = tf.TensorSpec([8, 256], tf.float32, name="x")


def check_conversion(folder: pathlib.Path, module: Any, function: Any, specs: list[Any], inputs: Any) -> Any:
    flat_models.save(folder / "source", module, specs, serving_default=function)
    found = flat_models.convert(folder / "source", inputs, folder / "converted")
    counts = found.pop("")["signatures"]["serving_default"]
    expected = flat_models.answer(folder / "source", inputs)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    assert counts["native_calls"] == 0
    return counts["engine_calls"]


def draw(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def test_a_variable_may_be_where_a_loop_with_engines_begins(tmp_path: pathlib.Path) -> None:
    module = make_module(w=W, start=draw((8, 256)))
    calls = check_conversion(
        tmp_path, module, lambda x: {"y": x + loop(module, module.start)}, [BATCH], {"x": draw((8, 256)) + 1.0}
    )
    assert calls >= 3


def test_a_large_constant_may_be_where_a_loop_with_engines_begins(tmp_path: pathlib.Path) -> None:
    module = make_module(w=W)
    start = draw((80, 256))
    calls = check_conversion(
        tmp_path, module, lambda x: {"y": x[:1] + loop(module, tf.constant(start))}, [BATCH], {"x": draw((8, 256))}
    )
    assert calls >= 3


@pytest.mark.parametrize("chosen", [True, False])
def test_a_variable_may_choose_between_branches_with_engines(tmp_path: pathlib.Path, chosen: bool) -> None:
    module = make_module(w=W, chosen=chosen)
    calls = check_conversion(
        tmp_path, module, lambda x: branch(module, module.chosen, x), [BATCH], {"x": draw((8, 256))}
    )
    assert calls == (1 if chosen else 0)


@pytest.mark.parametrize("chosen", [True, False])
def test_a_condition_of_unknown_rank_chooses_as_in_the_source(tmp_path: pathlib.Path, chosen: bool) -> None:
    module = make_module(w=W)
    specs = [BATCH, tf.TensorSpec(None, tf.bool, name="chosen")]
    inputs = {"x": draw((8, 256)), "chosen": np.array(chosen)}
    calls = check_conversion(tmp_path, module, lambda x, chosen: branch(module, chosen, x), specs, inputs)
    assert calls == (1 if chosen else 0)
