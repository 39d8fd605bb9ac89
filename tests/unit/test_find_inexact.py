"""Whole numbers that an engine would not compute exactly are found; sizes, places and small ones are let through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from run_lowered import compare_lowered, cut_function

from beforehand.lower.find_inexact import find_inexact
from beforehand.runtime.tensorflow_private import find_op_def


def repeat(body: Callable[..., Any], *start: Any) -> Any:
    """The last value of a loop of three rounds."""
    return tf.while_loop(lambda i, *values: i < 3, lambda i, *values: (i + 1, *body(*values)), [0, *start])[-1]


def choose(x: Any, way: Callable[[Any], Any], other: Callable[[Any], Any]) -> Any:
    return tf.cond(tf.size(x) > 2, lambda: way(x), lambda: other(x))


def sum_rows(x: Any) -> Any:
    return tf.reduce_sum(x, 1)


def count_truths(x: Any) -> Any:
    return tf.cast(tf.reduce_sum(tf.cast(x > 2.0, tf.int32)), tf.float32)


ANY64, ANY32, FLOATS = (tf.TensorSpec([None, None], dtype) for dtype in (tf.int64, tf.int32, tf.float32))
INEXACT: dict[str, tuple[Callable[..., Any], tf.TensorSpec]] = {
    "a sum of int64": (lambda x: x + 1, ANY64),
    "a comparison of int64": (lambda x: tf.equal(x, 0), ANY64),
    "int64 as floats": (lambda x: tf.cast(x, tf.float32), ANY64),
    "int64 that is only moved": (tf.transpose, ANY64),
    "the sum of any int32": (lambda x: tf.reduce_sum(x, 1), ANY32),
    "the largest of any int32": (lambda x: tf.reduce_max(x, 1), ANY32),
    "a product of matrices of int32": (lambda x: tf.matmul(x, x), ANY32),
    "the largest of floats as whole numbers": (lambda x: tf.reduce_max(tf.cast(x, tf.int32), 1), FLOATS),
    "a sum in a way of a branch": (lambda x: choose(x, lambda x: x[0], sum_rows), ANY32),
    "a sum in a branch in a loop": (lambda x: repeat(lambda v: [v + choose(x, sum_rows, sum_rows)[0]], x), ANY32),
    "a product of matrices in a loop": (lambda x: repeat(lambda v: [tf.matmul(v, x)], x), ANY32),
    "the largest in a loop's condition": (
        lambda x: tf.while_loop(lambda v: tf.reduce_max(v) < 9, lambda v: [v + 1], [x])[0],
        ANY32,
    ),
    "the sum of what has grown in the rounds before": (
        lambda x: repeat(lambda u, v, s: [x, u, sum_rows(v)[0]], *[tf.zeros(tf.shape(x), x.dtype)] * 2, 0),
        ANY32,
    ),
    "64 bits out of a body": (
        lambda x: choose(x, lambda x: tf.constant(1 << 40), lambda x: tf.constant(4, tf.int64)),
        FLOATS,
    ),
}
EXACT: dict[str, tuple[Callable[..., Any], tf.TensorSpec]] = {
    "int64 that points at rows": (lambda x: tf.gather(np.ones((9, 2), np.float32), x), ANY64),
    "int64 as int32": (lambda x: tf.cast(x, tf.int32) + 1, ANY64),
    "the number of truths": (lambda x: tf.reduce_sum(tf.cast(x > 0, tf.int32), 1), FLOATS),
    "the number of truths in int64": (lambda x: tf.reduce_sum(tf.cast(x > 0, tf.int64), 1), FLOATS),
    "sizes": (lambda x: tf.reduce_prod(tf.shape(x, out_type=tf.int64)) * 2, FLOATS),
    "places": (lambda x: tf.argmax(x, 1) + 1, FLOATS),
    "int32 arithmetic": (lambda x: x * 7 - x // 3, ANY32),
    "int32 arithmetic in a loop": (lambda x: repeat(lambda v: [v * 2 - x], x), ANY32),
    "the number of truths in a loop": (lambda x: repeat(lambda v: [v + count_truths(v)], x), FLOATS),
    "sizes in a branch": (lambda x: choose(x, lambda x: tf.reduce_prod(tf.shape(x)), tf.size), FLOATS),
    "a counter of 64 bits": (
        lambda x: tf.while_loop(
            lambda i, v: i < 3, lambda i, v: (i + 1, v + tf.gather(v, i % 2)), [tf.constant(0, tf.int64), x]
        )[1],
        FLOATS,
    ),
}


@pytest.mark.parametrize("case", INEXACT)
def test_what_openvino_would_round_or_cut_off_is_found(case: str) -> None:
    function, spec = INEXACT[case]
    assert find_inexact(cut_function(function, [spec]), find_op_def)


@pytest.mark.parametrize("case", EXACT)
def test_what_is_exact_is_let_through_and_is_exact(case: str) -> None:
    function, spec = EXACT[case]
    assert find_inexact(cut_function(function, [spec]), find_op_def) == {}
    array = np.random.default_rng(1).integers(0, 9, (3, 4)).astype(spec.dtype.as_numpy_dtype)
    compare_lowered(function, array)


def test_what_is_in_a_body_is_said_of_its_loop_or_branch() -> None:
    cut = cut_function(lambda x: repeat(lambda v: [v + choose(x, sum_rows, sum_rows)[0]], x), [ANY32])
    reason = "OpenVINO reduces whole numbers in float32, which is exact up to 2**24"
    assert find_inexact(cut, find_op_def) == {
        "while": f"its body holds while/cond: its body holds while/cond/Sum: {reason}"
    }
