"""Functions that are called in unusual ways: one big call, `_noinline`, XLA; and a model of gigabytes."""

import numpy as np
import tensorflow as tf
from draw_inputs import uniform

from makers.registry import maker


class _Net(tf.Module):
    def __init__(self, seed):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.first = tf.Variable(rng.normal(0, 0.5, (12, 32)).astype(np.float32))
        self.second = tf.Variable(rng.normal(0, 0.3, (32, 32)).astype(np.float32))
        self.head = tf.Variable(rng.normal(0, 0.4, (32, 5)).astype(np.float32))

    def compute(self, x):
        hidden = tf.nn.relu(tf.tanh(x @ self.first) @ self.second)
        return tf.nn.softmax(hidden @ self.head)


_X = tf.TensorSpec([None, 12], tf.float32, name="x")


def _save(module, call, folder):
    tf.saved_model.save(module, folder, signatures={"serving_default": call})
    return {"x": uniform()}


@maker
def make_big_call(folder):
    """One StatefulPartitionedCall within another within another: a model loaded, wrapped and saved again, twice."""
    module = _Net(91)
    module.inner = tf.function(module.compute, input_signature=[_X])
    for round_number in range(2):
        target = f"{folder}_{round_number}"

        @tf.function(input_signature=[_X])
        def wrap(x, inner=module.inner):
            return inner(x)

        tf.saved_model.save(module, target, signatures={"serving_default": wrap})
        loaded = tf.saved_model.load(target)
        module = tf.Module()
        module.loaded, module.inner = loaded, lambda x, f=loaded.signatures["serving_default"]: f(x=x)["output_0"]

    @tf.function(input_signature=[_X])
    def call(x):
        return {"y": module.inner(x)}

    return _save(module, call, folder)


@maker
def make_no_inline(folder):
    """A call that says `_noinline` between dense layers."""
    module = _Net(92)
    middle = tf.function(
        lambda x: tf.nn.relu(tf.tanh(x @ module.first) @ module.second),
        experimental_attributes={"_noinline": True},
    )

    @tf.function(input_signature=[_X])
    def call(x):
        return {"y": tf.nn.softmax(middle(x * 2.0 - 1.0) @ module.head)}

    return _save(module, call, folder)


@maker
def make_jit_compiled(folder):
    """tf.function(jit_compile=True) inside, which says `_XlaMustCompile`."""
    module = _Net(93)
    middle = tf.function(lambda x: tf.nn.relu(tf.tanh(x @ module.first) @ module.second), jit_compile=True)

    @tf.function(input_signature=[_X])
    def call(x):
        return {"y": tf.nn.softmax(middle(x * 2.0 - 1.0) @ module.head)}

    return _save(module, call, folder)


LARGE_LAYERS, LARGE_WIDTH = 10, 8064


@maker
def make_large(folder):
    """2.6 GB of float32 in ten square layers; more than one protobuf can hold."""
    rng = np.random.default_rng(94)
    module = tf.Module()
    scale = np.float32(1 / np.sqrt(LARGE_WIDTH))
    module.kernels = [
        tf.Variable(rng.standard_normal((LARGE_WIDTH, LARGE_WIDTH), np.float32) * scale) for _ in range(LARGE_LAYERS)
    ]

    @tf.function(input_signature=[tf.TensorSpec([None, LARGE_WIDTH], tf.float32, name="x")])
    def call(x):
        v = x * 2.0 - 1.0
        for kernel in module.kernels:
            v = tf.nn.relu(v @ kernel) * 1.4
        return {"y": v[:, :16]}

    tf.saved_model.save(module, folder, signatures={"serving_default": call})
    return {"x": uniform()}
