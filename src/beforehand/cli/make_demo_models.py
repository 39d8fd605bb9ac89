"""The demo's two models, made here: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from beforehand.cli.progress import time_step

_SEED = 20


def make_demo_models(*, quick: bool) -> Iterator[tuple[str, Any]]:
    """Name and Keras model, one after the other."""
    with time_step("making a MobileNetV2 with seeded random weights"):
        mobilenet = make_mobilenet(96 if quick else 224)
    yield "mobilenetv2", mobilenet
    with time_step("training a small network on scikit-learn's digits"):
        digits, accuracy = train_digits(epochs=3 if quick else 8)
    print(f"digits: accuracy {100 * accuracy:.1f}% on images that it was not trained on")
    yield "digits", digits


def make_mobilenet(size: int) -> Any:
    """MobileNetV2 for images of `size`, with random weights that make its outputs differ.

    Keras's own initial values give 0.001 for each of the 1000 classes, whatever the image: any converter would pass.
    """
    keras.utils.set_random_seed(_SEED)
    model = keras.applications.MobileNetV2((size, size, 3), weights=None)
    random = np.random.default_rng(_SEED)
    for layer in model.layers:
        layer.set_weights([_draw_weight(weight, random) for weight in layer.weights])
    return model


def _draw_weight(weight: Any, random: np.random.Generator) -> Any:
    """Values that keep a signal's size from layer to layer: He's for kernels, near 1 for scales, near 0 for shifts."""
    shape, name = tuple(weight.shape), weight.name
    if len(shape) > 1:
        # In a depthwise kernel (height, width, channels, 1) each output reads one channel.
        fan_in = np.prod(shape[:2]) if shape[-1] == 1 else np.prod(shape[:-1])
        return random.normal(0.0, np.sqrt(2.0 / fan_in), shape)
    if name in ("gamma", "moving_variance"):
        return random.uniform(0.7, 1.4, shape)
    return random.normal(0.0, 0.1, shape)


def train_digits(epochs: int) -> tuple[Any, float]:
    """A small convolutional network for 8 x 8 digits, and its accuracy on the quarter that it never saw."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 (the demo's own need)
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    keras.utils.set_random_seed(_SEED)
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).reshape(-1, 8, 8, 1).astype(np.float32)
    x, x_test, y, y_test = train_test_split(images, labels, test_size=0.25, random_state=_SEED)
    layers = keras.layers
    inputs = keras.Input((8, 8, 1), name="image")
    z = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    z = layers.BatchNormalization()(z)
    z = layers.Conv2D(32, 3, strides=2, activation="relu")(z)
    z = layers.Dense(64, activation="relu")(layers.Flatten()(z))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(z))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=epochs, batch_size=32, verbose=0)
    return model, float(model.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"])
