"""Process 1 of a life: make a model, convert it, build for GPUs, save: `python make_and_convert.py FOLDER`."""

from __future__ import annotations

import pathlib
import sys

import keras
import numpy as np

import beforehand


def make_model() -> keras.Model:
    keras.utils.set_random_seed(4)
    inputs = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(inputs)
    x = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax", name="scores")(x))
    rng = np.random.default_rng(4)
    for variable in model.variables:
        if variable.dtype == "float32" and "variance" not in variable.name:
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return model


def main(folder: pathlib.Path) -> None:
    make_model().export(str(folder / "source"), verbose=False)
    converter = beforehand.Converter(folder / "source", backend="tensorrt-rtx", progress="off")
    converter.convert()
    converter.build(shapes=[{"image": (1, 32, 32, 3)}, {"image": ((1, 8), 32, 32, 3)}])
    converter.save(folder / "built")
    print([engine.target for engine in converter.engines])


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
