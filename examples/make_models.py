"""Writes the model of the question's second script: two inputs, seeded random weights, as a SavedModel.

Usage: python make_models.py FOLDER
"""

import sys

import keras


def make_two_input_model() -> keras.Model:
    """A small convolutional network that takes `inp1` and `inp2`, both (None, 16, 16, 3), and gives ten probabilities."""
    keras.utils.set_random_seed(7)
    inp1 = keras.Input((16, 16, 3), name="inp1")
    inp2 = keras.Input((16, 16, 3), name="inp2")
    branches = [keras.layers.Conv2D(16, 3, padding="same", activation="relu")(x) for x in (inp1, inp2)]
    x = keras.layers.Concatenate()(branches)
    x = keras.layers.Conv2D(32, 3, strides=2, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model([inp1, inp2], keras.layers.Dense(10, activation="softmax")(x))


if __name__ == "__main__":
    make_two_input_model().export(sys.argv[1])
