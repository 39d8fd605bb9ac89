"""Ragged tensors, segment sums, assertions, random numbers: each maker writes a SavedModel into a folder."""

import numpy as np
import tensorflow as tf
from draw_inputs import integers, splits_of, uniform

from makers.registry import maker


class _Net(tf.Module):
    """Two dense layers before, two after what makes the model special."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.first = tf.Variable(rng.normal(0, 0.5, (8, 24)).astype(np.float32))
        self.second = tf.Variable(rng.normal(0, 0.3, (24, 16)).astype(np.float32))
        self.third = tf.Variable(rng.normal(0, 0.4, (16, 24)).astype(np.float32))
        self.head = tf.Variable(rng.normal(0, 0.4, (24, 3)).astype(np.float32))

    def encode(self, x):
        return tf.tanh(tf.nn.relu(x @ self.first) @ self.second)

    def decode(self, v):
        return tf.nn.softmax(tf.nn.relu(v @ self.third) @ self.head)


def _save(module: tf.Module, folder: str) -> None:
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})


@maker
def make_ragged_inputs(folder):
    """A ragged tensor as its values and row splits (as SavedModels of ragged models have it), averaged by row."""

    class RaggedInputs(_Net):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 8], tf.float32, name="values"),
                tf.TensorSpec([None], tf.int64, name="row_splits"),
            ]
        )
        def call(self, values, row_splits):
            encoded = self.encode(values)
            ragged = tf.RaggedTensor.from_row_splits(encoded, row_splits)
            return {"y": self.decode(tf.reduce_mean(ragged, axis=1)), "lengths": ragged.row_lengths()}

    _save(RaggedInputs(51), folder)
    return {"values": uniform(), "row_splits": splits_of("values")}


@maker
def make_ragged_inside(folder):
    """Ragged inside only: rows are cut to their lengths, encoded, and padded again."""

    class RaggedInside(_Net):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 5, 8], tf.float32, name="x"),
                tf.TensorSpec([None], tf.int32, name="lengths"),
            ]
        )
        def call(self, x, lengths):
            ragged = tf.RaggedTensor.from_tensor(x, lengths=lengths)
            encoded = ragged.with_values(self.encode(ragged.values))
            return {"y": self.decode(tf.reduce_sum(encoded.to_tensor(shape=[None, 5, 16]), axis=1))}

    _save(RaggedInside(52), folder)
    return {"x": uniform(), "lengths": integers(1, 6)}


@maker
def make_segment_sums(folder):
    """Sorted and unsorted segment sums between dense layers, as graph networks have them."""

    class SegmentSums(_Net):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 8], tf.float32, name="edges"),
                tf.TensorSpec([None], tf.int32, name="targets"),
                tf.TensorSpec([], tf.int32, name="count"),
            ]
        )
        def call(self, edges, targets, count):
            encoded = self.encode(edges)
            nodes = tf.math.unsorted_segment_sum(encoded, targets, count)
            order = tf.sort(targets)
            return {"y": self.decode(nodes), "sorted": tf.math.segment_sum(encoded, order)}

    _save(SegmentSums(53), folder)
    return {"edges": uniform(), "targets": integers(0, 4), "count": integers(4, 5)}


@maker
def make_assertions(folder):
    """Assertions on values and shapes on the way; the wrong ones must still raise."""

    class Assertions(_Net):
        @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, name="x")])
        def call(self, x):
            with tf.control_dependencies([tf.debugging.assert_non_negative(x, message="x must not be negative")]):
                encoded = self.encode(x)
            encoded = tf.debugging.check_numerics(encoded, "encoded")
            tf.debugging.assert_less(tf.reduce_max(tf.abs(encoded)), 1.5)
            return {"y": self.decode(encoded)}

    _save(Assertions(54), folder)
    return {"x": uniform()}


@maker
def make_random(folder):
    """Random numbers of both kinds: stateless ones count, the stateful ones cannot change the result."""

    class Random(_Net):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 8], tf.float32, name="x"),
                tf.TensorSpec([2], tf.int32, name="seed"),
            ]
        )
        def call(self, x, seed):
            encoded = self.encode(x)
            encoded *= tf.random.stateless_uniform(tf.shape(encoded), seed, 0.8, 1.2)
            kept = tf.where(tf.random.uniform(tf.shape(encoded)) < 2.0, encoded, -100.0)
            return {"y": self.decode(kept)}

    _save(Random(55), folder)
    return {"x": uniform(), "seed": integers(0, 1000)}
