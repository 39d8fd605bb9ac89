"""Numbers that come of sizes are known for every size, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from beforehand.lower.follow_sizes import Size, UnknownSizeError, follow_sizes, make_axis_size, make_constant_size

OPERATORS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "%": lambda a, b: a % b}
STEPS = st.lists(
    st.tuples(st.sampled_from("+-*%"), st.one_of(st.integers(1, 9), st.just("n"), st.just("last"))), max_size=7
)


def evaluate(steps: Any, n: Any, make: Any) -> Any:
    value = last = n
    for operator, operand in steps:
        other = {"n": n, "last": last}.get(operand) if isinstance(operand, str) else make(operand)
        last, value = value, OPERATORS[operator](value, other)
    return value


def at(size: Size, n: int) -> int:
    return size.slope * n + size.rest[n % len(size.rest)]


@given(STEPS)
def test_a_number_is_the_same_for_each_size(steps: Any) -> None:
    try:
        size = evaluate(steps, make_axis_size(1), make_constant_size)
    except UnknownSizeError:
        return  # a product of sizes, a remainder by one, or a long period
    for n in (0, 1, 2, 3, 7, 30, 31, 997):
        assert at(size, n) == evaluate(steps, n, int)


def test_the_sizes_of_two_axes_are_not_put_together() -> None:
    with pytest.raises(UnknownSizeError):
        make_axis_size(1) + make_axis_size(2)


def follow(function: Any) -> np.ndarray[Any, Any]:
    """The numbers that a function computes of the sizes of its first argument."""
    graph = tf.function(function, autograph=False).get_concrete_function(
        tf.TensorSpec([None, None, 7], tf.float32), tf.TensorSpec([None, None, 7], tf.float32)
    ).graph  # fmt: skip
    return follow_sizes(graph.outputs[0], graph.inputs[0])


def test_the_operations_of_paddings_are_followed() -> None:
    def compute(x: Any, _: Any) -> Any:
        block = tf.constant([2, 3, 1])
        shape = tf.shape(x) + tf.constant([4, 1, 0])
        extra = (block - shape % block) % block
        pairs = tf.stack([[0, extra[0]], [1, extra[1]], [2, extra[2]]])
        return tf.concat([pairs[:2], tf.expand_dims(tf.reshape(pairs[2:, :], [-1]), 0)], 0)

    found = follow(compute)
    assert found.shape == (3, 2)
    assert [[at(size, 5) for size in row] for row in found] == [[0, 1], [1, 0], [2, 0]]
    assert [[size.axis for size in row] for row in found] == [[None, 0], [None, 1], [None, None]]


@pytest.mark.parametrize(
    "function",
    [
        lambda _, y: tf.shape(y),
        lambda x, _: tf.shape(tf.nn.relu(x)),
        lambda x, _: tf.cast(x[0, 0], tf.int32),
        lambda x, _: tf.shape(x) // 2,
        lambda x, _: tf.maximum(tf.shape(x), 3),
    ],
    ids=["of another tensor", "behind an operation", "of values", "divided", "the larger one"],
)
def test_what_is_not_known_for_sure_is_not_followed(function: Any) -> None:
    with pytest.raises(UnknownSizeError):
        follow(function)
