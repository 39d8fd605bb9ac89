"""Whole numbers that an engine would not compute exactly are found; sizes, places and small ones are let through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from run_lowered import compare_lowered, cut_function

from beforehand.lower.find_inexact import find_inexact

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
}
EXACT: dict[str, tuple[Callable[..., Any], tf.TensorSpec]] = {
    "int64 that points at rows": (lambda x: tf.gather(np.ones((9, 2), np.float32), x), ANY64),
    "int64 as int32": (lambda x: tf.cast(x, tf.int32) + 1, ANY64),
    "the number of truths": (lambda x: tf.reduce_sum(tf.cast(x > 0, tf.int32), 1), FLOATS),
    "the number of truths in int64": (lambda x: tf.reduce_sum(tf.cast(x > 0, tf.int64), 1), FLOATS),
    "sizes": (lambda x: tf.reduce_prod(tf.shape(x, out_type=tf.int64)) * 2, FLOATS),
    "places": (lambda x: tf.argmax(x, 1) + 1, FLOATS),
    "int32 arithmetic": (lambda x: x * 7 - x // 3, ANY32),
}


@pytest.mark.parametrize("case", INEXACT)
def test_what_openvino_would_round_or_cut_off_is_found(case: str) -> None:
    function, spec = INEXACT[case]
    assert find_inexact(cut_function(function, [spec]))


@pytest.mark.parametrize("case", EXACT)
def test_what_is_exact_is_let_through_and_is_exact(case: str) -> None:
    function, spec = EXACT[case]
    assert find_inexact(cut_function(function, [spec])) == {}
    array = np.random.default_rng(1).integers(0, 9, (3, 4)).astype(spec.dtype.as_numpy_dtype)
    compare_lowered(function, array)
