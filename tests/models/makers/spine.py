"""The models of the first issue: whole graphs, and one that is split in two."""

import pathlib

import numpy as np
import tensorflow as tf
from draw_inputs import uniform

from makers.registry import check_not_constant, maker, perturb


@maker
def make_digits(folder):
    """Trained for real; its test split lies beside the model as digits_test.npz."""
    import keras
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    keras.utils.set_random_seed(5)
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[..., np.newaxis]
    x_train, x_test, y_train, y_test = train_test_split(images, digits.target, test_size=360, random_state=5)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x_train, y_train, batch_size=32, epochs=6, verbose=0)
    check_not_constant([model(x_test[:8])])
    model.export(folder, verbose=False)
    np.savez(pathlib.Path(folder).parent / "digits_test.npz", images=x_test, labels=y_test)
    return {"image": uniform()}


@maker
def make_mlp(folder):
    """Two inputs and two outputs, whose order in the model is not that of the alphabet."""
    import keras

    keras.utils.set_random_seed(7)
    wide, deep = keras.Input((6,), name="wide"), keras.Input((10,), name="deep")
    layers = keras.layers
    hidden = layers.Dense(16, activation="relu")(layers.Concatenate()([wide, deep]))
    score = layers.Dense(3, name="score")(hidden)
    choice = layers.Dense(4, activation="softmax", name="choice")(layers.Multiply()([hidden, layers.Dense(16)(deep)]))
    model = keras.Model({"wide": wide, "deep": deep}, {"score": score, "choice": choice})
    rng = np.random.default_rng(7)
    sample = {name: rng.uniform(size=(4, n)).astype(np.float32) for name, n in (("wide", 6), ("deep", 10))}
    perturb(model, sample, rng)
    check_not_constant(model(sample).values())
    model.export(folder, verbose=False)
    return {"wide": uniform(), "deep": uniform()}


@maker
def make_any_size(folder):
    """The model of the question's answer: images of any size."""
    import keras

    keras.utils.set_random_seed(9)
    layers = keras.layers
    inp1 = keras.Input((None, None, 3), name="inp1")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(inp1)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(12, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(5, 1)(x)
    model = keras.Model(inp1, [x, layers.GlobalAveragePooling2D()(x)])
    rng = np.random.default_rng(9)
    images = rng.uniform(0, 1, (4, 32, 32, 3)).astype(np.float32)
    perturb(model, images, rng)
    model.layers[-2].kernel.assign(rng.normal(0, 2, model.layers[-2].kernel.shape))
    check_not_constant(model(images))
    model.export(folder, verbose=False)
    return {"inp1": uniform()}


@maker
def make_two_signatures(folder):
    """A tf.Module whose two signatures differ and share their large weight."""
    tf.saved_model.save(module := make_two_signature_module(), folder, signatures=module.list_signatures())
    return {"x": uniform(), "words": uniform()}


def make_two_signature_module():
    class TwoSignatures(tf.Module):
        def __init__(self):
            super().__init__()
            rng = np.random.default_rng(11)
            self.kernel = tf.Variable(rng.normal(0, 0.1, (128, 256)).astype(np.float32))
            self.head = tf.Variable(rng.normal(0, 0.1, (256, 4)).astype(np.float32))
            self.scale = tf.Variable(rng.normal(0, 1, (256,)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 128], tf.float32, name="x")])
        def classify(self, x):
            return {"classes": tf.nn.softmax(tf.nn.relu(x @ self.kernel) @ self.head)}

        @tf.function(input_signature=[tf.TensorSpec([None, 128], tf.float32, name="words")])
        def embed(self, words):
            hidden = tf.tanh(words @ self.kernel) * self.scale
            return {"embedding": hidden, "norm": tf.reduce_sum(hidden * hidden, axis=1)}

        def list_signatures(self):
            return {"serving_default": self.classify, "embed": self.embed}

    return TwoSignatures()


@maker
def make_mixed(folder):
    """An op that ONNX does not have in the middle, after which the rows are twice as many."""

    class Mixed(tf.Module):
        def __init__(self):
            super().__init__()
            rng = np.random.default_rng(13)
            self.first = tf.Variable(rng.normal(0, 0.5, (6, 8)).astype(np.float32))
            self.second = tf.Variable(rng.normal(0, 0.5, (8, 5)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32, name="x")])
        def call(self, x):
            hidden = tf.sigmoid(tf.concat([x, 1.0 - x], axis=0) @ self.first)
            middle = tf.math.betainc(tf.constant(2.0), tf.constant(3.0), hidden)
            return {"y": tf.nn.softmax(tf.tanh(middle) @ self.second), "sizes": tf.reduce_sum(middle, axis=1)}

    module = Mixed()
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
    return {"x": uniform()}


@maker
def make_only_unsupported(folder):
    """Nothing in it can enter an engine."""

    class OnlyUnsupported(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def call(self, x):
            first = tf.math.betainc(x, x, x)
            return {"y": tf.math.betainc(first, x, tf.math.betainc(x, first, first))}

    module = OnlyUnsupported()
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
    return {"x": uniform()}
