"""Each own handler, and each op that tf2onnx once got wrong, beside TensorFlow; what is refused is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from run_lowered import compare_lowered, cut_function

from beforehand.errors import LoweringError
from beforehand.lower.handlers.refused_ops import REFUSED_OPS
from beforehand.lower.translate import list_supported_ops, translate

RNG = np.random.default_rng(7)
raw = tf.raw_ops


def floats(*shape: int, low: float = -3.0, high: float = 3.0) -> Any:
    return RNG.uniform(low, high, shape).astype(np.float32)


def wholes(*shape: int, low: int = -7, high: int = 8, dtype: Any = np.int32) -> Any:
    return RNG.integers(low, high, shape).astype(dtype)


def not_zero(array: Any) -> Any:
    return np.where(array == 0, np.array(3, array.dtype), array)


BIG = wholes(40, low=-(2**31), high=2**31 - 1)
NEAR_ZERO = np.array([-1e-6, -1e-8, 0.0, 1e-12, 1e-7, 3e-4], np.float32)
IDS = np.array([2, 0, 1, -1, 2], np.int32)
SORTED = np.array([0, 0, 1, 3, 3], np.int32)

CASES: dict[str, tuple[Any, ...]] = {
    "where keeps what it does not choose out": (lambda x: tf.where(x > 0, tf.math.log(x), 0.0), floats(20)),
    "where of infinities": (lambda x: tf.where(x > 0, 1 / x, x), np.array([0, 1, -2], np.float32)),
    "where of truths": (lambda x, y: tf.where(x, y, ~y), wholes(9) > 0, wholes(9) > 0),
    "the first Select by rows": (lambda c, x, y: raw.Select(condition=c, x=x, y=y), wholes(3) > 0, floats(3, 4), floats(3, 4)),
    "where broadcasts": (tf.where, wholes(3, 1) > 0, floats(4), floats(1, 1)),
    "floor division of whole numbers": (lambda x, y: x // y, wholes(40), not_zero(wholes(40))),
    "floor division of large whole numbers": (lambda x, y: x // y, BIG, not_zero(BIG[::-1])),
    "floor division of bytes": (lambda x, y: x // y, wholes(9, low=0, high=255, dtype=np.uint8), wholes(9, low=1, high=255, dtype=np.uint8)),
    "floor modulo of whole numbers": (lambda x, y: x % y, wholes(40), not_zero(wholes(40))),
    "floor modulo of large whole numbers": (lambda x, y: x % y, BIG, not_zero(BIG[::-1])),
    "floor modulo": (lambda x, y: x % y, floats(9), not_zero(floats(9))),
    "truncated division": (lambda x, y: raw.TruncateDiv(x=x, y=y), floats(9), not_zero(floats(9))),
    "truncated modulo of whole numbers": (lambda x, y: raw.TruncateMod(x=x, y=y), wholes(40), not_zero(wholes(40))),
    "truncated modulo": (lambda x, y: raw.Mod(x=x, y=y), floats(9), not_zero(floats(9))),
    "erfc": (tf.math.erfc, floats(20)),
    "gelu": (tf.nn.gelu, floats(20)),
    "log1p near zero": (tf.math.log1p, NEAR_ZERO),
    "log1p": (tf.math.log1p, floats(20, low=-0.9, high=9.0)),
    "expm1 near zero": (tf.math.expm1, NEAR_ZERO),
    "expm1": (tf.math.expm1, floats(20, low=-50.0, high=20.0)),
    "xlogy": (tf.math.xlogy, np.array([0, 0, 2], np.float32), np.array([0, np.inf, 3], np.float32)),
    "xlog1py": (tf.math.xlog1py, np.array([0, 0, 2], np.float32), np.array([-1, np.inf, 3], np.float32)),
    "xdivy": (tf.math.xdivy, np.array([0, 0, 2], np.float32), np.array([0, np.inf, 3], np.float32)),
    "multiply_no_nan": (tf.math.multiply_no_nan, np.array([np.nan, np.inf, 2], np.float32), np.array([0, 0, 3], np.float32)),
    "approximate equality": (lambda x, y: raw.ApproximateEqual(x=x, y=y, tolerance=0.5), floats(9), floats(9)),
    "another name": (lambda x: raw.AccumulateNV2(inputs=[raw.Inv(x=x), x], shape=[9]), not_zero(floats(9))),
    "the euclidean norm": (lambda x: raw.EuclideanNorm(input=x, axis=[1]), floats(3, 4)),
    "half the sum of squares": (tf.nn.l2_loss, floats(3, 4)),
    "one hot has nothing for indices outside": (lambda x: tf.one_hot(x, 5), wholes(3, 4, low=-2, high=8)),
    "one hot along an axis": (lambda x: tf.one_hot(x, 5, 2.0, -1.0, axis=1), wholes(3, 4, low=0, high=5)),
    "one hot of a depth that is computed": (lambda x, d: tf.one_hot(x, d[0]), wholes(3, low=0, high=5), np.array([6], np.int32)),
    "linspace": (lambda x: raw.LinSpace(start=x[0], stop=x[1], num=5), floats(2)),
    "linspace of one": (lambda x: raw.LinSpace(start=x[0], stop=x[1], num=1), floats(2)),
    "shapes of several": (lambda x, y: raw.ShapeN(input=[x, y]), floats(2, 3), floats(4)),
    "an inverted permutation": (tf.math.invert_permutation, np.array([2, 0, 1], np.int32)),
    "updates of one place add up": (lambda u: tf.scatter_nd([[1], [1], [2]], u, [4]), floats(3)),
    "whole updates of one place add up": (lambda u: tf.scatter_nd([[1], [1], [2]], u, [4]), wholes(3)),
    "bilinear resize of bytes": (lambda x: raw.ResizeBilinear(images=x, size=[7, 9], half_pixel_centers=True), wholes(1, 5, 6, 2, low=0, high=255, dtype=np.uint8)),
    "float16 that is no number": (lambda x: (tf.math.is_finite(x), tf.math.is_inf(x)), np.array([1, np.inf, np.nan, -np.inf], np.float16)),
    "padding of float16": (lambda x: tf.pad(x, [[0, 0], [1, 2]], constant_values=tf.constant(2, tf.float16)), floats(3, 4).astype(np.float16)),
    **{f"segment_{kind}": (getattr(tf.math, f"segment_{kind}"), floats(5, 3), SORTED) for kind in ("sum", "mean", "max", "min", "prod")},
    **{
        f"unsorted_segment_{kind}": (lambda x, s, kind=kind: getattr(tf.math, f"unsorted_segment_{kind}")(x, s, 4), floats(5, 3), IDS)
        for kind in ("sum", "mean", "max", "min", "prod", "sqrt_n")
    },
    "unsorted segments of rank 2": (lambda x, s: tf.math.unsorted_segment_sum(x, s, 4), floats(2, 3, 2), np.array([[2, 0, 1], [0, 2, 3]])),
    "unsorted segments of whole numbers": (lambda x, s: tf.math.unsorted_segment_max(x, s, 4), wholes(5, 3), IDS),
    **{
        f"sparse segment_{kind}": (lambda x, kind=kind: getattr(tf.sparse, f"segment_{kind}")(x, [0, 2, 1], [0, 0, 2], num_segments=4), floats(5, 3))
        for kind in ("sum", "mean", "sqrt_n")
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_engine_answers_as_tensorflow_does(case: str) -> None:
    function, *arrays = CASES[case]
    compare_lowered(function, *arrays)


def test_the_sign_of_zero_is_seen_as_keras_asks_for_it() -> None:
    import keras

    x = np.array([[0.0, -0.0, -1.0], [-0.0, 0.0, -0.0], [3.0, -2.0, 5.0]], np.float32)
    compare_lowered(lambda value: keras.ops.argmax(value, axis=-1), x)


REFUSED: dict[str, tuple[Callable[..., Any], Any, str]] = {
    "sums of bytes": (lambda x: x + x, wholes(3, dtype=np.int8), "8-bit"),
    "a shift to the right": (lambda x: raw.RightShift(x=x, y=x), wholes(3), "shifts unsigned"),
    "an einsum of one": (
        lambda x: raw.Einsum(inputs=[x], equation="ij->ji"),
        floats(3, 3),
        "two operands",
    ),
    "a bitcast": (lambda x: tf.bitcast(x, tf.int32), floats(3), "Bitcast"),
    "soft suppression": (
        lambda b: tf.image.non_max_suppression_with_scores(b, b[:, 0], 10, soft_nms_sigma=0.5),
        floats(5, 4),
        "orders the boxes",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_an_engine_would_answer_otherwise_is_refused_with_the_reason(case: str) -> None:
    function, array, words = REFUSED[case]
    cut = cut_function(function, [tf.TensorSpec([None] * array.ndim, array.dtype)])
    with pytest.raises(LoweringError, match=r"^BH302 ") as raised:
        translate(cut)
    assert words in str(raised.value)
    assert raised.value.nodes


def test_ops_that_are_never_right_are_no_candidates() -> None:
    assert not REFUSED_OPS.keys() & list_supported_ops()
    assert {"Erfc", "FloorDiv", "SelectV2"} <= list_supported_ops()
