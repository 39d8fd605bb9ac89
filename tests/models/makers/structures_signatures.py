"""Signatures of every form: dtypes, nesting, shared weights, none at all; each maker writes a SavedModel into a folder."""

import numpy as np
import tensorflow as tf
from draw_inputs import booleans, integers, text, uniform

from makers.registry import maker


@maker
def make_many_dtypes(folder):
    """Inputs float32, float16, int64, bool, uint8; outputs float32, float16, int64, bool, string; nested arguments."""

    class ManyDtypes(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            rng = np.random.default_rng(61)
            self.table = tf.Variable(rng.normal(0, 1, (50, 8)).astype(np.float32))
            self.kernel = tf.Variable(rng.normal(0, 0.4, (24, 16)).astype(np.float32))
            self.head = tf.Variable(rng.normal(0, 0.5, (16, 6)).astype(np.float32))

        @tf.function(
            input_signature=[
                {
                    "dense": {"a": tf.TensorSpec([None, 8], tf.float32), "b": tf.TensorSpec([None, 8], tf.float16)},
                    "ids": tf.TensorSpec([None], tf.int64),
                },
                (tf.TensorSpec([None], tf.bool), tf.TensorSpec([None, 6], tf.uint8)),
            ]
        )
        def call(self, features, rest):
            return self.compute(features["dense"]["a"], features["dense"]["b"], features["ids"], *rest)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 8], tf.float32, name="a"),
                tf.TensorSpec([None, 8], tf.float16, name="b"),
                tf.TensorSpec([None], tf.int64, name="ids"),
                tf.TensorSpec([None], tf.bool, name="keep"),
                tf.TensorSpec([None, 6], tf.uint8, name="levels"),
            ]
        )
        def serve(self, a, b, ids, keep, levels):
            return self.compute(a, b, ids, keep, levels)

        def compute(self, a, b, ids, keep, levels):
            joined = tf.concat(
                [a, tf.cast(b * tf.constant(2.0, tf.float16), tf.float32), tf.gather(self.table, ids)], 1
            )
            logits = tf.nn.relu(joined @ self.kernel) @ self.head + tf.cast(levels, tf.float32) / 255.0
            logits = tf.where(keep[:, tf.newaxis], logits, tf.zeros_like(logits))
            best = tf.argmax(logits, axis=1)
            return {
                "logits": logits,
                "half": tf.cast(tf.nn.softmax(logits), tf.float16),
                "best": best,
                "sure": tf.reduce_max(logits, axis=1) > 1.0,
                "name": tf.strings.join(["class ", tf.as_string(best)]),
            }

    module = ManyDtypes()
    tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
    return {
        "a": uniform(),
        "b": uniform(dtype="float16"),
        "ids": integers(0, 50, "int64"),
        "keep": booleans(),
        "levels": integers(0, 256, "uint8"),
    }


class _Shared(tf.Module):
    """Weights of which one is large, and functions that read it."""

    def __init__(self, seed: int, width: int = 512) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.kernel = tf.Variable(rng.normal(0, 0.1, (128, width)).astype(np.float32))
        self.scale = tf.Variable(rng.normal(0, 1, (width,)).astype(np.float32))
        self.head = tf.Variable(rng.normal(0, 0.1, (width, 4)).astype(np.float32))

    def hidden(self, x):
        return tf.nn.relu(x @ self.kernel) * self.scale


@maker
def make_six_signatures(folder):
    """Six signatures that differ, over one large weight."""
    module = _Shared(62)
    ends = {
        "serving_default": lambda v: {"y": tf.nn.softmax(v @ module.head)},
        "embed": lambda v: {"embedding": tf.math.l2_normalize(v, axis=1)},
        "logits": lambda v: {"logits": v @ module.head},
        "norm": lambda v: {"norm": tf.sqrt(tf.reduce_sum(v * v, axis=1))},
        "sigmoid": lambda v: {"p": tf.sigmoid(v @ module.head)},
        "mean": lambda v: {"mean": tf.reduce_mean(v, axis=1), "max": tf.reduce_max(v, axis=1)},
    }

    def trace(end):
        spec = tf.TensorSpec([None, 128], tf.float32, name="x")
        return tf.function(lambda x: end(module.hidden(x)), input_signature=[spec])

    signatures = {key: trace(end) for key, end in ends.items()}
    tf.saved_model.save(module, folder, signatures=signatures)
    return {"x": uniform()}


@maker
def make_parameter_free(folder):
    """A signature without inputs beside a normal one; and one that only gives back constants."""

    class ParameterFree(_Shared):
        @tf.function(input_signature=[tf.TensorSpec([None, 128], tf.float32, name="x")])
        def call(self, x):
            return {"y": tf.nn.softmax(self.hidden(x) @ self.head)}

        @tf.function(input_signature=[])
        def describe(self):
            return {"version": tf.constant("7.1"), "classes": tf.constant(["a", "b", "c", "d"])}

        @tf.function(input_signature=[])
        def prototype(self):
            return {"y": tf.nn.softmax(self.hidden(tf.ones([1, 128])) @ self.head)}

    module = ParameterFree(63)
    signatures = {"serving_default": module.call, "describe": module.describe, "prototype": module.prototype}
    tf.saved_model.save(module, folder, signatures=signatures)
    return {"x": uniform()}


@maker
def make_nothing_convertible(folder):
    """Strings, tables and random numbers only: nothing for an engine."""

    class Nothing(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            keys = tf.constant(["yes", "no"])
            self.table = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(keys, tf.constant([1, 0], tf.int64)), -1
            )

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def call(self, text):
            return {"answer": self.table.lookup(tf.strings.lower(text)), "length": tf.strings.length(text)}

    module = Nothing()
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
    return {"text": text("yes", "NO", "perhaps")}
