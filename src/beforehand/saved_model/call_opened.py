"""A loop or branch made anew, with engines in its bodies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from beforehand.records import Opened

# Makes the body of that place, of its inputs.
MakeBody = Callable[[int, Sequence[tf.Tensor]], Sequence[tf.Tensor]]


def call_opened(
    node: Any, opened: Opened, values: Sequence[tf.Tensor | None], make_body: MakeBody
) -> dict[int, tf.Tensor]:
    """The outputs of the node by index; of a loop, those of what it carries alone.

    Args:
        node: The loop or branch, for its op and attributes.
        opened: What was found in it.
        values: All its inputs; None for those that bodies have as their own.
        make_body: Called while the body is traced.
    """
    if node.op.endswith("While"):
        return _call_loop(node, opened, values, make_body)
    chosen, arguments = values[0], values[1:]

    def make_branch(place: int) -> Callable[[], list[tf.Tensor]]:
        # By way of an op: what a body is made of must be in its graph.
        return lambda: list(make_body(place, [tf.identity(arguments[index]) for index in opened.captured]))

    branches = [make_branch(place) for place in range(len(opened.bodies))]
    if node.op.endswith("Case"):
        results = tf.switch_case(chosen, branches)
    else:
        results = tf.cond(_as_condition(chosen), *branches)
    return dict(enumerate(results))


def _call_loop(
    node: Any, opened: Opened, values: Sequence[tf.Tensor | None], make_body: MakeBody
) -> dict[int, tf.Tensor]:
    captured = [values[index] for index in opened.captured]

    def make(place: int, carried: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return list(make_body(place, [*(tf.identity(value) for value in captured), *carried]))

    shapes = node.attr["output_shapes"].list.shape
    results = tf.while_loop(
        lambda *carried: _as_condition(make(0, carried)[0]),
        lambda *carried: make(1, carried),
        [values[index] for index in opened.carried],
        shape_invariants=[tf.TensorShape(shapes[index] if shapes else None) for index in opened.carried],
        parallel_iterations=node.attr["parallel_iterations"].i or 10,
    )
    return dict(zip(opened.carried, results, strict=True))


def _as_condition(value: tf.Tensor) -> tf.Tensor:
    """What `If` and `While` take for true: a number that is not 0, or anything that is not empty."""
    if value.dtype == tf.bool and value.shape.rank == 0:
        return value
    return tf.raw_ops.ToBool(input=value)  # by value or by size, once the rank is known
