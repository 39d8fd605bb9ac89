"""Branches and loops around dense parts: each maker writes a SavedModel into a folder."""

import numpy as np
import tensorflow as tf
from draw_inputs import integers, uniform

from makers.registry import maker


def _variable(rng: np.random.Generator, scale: float, *shape: int) -> tf.Variable:
    return tf.Variable(rng.normal(0, scale, shape).astype(np.float32))


_WIDE = 1024


class _Dense(tf.Module):
    """A stem, a body that keeps the width, a head: what the loops and branches run.

    Where they stay native, `_WIDE` is what makes an engine in their bodies worth its call.
    """

    def __init__(self, seed: int, width: int = 24) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        scale = 1.2 / np.sqrt(width)
        self.stem = _variable(rng, 0.4, 12, width)
        self.body, self.bias = _variable(rng, scale, width, width), _variable(rng, 0.3, width)
        self.other = _variable(rng, scale, width, width)
        self.head = _variable(rng, 2 * scale, width, 5)

    def start(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(x @ self.stem) * 0.9 + 0.1

    def step(self, v: tf.Tensor) -> tf.Tensor:
        return tf.tanh(v @ self.body + self.bias) + 0.1 * v

    def finish(self, v: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(tf.nn.relu(v) @ self.head)


def _save(module: tf.Module, folder: str) -> None:
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})


_X = tf.TensorSpec([None, 12], tf.float32, name="x")


@maker
def make_cond(folder):
    """tf.cond whose two branches hold dense layers; which one runs depends on the values."""

    class Cond(_Dense):
        @tf.function(input_signature=[_X])
        def call(self, x):
            v = self.start(x)
            v = tf.cond(
                tf.reduce_mean(x) > 0.5,
                lambda: tf.nn.relu(tf.tanh(v @ self.body + self.bias) @ self.other) + 0.5,
                lambda: tf.sigmoid(v @ self.other - self.bias) * 2.0,
            )
            return {"y": self.finish(v)}

    _save(Cond(41), folder)
    return {"x": uniform(decides=True)}


@maker
def make_cond_with_text(folder):
    """tf.cond of which one branch also makes text, which no engine can."""

    class CondWithText(_Dense):
        @tf.function(input_signature=[_X])
        def call(self, x):
            v = self.start(x)

            def tell():
                w = tf.nn.relu(tf.tanh(v @ self.body + self.bias) @ self.other) + 0.5
                return w, tf.strings.as_string(tf.cast(tf.round(tf.reduce_sum(w, axis=1)), tf.int32))

            v, text = tf.cond(tf.reduce_mean(x) > 0.5, tell, lambda: (self.step(v), tf.fill(tf.shape(v)[:1], "none")))
            return {"y": self.finish(v), "text": text}

    _save(CondWithText(42, _WIDE), folder)
    return {"x": uniform(decides=True)}


@maker
def make_while(folder):
    """tf.while_loop of four rounds whose body can enter an engine as a whole."""

    class While(_Dense):
        @tf.function(input_signature=[_X])
        def call(self, x):
            _, v = tf.while_loop(lambda i, v: i < 4, lambda i, v: (i + 1, self.step(v)), [0, self.start(x)])
            return {"y": self.finish(v)}

    _save(While(43), folder)
    return {"x": uniform()}


@maker
def make_while_with_print(folder):
    """tf.while_loop whose body prints; the rounds depend on the values."""

    class WhileWithPrint(_Dense):
        @tf.function(input_signature=[_X])
        def call(self, x):
            def body(i, v):
                tf.print("round", i, output_stream="file:///dev/null")
                return i + 1, tf.nn.relu(self.step(v) @ self.other) + 0.05

            i, v = tf.while_loop(
                lambda i, v: tf.logical_and(i < 5, tf.reduce_max(v) < 50.0), body, [tf.constant(0), self.start(x)]
            )
            return {"y": self.finish(v), "rounds": i}

    _save(WhileWithPrint(44, _WIDE), folder)
    return {"x": uniform(decides=True)}


@maker
def make_while_with_random(folder):
    """tf.while_loop whose body draws (seeded, stateless) random numbers between two dense layers."""

    class WhileWithRandom(_Dense):
        @tf.function(input_signature=[_X])
        def call(self, x):
            def body(i, v):
                noise = tf.random.stateless_uniform(tf.shape(v), [7, i], 0.9, 1.1)
                return i + 1, tf.nn.relu((self.step(v) * noise) @ self.other) + 0.05

            _, v = tf.while_loop(lambda i, v: i < 3, body, [tf.constant(0), self.start(x)])
            return {"y": self.finish(v)}

    _save(WhileWithRandom(45, _WIDE), folder)
    return {"x": uniform()}


@maker
def make_while_with_text(folder):
    """tf.while_loop whose state is partly text."""

    class WhileWithText(_Dense):
        @tf.function(input_signature=[_X])
        def call(self, x):
            def body(i, v, text):
                return i + 1, tf.nn.relu(self.step(v) @ self.other) + 0.05, tf.strings.join([text, tf.as_string(i)])

            text = tf.fill(tf.shape(x)[:1], "rounds: ")
            _, v, text = tf.while_loop(lambda i, v, t: i < 3, body, [tf.constant(0), self.start(x), text])
            return {"y": self.finish(v), "text": text}

    _save(WhileWithText(46, _WIDE), folder)
    return {"x": uniform()}


@maker
def make_case(folder):
    """tf.switch_case over a scalar input, dense parts in each of three branches, a loop within one of them."""

    class Case(_Dense):
        @tf.function(input_signature=[_X, tf.TensorSpec([], tf.int32, name="which")])
        def call(self, x, which):
            v = self.start(x)

            def loop():
                return tf.while_loop(lambda i, w: i < 3, lambda i, w: (i + 1, self.step(w)), [0, v])[1]

            v = tf.switch_case(which, [lambda: tf.nn.relu(v @ self.other) + 0.2, lambda: self.step(v) * 0.5, loop])
            return {"y": self.finish(v)}

    _save(Case(47, _WIDE), folder)
    return {"x": uniform(), "which": integers(0, 3)}
