"""Makes what the contract is checked on: FOLDER/a and FOLDER/b, each with `source` and `converted` (batches 1 and 2).

The two have one architecture and other weights, so that whoever mixes them up answers wrong.
"""

import pathlib
import sys

import keras
import numpy as np

import beforehand


def make_model(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    layers = keras.layers
    image, extra = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="extra")
    x = layers.Conv2D(8, 3, use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), extra])
    x = layers.Dense(32, activation="relu")(x)
    score, choice = layers.Dense(3, name="score")(x), layers.Dense(5, activation="softmax", name="choice")(x)
    model = keras.Model({"image": image, "extra": extra}, {"score": score, "choice": choice})
    for weight in model.weights:
        sign = 1 if "variance" in weight.path else rng.choice([-1, 1], weight.shape)
        weight.assign(rng.uniform(0.1, 1, weight.shape) * sign)
    return model


def main(folder: pathlib.Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        source = folder / name / "source"
        make_model(seed).export(str(source), verbose=False)
        converter = beforehand.Converter(source)
        converter.convert()
        converter.build(shapes=[{"image": (n, 8, 8, 3), "extra": (n, 4)} for n in (1, 2)])
        converter.save(folder / name / "converted")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
