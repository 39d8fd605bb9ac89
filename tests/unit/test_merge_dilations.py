"""A dilated convolution becomes one operation, the same for every size; what only resembles one stays as it is."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from run_lowered import compare_lowered, cut_function

from beforehand.lower.cut_segment import CutSegment
from beforehand.lower.merge_dilations import merge_dilations

Function = Callable[..., Any]
RNG = np.random.default_rng(0)


def draw(*shape: int, dtype: Any = np.float64) -> np.ndarray[Any, Any]:
    return RNG.normal(size=shape).astype(dtype)


def count(cut: CutSegment, op: str) -> int:
    return sum(node.op == op for node in cut.graph_def.node)


def merge(function: Function, shape: Sequence[int | None], dtype: Any = tf.float64) -> tuple[CutSegment, CutSegment]:
    cut = cut_function(function, [tf.TensorSpec(shape, dtype)])
    return cut, merge_dilations(cut)


def run(cut: CutSegment, x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(cut.graph_def, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            return list(session.run(list(cut.outputs), {cut.inputs[0]: x}))


def compare(cut: CutSegment, merged: CutSegment, x: np.ndarray[Any, Any]) -> bool:
    """Whether TensorFlow computes the original at all for this; if so, both give the same."""
    with contextlib.suppress(tf.errors.InvalidArgumentError):
        wanted = run(cut, x)
        for have, want in zip(run(merged, x), wanted, strict=True):
            assert have.shape == want.shape
            np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-12)
        return True
    return False


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    dilations=st.lists(st.integers(1, 6), min_size=2, max_size=2),
    padding=st.sampled_from(["SAME", "VALID", "EXPLICIT"]),
    amounts=st.lists(st.integers(0, 5), min_size=4, max_size=4),
    sizes=st.lists(st.integers(1, 24), min_size=2, max_size=2),
    known=st.booleans(),
)
def test_it_computes_what_tensorflow_does_for_every_size(
    kernel: list[int], dilations: list[int], padding: Any, amounts: list[int], sizes: list[int], known: bool
) -> None:
    rank = len(kernel)
    if padding == "EXPLICIT":
        if rank == 1 or dilations == [1, 1]:
            return  # TensorFlow takes these for images alone, and dilated ones
        padding = [[0, 0], amounts[:2], amounts[2:], [0, 0]]
    weight = draw(*kernel, 2, 3)

    def function(x: Any) -> Any:
        return tf.nn.convolution(x, weight, padding=padding, dilations=dilations[:rank])

    shape = [None, *(sizes[:rank] if known else [None] * rank), 2]
    try:
        cut, merged = merge(function, shape)
    except ValueError:
        assert known  # it is smaller than the kernel, which TensorFlow sees at once
        return
    assert count(merged, "SpaceToBatchND") == count(merged, "BatchToSpaceND") == 0
    seen = [
        compare(cut, merged, draw(2, *(size + more for size in sizes[:rank]), 2)) for more in range(1 if known else 7)
    ]
    assert all(seen) or padding != "SAME"


@pytest.mark.parametrize("static", [False, True], ids=["any size", "one size"])
def test_engines_give_what_tensorflow_does(static: bool) -> None:
    """Where TensorFlow itself has no such convolution for CPUs: through channels, in three dimensions; and by Keras."""
    f32 = np.float32
    line, image, volume = draw(3, 4, 5, dtype=f32), draw(3, 2, 4, 5, dtype=f32), draw(3, 2, 2, 4, 5, dtype=f32)
    for size in (17, 18):
        compare_lowered(
            lambda x: tf.nn.convolution(tf.ensure_shape(x, [None, None, 4]), line, dilations=2, padding="SAME"),
            draw(2, size, 4, dtype=f32), static=static,
        )  # fmt: skip
        for padding in ("SAME", "VALID"):
            compare_lowered(
                lambda x, p=padding: tf.nn.depthwise_conv2d(
                    tf.ensure_shape(x, [None, None, None, 4]), image, [1, 1, 1, 1], p, dilations=[2, 3]
                ),
                draw(2, size, 13, 4, dtype=f32), static=static,
            )  # fmt: skip
            compare_lowered(
                lambda x, p=padding: tf.nn.convolution(
                    tf.ensure_shape(x, [None, None, None, None, 4]), volume, dilations=[2, 3, 1], padding=p
                ),
                draw(2, size, 13, 5, 4, dtype=f32), static=static,
            )  # fmt: skip


def test_paddings_in_front_are_not_forgotten() -> None:
    """tf2onnx 1.17 takes paddings that it does not understand for none."""
    image = draw(3, 2, 4, 5, dtype=np.float32)
    compare_lowered(
        lambda x: tf.nn.convolution(
            tf.ensure_shape(x, [None, None, None, 4]), image, dilations=2, padding=[[0, 0], [4, 0], [2, 0], [0, 0]]
        ),
        draw(2, 17, 13, 4, dtype=np.float32),
    )


def by_hand(
    x: Any, block: Any = 3, paddings: Any = (0, 0), crops: Any = (0, 0), between: Function = lambda y: y, **options: Any
) -> Any:
    """A dilated convolution along the first axis of an image, in TensorFlow's own words."""
    pieces = tf.space_to_batch(x, [block, 1], [paddings, [0, 0]])
    done = between(tf.nn.conv2d(pieces, KERNEL, **{"strides": 1, "padding": "VALID", **options}))
    return tf.batch_to_space(done, [block, 1], [crops, [0, 0]])


KERNEL = draw(2, 1, 2, 3)
FIXED = [None, 12, 4, 2]
FREE = [None, None, 4, 2]


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        (FIXED, {}),
        (FIXED, {"paddings": (2, 1)}),
        (FIXED, {"paddings": (2, 4), "crops": (1, 3)}),
        (FIXED, {"paddings": (3, 0), "crops": (3, 0)}),
        (FIXED, {"strides": [1, 1, 2, 1]}),
    ],
)
def test_constants_that_fit_the_size_are_merged(shape: Any, options: Any) -> None:
    cut, merged = merge(lambda x: by_hand(x, **options), shape)
    assert count(merged, "SpaceToBatchND") == 0
    assert compare(cut, merged, draw(2, 12, 4, 2))


@pytest.mark.parametrize(
    ("shape", "function"),
    [
        (FREE, by_hand),  # other sizes than multiples of the block are an error in TensorFlow
        (FIXED, lambda x: by_hand(x, crops=(1, 0))),  # it takes off what the image gives
        (FIXED, lambda x: by_hand(x, paddings=(0, 3), crops=(0, 4))),
        (FIXED, lambda x: by_hand(x, strides=[1, 2, 1, 1])),
        (FIXED, lambda x: by_hand(x, padding="SAME")),
        (FIXED, lambda x: by_hand(x, dilations=[1, 2, 1, 1])),
        (FIXED, lambda x: by_hand(x, between=tf.nn.relu)),
        (FREE, lambda x: by_hand(x, paddings=(0, tf.shape(x)[1] % 3))),  # the other way round
        (FREE, lambda x: by_hand(x, paddings=(0, (3 - tf.shape(x)[1] % 3) % 3))),  # and not cropped
        (FREE, lambda x: by_hand(x, paddings=(0, (3 - tf.shape(x)[2] % 3) % 3))),  # of the other axis
        (FREE, lambda x: by_hand(x, paddings=(0, (3 - tf.shape(x * 2)[1] % 3) % 3))),
        (FIXED, lambda x: tf.batch_to_space(tf.nn.conv2d(tf.space_to_batch(x, [3, 1], [[0, 0]] * 2), KERNEL, 1, "VALID"),
                                            [1, 3], [[0, 0]] * 2)),
    ],
)  # fmt: skip
def test_what_is_not_the_same_for_every_size_stays(shape: Any, function: Function) -> None:
    cut, merged = merge(function, shape)
    assert merged is cut
    assert count(cut, "BatchToSpaceND") == 1


@pytest.mark.parametrize("which", ["SpaceToBatchND", "Conv2D"])
def test_what_is_read_elsewhere_stays(which: str) -> None:
    cut = cut_function(by_hand, [tf.TensorSpec(FIXED, tf.float64)])
    between = next(node.name for node in cut.graph_def.node if node.op == which)
    cut = dataclasses.replace(cut, outputs=(f"{between}:0", *cut.outputs))
    assert merge_dilations(cut) is cut


def test_what_is_left_alone_is_right_in_engines() -> None:
    kernel = KERNEL.astype(np.float32)

    def function(x: Any) -> Any:
        pieces = tf.space_to_batch(tf.ensure_shape(x, FREE), [3, 1], [[2, 1], [0, 0]])
        return tf.batch_to_space(tf.nn.conv2d(pieces, kernel, 1, "VALID"), [3, 1], [[0, 5], [0, 0]])

    compare_lowered(function, draw(2, 12, 4, 2, dtype=np.float32))
