"""Process 1 of INT8 on GPUs: make two models, calibrate, build, save, with TensorFlow's own answers: `python make_int8.py FOLDER`."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import beforehand


def make_network() -> keras.Model:
    layers = keras.layers
    image = keras.Input((32, 32, 3), name="x")
    x = layers.ReLU()(
        layers.BatchNormalization()(layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False)(image))
    )
    x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)))
    x = layers.ReLU()(layers.Conv2D(64, 3, padding="same")(x))
    return keras.Model(image, layers.Dense(16)(layers.GlobalAveragePooling2D()(x)))


def make_encoder() -> keras.Model:
    layers = keras.layers
    tokens = keras.Input((32, 128), name="x")
    x = tokens
    for _ in range(2):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 32)(x, x))
        x = layers.LayerNormalization()(x + layers.Dense(128)(layers.Dense(256, activation="gelu")(x)))
    return keras.Model(tokens, layers.Dense(16)(x))


MODELS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "network": (make_network, (32, 32, 3)),
    "encoder": (make_encoder, (32, 128)),
}


def main(folder: pathlib.Path) -> None:
    told = {}
    for name, (make, shape) in MODELS.items():
        keras.utils.set_random_seed(4)
        model, rng = make(), np.random.default_rng(4)
        model.export(str(folder / name), verbose=False)

        def draw(rows: int, shape: tuple[int, ...] = shape, rng: np.random.Generator = rng) -> Any:
            return rng.uniform(-2, 2, (rows, *shape)).astype(np.float32)

        converter = beforehand.Converter(
            folder / name, backend="tensorrt-rtx", precision_mode="INT8", progress="off", signatures=["serving_default"]
        )
        converter.convert(calibration_input_fn=lambda draw=draw: (draw(1) for _ in range(64)))
        converter.build(shapes={"x": (4, *shape)})
        converter.save(folder / f"{name}.built")
        x = draw(4)
        source = tf.saved_model.load(str(folder / name)).signatures["serving_default"]
        np.savez(folder / f"{name}.npz", x=x, y=next(iter(source(x=tf.constant(x)).values())))
        told[name] = [engine.precision for engine in converter.engines]
    print(json.dumps(told))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
