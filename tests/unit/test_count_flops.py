"""Floating-point operations of single nodes, against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from beforehand.records import FlatGraph, Signature
from beforehand.segment.count_flops import count_flops
from beforehand.segment.describe_tensors import describe_tensors


def count(make: Callable[..., Any], *shapes: Any) -> int:
    """The count of the node that `make` gives, of placeholders of `shapes`."""
    with tf.Graph().as_default() as graph:
        made = make(*(tf.compat.v1.placeholder(tf.float32, shape) for shape in shapes))
        node = made.op.node_def
        flat = FlatGraph(Signature("k", (), ()), graph.as_graph_def(), (), (), ())
    return count_flops(node, describe_tensors(flat))


def convolve(x: Any, kernel: Any) -> Any:
    return tf.nn.conv2d(x, kernel, strides=2, padding="SAME")


@pytest.mark.parametrize(
    ("expected", "make", "shapes"),
    [
        (2 * (1 * 4 * 4 * 16) * (3 * 3 * 3), convolve, [(1, 8, 8, 3), (3, 3, 3, 16)]),
        (2 * (1 * 4 * 4 * 16) * (3 * 3 * 3), convolve, [(None, 8, 8, 3), (3, 3, 3, 16)]),
        (
            2 * (1 * 8 * 8 * 6) * (3 * 3),
            lambda x, k: tf.nn.depthwise_conv2d(x, k, [1, 1, 1, 1], "SAME"),
            [(1, 8, 8, 3), (3, 3, 3, 2)],
        ),
        (
            2 * (1 * 4 * 4 * 5) * (2 * 2) * 3,
            lambda x, k: tf.nn.conv2d_transpose(x, k, [1, 8, 8, 3], 2),
            [(1, 4, 4, 5), (2, 2, 3, 5)],
        ),
        (2 * 4 * 6 * 5, tf.matmul, [(4, 5), (5, 6)]),
        (2 * 4 * 6 * 5, lambda a, b: tf.matmul(a, b, transpose_a=True, transpose_b=True), [(5, 4), (6, 5)]),
        (2 * 7 * 4 * 6 * 5, tf.matmul, [(7, 4, 5), (7, 5, 6)]),
        (2 * 7 * 4 * 6 * 5, lambda a, b: tf.matmul(a, b, transpose_a=True), [(7, 5, 4), (7, 5, 6)]),
        (2 * 3 * 4 * 5 * 6, lambda a, b: tf.einsum("bij,bjk->bik", a, b), [(3, 4, 5), (3, 5, 6)]),
        (
            2 * 3 * 7 * 4 * 5 * 6,
            lambda a, b: tf.raw_ops.Einsum(inputs=[a, b], equation="...ij,...jk->...ik"),
            [(3, 7, 4, 5), (7, 5, 6)],
        ),
        (24, tf.nn.relu, [(2, 3, 4)]),
        (24, tf.add, [(2, 3, 4), (4,)]),
        (0, lambda x: tf.reshape(x, [6]), [(2, 3)]),
        (0, tf.transpose, [(2, 3)]),
        (0, tf.nn.relu, [(0, 3)]),
    ],
)
def test_the_count_is_the_one_worked_out_by_hand(expected: int, make: Callable[..., Any], shapes: list[Any]) -> None:
    assert count(make, *shapes) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda a, b: tf.raw_ops.MatMul(a=a, b=b),
        lambda a, b: tf.raw_ops.BatchMatMulV2(x=a, y=b),
        lambda a, b: tf.raw_ops.Mul(x=a, y=b),
    ],
    ids=["MatMul", "BatchMatMulV2", "Mul"],
)
def test_an_unknown_rank_counts_as_little_but_is_no_error(make: Callable[..., Any]) -> None:
    assert count(make, None, None) >= 0


def test_an_einsum_of_unknown_ranks_is_no_error() -> None:
    def make(a: Any, b: Any) -> Any:
        return tf.raw_ops.Einsum(inputs=[a, b], equation="bij,bjk->bik")

    assert count(make, None, None) >= 0
