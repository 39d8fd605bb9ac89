"""Makes the models of these tests: real SavedModels with seeded weights, and each converted, built and saved.

python make_models.py FOLDER    writes FOLDER/NAME/source and FOLDER/NAME/converted for every NAME; run once a session.
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import numpy as np
import tensorflow as tf

import beforehand

BATCHES = (1, 2)


class TwoSignatures(tf.Module):
    """Two signatures that share weights; every function of it equals a signature."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        shapes = [(8, 64), (64, 64), (64, 4), (8, 64), (64,), (64,), (4,)]
        self.weights = [tf.Variable(rng.normal(0, 0.3, shape), dtype=tf.float32) for shape in shapes]

    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        first, second, last, _, first_bias, second_bias, last_bias = self.weights
        hidden = tf.tanh(tf.nn.relu(x @ first + first_bias) @ second + second_bias)
        return {"y": hidden @ last + last_bias}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 8], tf.float32, name="a"),
            tf.TensorSpec([None, 8], tf.float32, name="b"),
        ]
    )
    def pair(self, a: tf.Tensor, b: tf.Tensor) -> dict[str, tf.Tensor]:
        first, second, last, gates, first_bias, second_bias, last_bias = self.weights
        gate = tf.nn.relu(a @ first + first_bias) * tf.sigmoid(b @ gates)
        return {"sum": tf.tanh(gate @ second + second_bias) @ last + last_bias, "gate": gate}


class WithMore(TwoSignatures):
    """Has a function and a variable that no signature reaches: they cannot be kept."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.extra_variable = tf.Variable(1.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="z")])
    def extra_function(self, z: tf.Tensor) -> tf.Tensor:
        return z * self.extra_variable


def save_module(module: TwoSignatures, folder: pathlib.Path) -> None:
    """Save with both signatures."""
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.__call__, "pair": module.pair})


def export_keras(folder: pathlib.Path) -> None:
    """A small convolutional net, written by `model.export`: signatures `serving_default` and `serve`."""
    import keras

    keras.utils.set_random_seed(3)
    image = keras.Input((12, 12, 3), name="image")
    hidden = keras.layers.Conv2D(8, 3, activation="relu")(image)
    hidden = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(hidden))
    hidden = keras.layers.Dense(64, activation="tanh")(hidden)
    model = keras.Model(image, keras.layers.Dense(5, activation="softmax")(hidden))
    model.export(str(folder), verbose=False)


def convert(folder: pathlib.Path, shapes: dict[str, dict[str, tuple[int, ...]]], **options: Any) -> None:
    """Convert FOLDER/source, build each signature's shapes at every batch, save as FOLDER/converted."""
    converter = beforehand.Converter(folder / "source", **options)
    converter.convert()
    for signature, inputs in shapes.items():
        wanted = [{name: (batch, *shape) for name, shape in inputs.items()} for batch in BATCHES]
        converter.build(signature=signature, shapes=wanted)
    converter.save(folder / "converted")


def main(folder: pathlib.Path) -> None:
    """All models."""
    both = {"serving_default": {"x": (8,)}, "pair": {"a": (8,), "b": (8,)}}
    for name, module in (("module", TwoSignatures(1)), ("other", TwoSignatures(2)), ("more", WithMore(3))):
        save_module(module, folder / name / "source")
        convert(folder / name, both if name != "more" else {"serving_default": {"x": (8,)}})
    export_keras(folder / "keras" / "source")
    convert(folder / "keras", {"serving_default": {"image": (12, 12, 3)}})


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
