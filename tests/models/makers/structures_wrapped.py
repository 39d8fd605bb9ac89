"""Graphs of TensorFlow 1, with its control flow, wrapped in a function of TensorFlow 2 that calls them without inlining."""

import contextlib
import tempfile

import numpy as np
import tensorflow as tf
from draw_inputs import uniform

from makers.registry import maker

v1 = tf.compat.v1


@contextlib.contextmanager
def _control_flow_of_version_1():
    v1.disable_control_flow_v2()
    try:
        yield
    finally:
        v1.enable_control_flow_v2()


class _Weights:
    """Resource variables of the graph being made."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)

        def make(name, scale, *shape):
            value = rng.normal(0, scale, shape).astype(np.float32)
            return v1.get_variable(name, initializer=value, use_resource=True)

        self.stem, self.body = make("stem", 0.4, 12, 24), make("body", 0.25, 24, 24)
        self.head = make("head", 0.5, 24, 5)

    def start(self, x):
        return tf.nn.relu(x @ self.stem) * 0.9 + 0.1

    def finish(self, v):
        return tf.nn.softmax(tf.nn.relu(v) @ self.head)


def _load_version_1(compute, seed):
    """What `compute(weights, x)` makes of a TF1 graph, saved as TF1 saved and loaded by TF2: that wraps the graph."""
    with tempfile.TemporaryDirectory() as scratch:
        with _control_flow_of_version_1(), tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None, 12], name="x")
            y = compute(_Weights(seed), x)
            session.run(v1.global_variables_initializer())
            v1.saved_model.simple_save(session, f"{scratch}/v1", {"x": x}, {"y": y})
        return tf.saved_model.load(f"{scratch}/v1")


def _save_wrapped(compute, seed, folder, *ops):
    """A signature that holds nothing but a call of the wrapped graph, in which there must be nodes of `ops`."""
    module = tf.Module()
    module.loaded = _load_version_1(compute, seed)
    wrapped = module.loaded.signatures["serving_default"]
    missing = set(ops) - {operation.type for operation in wrapped.graph.get_operations()}
    assert not missing, f"the wrapped graph has no {missing}"

    @tf.function(input_signature=[tf.TensorSpec([None, 12], tf.float32, name="x")])
    def call(x):
        return {"y": wrapped(x=x)["y"]}

    tf.saved_model.save(module, folder, signatures={"serving_default": call})


_LOOP = ("Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch")


def _loop(weights, x):
    def body(i, v):
        return i + 1, tf.tanh(v @ weights.body) + 0.1

    return v1.while_loop(lambda i, v: i < 3, body, [0, weights.start(x)])[1]


@maker
def make_v1_wrapped_loop(folder):
    """Enter, Exit and the rest of a loop; dense layers before, within and behind."""
    _save_wrapped(lambda weights, x: weights.finish(_loop(weights, x)), 85, folder, *_LOOP)
    return {"x": uniform()}


@maker
def make_v1_wrapped_branch(folder):
    """Switch and Merge; the branch depends on the values."""

    def compute(weights, x):
        start = weights.start(x)
        v = v1.cond(
            tf.reduce_mean(x) > 0.5,
            lambda: tf.nn.relu(tf.tanh(start @ weights.body)) + 0.3,
            lambda: tf.sigmoid(start @ weights.body) * 2.0,
        )
        return weights.finish(v)

    _save_wrapped(compute, 86, folder, "Switch", "Merge")
    return {"x": uniform(decides=True)}


@maker
def make_v1_wrapped_array(folder):
    """TensorArrayV3 in a loop: a recurrence over the columns of the input."""

    def compute(weights, x):
        steps = tf.transpose(tf.reshape(x, [-1, 3, 4]), [1, 0, 2])
        array = v1.TensorArray(tf.float32, 3, element_shape=[None, 4]).unstack(steps)
        written = v1.TensorArray(tf.float32, 3, element_shape=[None, 24])

        def body(i, v, out):
            v = tf.tanh(array.read(i) @ weights.stem[:4] + v @ weights.body)
            return i + 1, v, out.write(i, v)

        start = tf.zeros([tf.shape(x)[0], 24])
        _, v, out = v1.while_loop(lambda i, v, out: i < 3, body, [0, start, written])
        return weights.finish(v + tf.reduce_mean(out.stack(), axis=0))

    _save_wrapped(compute, 87, folder, *_LOOP, "TensorArrayV3", "TensorArrayReadV3", "TensorArrayWriteV3")
    return {"x": uniform()}


@maker
def make_v1_wrapped_branch_in_loop(folder):
    """A branch within a loop, and a loop behind it."""

    def compute(weights, x):
        def body(i, v):
            v = v1.cond(tf.equal(i % 2, 0), lambda: tf.tanh(v @ weights.body) + 0.1, lambda: tf.nn.relu(v) * 0.5)
            return i + 1, v

        v = v1.while_loop(lambda i, v: i < 4, body, [0, weights.start(x)])[1]
        v = v1.while_loop(lambda i, v: i < 2, lambda i, v: (i + 1, tf.sigmoid(v @ weights.body) * 2.0), [0, v])[1]
        return weights.finish(v)

    _save_wrapped(compute, 89, folder, *_LOOP)
    return {"x": uniform()}


@maker
def make_v1_wrapped_twice(folder):
    """One wrapped graph with a loop, called twice: its frames have the same name."""
    module = tf.Module()
    module.loaded = _load_version_1(_loop, 88)
    wrapped = module.loaded.signatures["serving_default"]
    module.head = tf.Variable(np.random.default_rng(88).normal(0, 0.5, (24, 5)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 12], tf.float32, name="x")])
    def call(x):
        return {"y": tf.nn.softmax((wrapped(x=x)["y"] + 0.5 * wrapped(x=x * 0.5)["y"]) @ module.head)}

    tf.saved_model.save(module, folder, signatures={"serving_default": call})
    return {"x": uniform()}
