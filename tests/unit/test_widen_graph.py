"""Graphs in float64: what is widened, what stays between casts, and batch normalisation spelt out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from beforehand.errors import GraphError
from beforehand.records import FlatGraph, Signature, TensorSpec
from beforehand.runtime.tensorflow_private import find_op_def
from beforehand.verification.widen_graph import NARROW, widen_graph


def flatten(make: Callable[[Any], Any], shape: tuple[int | None, ...], dtype: str = "float32") -> FlatGraph:
    """A graph of one input `x` and one output."""
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(dtype, shape, name="x")
        y = make(x)
    signature = Signature("serving_default", (TensorSpec("x", dtype, shape),), (TensorSpec("y", y.dtype.name, None),))
    return FlatGraph(signature, graph.as_graph_def(), ("x:0",), (y.name,), ())


def run(graph_def: Any, output: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            return np.asarray(session.run(output, {"x:0": x}))


def test_the_arithmetic_is_float64s_own() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(50, 7)).astype(np.float32)
    found = widen_graph(flatten(lambda x: tf.exp(tf.matmul(x, weights)) / 3.0, (None, 50)), find_op_def)
    x = rng.normal(size=(4, 50)).astype(np.float32)
    y = run(found.graph_def, found.output_tensors[0], x.astype(np.float64))
    expected = np.exp(x.astype(np.float64) @ weights.astype(np.float64)) / 3
    assert y.dtype == np.float64
    assert found.kept_ops == ()
    # Float32 would be off by 1e-7 or more.
    np.testing.assert_allclose(y, expected, rtol=1e-13)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_batch_normalisation_is_spelt_out(layout: str) -> None:
    rng = np.random.default_rng(1)
    scale, offset, mean = (rng.normal(size=3).astype(np.float32) for _ in range(3))
    variance = rng.uniform(0.5, 2, 3).astype(np.float32)
    shape = (2, 4, 5, 3) if layout == "NHWC" else (2, 3, 4, 5)

    def normalise(x: Any) -> Any:
        return tf.compat.v1.nn.fused_batch_norm(
            x, scale, offset, mean, variance, epsilon=0.01, data_format=layout, is_training=False
        )[0]

    found = widen_graph(flatten(normalise, shape), find_op_def)
    assert not any(node.op.startswith("FusedBatchNorm") for node in found.graph_def.node)
    assert found.kept_ops == ()
    x = rng.normal(size=shape)
    sides = (1, 1, 1, 3) if layout == "NHWC" else (1, 3, 1, 1)
    wide = [value.astype(np.float64).reshape(sides) for value in (scale, offset, mean, variance)]
    expected = (x - wide[2]) * wide[0] / np.sqrt(wide[3] + np.float32(0.01)) + wide[1]
    np.testing.assert_allclose(run(found.graph_def, found.output_tensors[0], x), expected, rtol=1e-12, atol=1e-13)


def test_an_op_without_a_float64_kernel_computes_in_float32_between_casts() -> None:
    def resize(x: Any) -> Any:
        return tf.compat.v1.image.resize_bilinear(x * 2.0, (8, 6)) + 1.0

    graph = flatten(resize, (1, 4, 3, 2))
    found = widen_graph(graph, find_op_def)
    assert found.kept_ops == ("ResizeBilinear",)
    x = np.random.default_rng(2).random((1, 4, 3, 2))
    y = run(found.graph_def, found.output_tensors[0], x)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, run(graph.graph_def, graph.output_tensors[0], x.astype(np.float32)), rtol=1e-6)


def test_an_output_that_such_an_op_gives_is_float64_too() -> None:
    found = widen_graph(flatten(lambda x: tf.compat.v1.image.resize_bilinear(x, (8, 6)), (1, 4, 3, 2)), find_op_def)
    assert run(found.graph_def, found.output_tensors[0], np.ones((1, 4, 3, 2))).dtype == np.float64


def test_half_precision_is_widened_too() -> None:
    found = widen_graph(flatten(lambda x: tf.cast(x, tf.float16) * tf.constant(0.1, tf.float16), (3,)), find_op_def)
    y = run(found.graph_def, found.output_tensors[0], np.array([1 / 3, 1.0, 70000.0]))
    tenth = np.float64(np.float16(0.1))
    np.testing.assert_allclose(y, np.array([1 / 3, 1.0, 70000.0]) * tenth, rtol=1e-15)


def test_complex_numbers_are_widened_with_the_others() -> None:
    found = widen_graph(flatten(lambda x: tf.abs(tf.signal.rfft(x)), (16,)), find_op_def)
    assert found.kept_ops == ()
    x = np.random.default_rng(3).normal(size=16)
    np.testing.assert_allclose(run(found.graph_def, found.output_tensors[0], x), np.abs(np.fft.rfft(x)), rtol=1e-12)


def test_random_numbers_stay_those_of_their_dtype() -> None:
    found = widen_graph(flatten(lambda x: x + tf.random.uniform((3,), seed=1), (3,)), find_op_def)
    assert found.kept_ops == ("RandomUniform",)


def test_bodies_of_loops_are_widened() -> None:
    def count(x: Any) -> Any:
        return tf.compat.v1.while_loop(lambda i, y: i < 5, lambda i, y: (i + 1, y * 1.1), (tf.constant(0), x))[1]

    tf.compat.v1.enable_control_flow_v2()
    found = widen_graph(flatten(count, (2,)), find_op_def)
    types = {
        value.type
        for function in found.graph_def.library.function
        for node in function.node_def
        for value in node.attr.values()
    }
    assert found.graph_def.library.function
    assert not types & NARROW
    factor = np.float64(np.float32(1.1))
    x = np.array([1.0, 1 / 3])
    np.testing.assert_allclose(run(found.graph_def, found.output_tensors[0], x), x * factor**5, rtol=1e-14)


def test_an_op_without_a_float64_kernel_in_a_loop_is_named() -> None:
    def resize(x: Any) -> Any:
        def body(i: Any, y: Any) -> Any:
            return i + 1, tf.compat.v1.image.resize_bilinear(y, (4, 4))

        return tf.compat.v1.while_loop(lambda i, y: i < 5, body, (tf.constant(0), x))[1]

    tf.compat.v1.enable_control_flow_v2()
    with pytest.raises(GraphError, match=r"BH205 ResizeBilinear \(.*\) in the body of a loop"):
        widen_graph(flatten(resize, (1, 4, 4, 2)), find_op_def)
