"""Loops and branches whose bodies read variables: by value where they only read, by handle where they assign."""

from __future__ import annotations

import pathlib
from typing import Any

import flat_models
import numpy as np
import pytest
import tensorflow as tf

X = tf.TensorSpec([None, 3], tf.float32, name="x")
STATELESS = {"StatelessWhile", "StatelessIf", "StatelessCase"}


def make_module() -> Any:
    module, rng = tf.Module(), np.random.default_rng(3)
    module.w = tf.Variable(rng.normal(size=(3, 3)).astype(np.float32))
    module.b = tf.Variable(rng.normal(size=3).astype(np.float32))
    module.table = tf.Variable(rng.normal(size=(5, 3)).astype(np.float32))
    module.count = tf.Variable(0.0)
    return module


def loop(module: Any, x: Any) -> Any:
    return tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, tf.tanh(v @ module.w + module.b)), [0, x])[1]


def cond(module: Any, x: Any) -> Any:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: x @ module.w, lambda: x + module.b)


def case(module: Any, x: Any) -> Any:
    chosen = tf.cast(tf.reduce_sum(x), tf.int32) % 3
    return tf.switch_case(chosen, [lambda: x @ module.w, lambda: x - 1.0, lambda: x * module.b])


def nested(module: Any, x: Any) -> Any:
    return tf.while_loop(lambda i, v: i < 2, lambda i, v: (i + 1, loop(module, cond(module, v))), [0, x])[1]


def gather(module: Any, x: Any) -> Any:
    def body(i: Any, v: Any) -> Any:
        return i + 1, v + tf.nn.embedding_lookup(module.table, i)

    return tf.while_loop(lambda i, v: i < 4, body, [0, x])[1]


@pytest.mark.parametrize("function", [loop, cond, case, nested, gather])
def test_bodies_that_only_read_variables_get_values_and_have_no_state(tmp_path: pathlib.Path, function: Any) -> None:
    module = make_module()
    flat_models.save(tmp_path, module, [X], serving_default=lambda x: {"y": function(module, x)})
    frozen = flat_models.freeze(tmp_path)
    ops = {*frozen.list_ops(), *frozen.list_inner_ops()}
    assert ops & STATELESS
    assert not ops & {"While", "If", "Case", "VarHandleOp", "ReadVariableOp", "ResourceGather"}
    assert frozen.graph.variables == ()
    assert frozen.graph.weights
    rng = np.random.default_rng(4)
    for _ in range(4):
        inputs = {"x": rng.normal(size=(2, 3)).astype(np.float32)}
        flat_models.expect_same(frozen.run(inputs), flat_models.answer(tmp_path, inputs))


def test_a_loop_that_assigns_a_variable_keeps_its_handle_and_its_state(tmp_path: pathlib.Path) -> None:
    module = make_module()

    def body(i: Any, v: Any) -> Any:
        module.count.assign_add(1.0)
        return i + 1, v @ module.w

    def function(x: Any) -> Any:
        return {"y": tf.while_loop(lambda i, v: i < 3, body, [0, x])[1]}

    flat_models.save(tmp_path, module, [X], serving_default=function)
    frozen = flat_models.freeze(tmp_path)
    assert "While" in frozen.list_ops()
    assert "StatelessWhile" not in frozen.list_ops()
    assert frozen.list_ops().count("VarHandleOp") == 1
    assert [weight.shape for weight in frozen.graph.variables] == [()]
    assert [weight.shape for weight in frozen.graph.weights] == [(3, 3)]


def test_equal_bodies_share_a_function(tmp_path: pathlib.Path) -> None:
    module = make_module()
    inner = tf.function(lambda x: loop(module, x), input_signature=[X], autograph=False)
    flat_models.save(tmp_path, module, [X], serving_default=lambda x: {"y": inner(x), "z": inner(x + 1.0)})
    graph = flat_models.freeze(tmp_path).graph
    loops = [node for node in graph.graph_def.node if node.op == "StatelessWhile"]
    assert len(loops) == 2
    assert len({node.attr["cond"].func.name for node in loops}) == 1
    assert len(graph.graph_def.library.function) == 2
