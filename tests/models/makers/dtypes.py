"""Inputs and outputs of many dtypes, nested; two dynamic dimensions besides the batch; segment sums and ragged rows."""

import numpy as np
import tensorflow as tf
from draw_inputs import booleans, integers, uniform

from makers.registry import check_not_constant, maker


def make_variable(rng, *shape):
    return tf.Variable(rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32))


@maker
def make_nested_inputs(folder):
    """A Keras model with nested inputs, of whole numbers, truths, half precision; a signature's outputs cannot nest."""
    import keras

    keras.utils.set_random_seed(79)
    layers, ops = keras.layers, keras.ops
    given = {
        "user": {
            "id": keras.Input((), dtype="int64", name="id"),
            "active": keras.Input((), dtype="bool", name="active"),
        },
        "features": [
            keras.Input((6,), dtype="float16", name="half"),
            keras.Input((6,), dtype="float32", name="full"),
            keras.Input((4,), dtype="uint8", name="bytes"),
        ],
    }
    half, full, small = given["features"]
    known = layers.Embedding(50, 8)(given["user"]["id"])
    known = ops.where(given["user"]["active"][:, None], known, ops.zeros_like(known))
    x = layers.Concatenate()([known, ops.cast(half, "float32"), full, ops.cast(small, "float32") / 255.0])
    x = layers.Dense(16, activation="relu")(x)
    score = layers.Dense(3)(x)
    outputs = {
        "score": score,
        "score_half": ops.cast(score, "float16"),
        "choice": ops.cast(ops.argmax(score, axis=-1), "int64"),
        "is_first": score[:, 0] > score[:, 1],
    }
    model = keras.Model(given, outputs)
    model.export(folder, verbose=False)
    names = sorted(tf.saved_model.load(folder).signatures["serving_default"].structured_input_signature[1])
    draws = {
        "id": integers(0, 50, "int64"),
        "active": booleans(),
        "half": uniform(1.0, -1.0, "float16"),
        "full": uniform(1.0, -1.0),
        "bytes": integers(0, 256, "uint8"),
    }
    assert sorted(draws) == names, names
    return draws


@maker
def make_two_dynamic(folder):
    """A convolution of images of any height and width, a product of two lengths (as between query and document)."""

    class TwoDynamic(tf.Module):
        def __init__(self):
            super().__init__()
            rng = np.random.default_rng(83)
            self.left, self.right = make_variable(rng, 8, 16), make_variable(rng, 8, 16)
            self.kernel, self.head = make_variable(rng, 3, 3, 1, 4), make_variable(rng, 4, 3)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None, 8], tf.float32, name="query"),
                tf.TensorSpec([None, None, 8], tf.float32, name="document"),
            ],
            autograph=False,
        )
        def call(self, query, document):
            scores = tf.einsum("bqd,bkd->bqk", tf.matmul(query, self.left), tf.matmul(document, self.right))
            image = tf.nn.relu(tf.nn.conv2d(scores[..., tf.newaxis], self.kernel, 1, "SAME"))
            # The flat form that models use between layers: its size is known to nobody beforehand.
            shape = tf.shape(image)
            flat = tf.matmul(tf.reshape(image, [-1, 4]), self.head)
            return {
                "map": tf.reshape(flat, [shape[0], shape[1] * shape[2], 3]),
                "best": tf.reduce_max(image, axis=[1, 2]),
            }

    module = TwoDynamic()
    rng = np.random.default_rng(1)
    sample = [rng.normal(size=(3, length, 8)).astype(np.float32) for length in (5, 7)]
    check_not_constant(module.call(*sample).values())
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
    return {"query": uniform(1.0, -1.0), "document": uniform(1.0, -1.0)}


@maker
def make_graph_network(folder):
    """A network over nodes of graphs: rows are summed by the graph that they belong to, sorted and unsorted."""

    class GraphNetwork(tf.Module):
        def __init__(self):
            super().__init__()
            rng = np.random.default_rng(89)
            self.first, self.second, self.last = (
                make_variable(rng, 6, 16),
                make_variable(rng, 16, 16),
                make_variable(rng, 16, 3),
            )

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 6], tf.float32, name="nodes"),
                tf.TensorSpec([None], tf.int32, name="sources"),
                tf.TensorSpec([None], tf.int32, name="targets"),
            ],
            autograph=False,
        )
        def call(self, nodes, sources, targets):
            count = tf.shape(nodes)[0]
            x = tf.nn.relu(tf.matmul(nodes, self.first))
            for _ in range(2):
                messages = tf.gather(tf.matmul(x, self.second), sources)
                x = tf.nn.relu(x + tf.math.unsorted_segment_sum(messages, targets, count))
            best = tf.math.unsorted_segment_max(tf.gather(x, sources), targets, count)
            owners = tf.range(count) // 4
            pooled = tf.math.segment_sum(x, owners) + tf.math.segment_mean(x, owners)
            return {"graphs": tf.matmul(pooled, self.last), "best": tf.maximum(best, -1.0)}

    module = GraphNetwork()
    edges = np.random.default_rng(1).integers(0, 8, (2, 20)).astype(np.int32)
    nodes = np.random.default_rng(2).normal(size=(8, 6)).astype(np.float32)
    check_not_constant(module.call(nodes, *edges).values())
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
    return {"nodes": uniform(1.0, -1.0), "sources": integers(0, 8), "targets": integers(0, 8)}


@maker
def make_ragged(folder):
    """Dense rows and their lengths; within, a ragged tensor of what counts, its means, a network on either side."""

    class Ragged(tf.Module):
        def __init__(self):
            super().__init__()
            rng = np.random.default_rng(97)
            self.words, self.first, self.last = (
                make_variable(rng, 40, 8),
                make_variable(rng, 8, 16),
                make_variable(rng, 16, 3),
            )

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None], tf.int64, name="ids"),
                tf.TensorSpec([None], tf.int64, name="lengths"),
            ],
            autograph=False,
        )
        def call(self, ids, lengths):
            x = tf.nn.relu(tf.matmul(tf.reshape(tf.gather(self.words, ids), [-1, 8]), self.first) + 0.1)
            x = tf.reshape(x, [tf.shape(ids)[0], tf.shape(ids)[1], 16])
            rows = tf.RaggedTensor.from_tensor(x, lengths=lengths)
            means = tf.reduce_mean(rows, axis=1)
            return {"y": tf.nn.softmax(tf.matmul(tf.tanh(means), self.last))}

    module = Ragged()
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
    return {"ids": integers(0, 40, "int64"), "lengths": integers(1, 6, "int64")}
