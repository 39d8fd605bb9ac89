"""Trained for real on scikit-learn's digits: a plain CNN, and one of EfficientNet's blocks. What they are measured on lies beside them."""

import pathlib

import numpy as np
from draw_inputs import rows_of

from makers.registry import maker

SIDE = 16  # of the images, drawn twice as large as they are kept
TESTED, CHECKED = 600, 200  # of the 1797 images; none of them is seen in training
COPIES = 8  # of each, moved and noisy: 4800 test images, of which one is 0.02 points
NOISE = 0.12  # of the range of a pixel; with it a few of a hundred are hard
SPREAD = 4  # the largest power of 2 of `spread_channels`


@maker
def make_trained_cnn(folder):
    """Convolutions and depthwise ones in turn, with batch normalisation and ReLU."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(29)
    image = keras.Input((SIDE, SIDE, 1), name="image")
    x = layers.MaxPooling2D()(convolve(image, 24))
    for filters, strides in ((32, 1), (48, 2), (64, 1)):
        x = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(x)
        x = convolve(layers.ReLU()(layers.BatchNormalization()(x)), filters, size=1)
    x = layers.Dropout(0.2)(layers.Flatten()(x))
    return train_on_digits(keras.Model(image, {"logits": layers.Dense(10)(x)}), folder, epochs=8)


@maker
def make_trained_mbconv(folder):
    """EfficientNet's blocks: widen, depthwise, squeeze and excite, narrow, with swish; a layer's channels differ much in range."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(31)
    image = keras.Input((SIDE, SIDE, 1), name="image")
    x = convolve(image, 16, strides=2, activation="swish")
    for number, (filters, strides, size) in enumerate(((16, 1, 3), (24, 2, 3), (24, 1, 5), (40, 1, 3))):
        x = add_mbconv(x, filters, strides, size, f"block_{number}")
    x = layers.Conv2D(96, 1, use_bias=False, name="top")(x)
    x = layers.GlobalAveragePooling2D()(layers.Activation("swish")(layers.BatchNormalization()(x)))
    model = keras.Model(image, {"logits": layers.Dense(10)(layers.Dropout(0.1)(x))})
    return train_on_digits(model, folder, epochs=6, after=spread_channels)


def convolve(x, filters, size=3, strides=1, activation="relu"):
    import keras

    x = keras.layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
    return keras.layers.Activation(activation)(keras.layers.BatchNormalization()(x))


def add_mbconv(x, filters, strides, size, name):
    """As in EfficientNet, 4 times as wide inside; the squeeze is by a quarter of what comes in."""
    import keras

    layers, given = keras.layers, x
    wide = 4 * x.shape[-1]
    x = layers.Conv2D(wide, 1, use_bias=False, name=f"{name}_expand")(x)
    x = layers.Activation("swish")(layers.BatchNormalization(name=f"{name}_expand_norm")(x))
    x = layers.DepthwiseConv2D(size, strides, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = layers.Activation("swish")(layers.BatchNormalization(name=f"{name}_depthwise_norm")(x))
    share = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    share = layers.Conv2D(given.shape[-1] // 4, 1, activation="swish", name=f"{name}_reduce")(share)
    share = layers.Conv2D(wide, 1, activation="sigmoid", name=f"{name}_excite")(share)
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project")(layers.Multiply()([x, share]))
    x = layers.BatchNormalization(name=f"{name}_project_norm")(x)
    return layers.Add()([given, x]) if x.shape == given.shape else x


def spread_channels(model):
    """Channels between blocks take ranges that differ as those of EfficientNets and MobileNets do; the answers stay what they were.

    No activation follows a block's last normalisation: a channel that is larger by 2 ** n there, and smaller by as much in the kernels
    that read it, is the same in every floating-point precision, while 8 bits for the whole tensor leave little to the small ones.
    Trained for longer on larger images, such networks come to it by themselves (Nagel et al. 2019, "Data-free quantization through
    weight equalization and bias correction").
    """
    rng = np.random.default_rng(41)
    # What is added up shares its channels.
    for writers, readers in ((("block_1", "block_2"), ("block_2_expand", "block_3_expand")), (("block_3",), ("top",))):
        norms = [model.get_layer(f"{name}_project_norm") for name in writers]
        scale = 2.0 ** rng.integers(-SPREAD, SPREAD + 1, norms[0].gamma.shape)
        for norm in norms:
            norm.gamma.assign(norm.gamma * scale)
            norm.beta.assign(norm.beta * scale)
        for name in readers:
            kernel = model.get_layer(name).kernel
            kernel.assign(kernel / scale[:, np.newaxis])


def train_on_digits(model, folder, epochs, after=lambda _: None):
    """Fit, and write the SavedModel and its data (see `save_data`)."""
    import keras

    (x_train, y_train), tested, checked = load_digits()
    rate = keras.optimizers.schedules.CosineDecay(4e-3, epochs * (len(x_train) // 64))
    model.compile(keras.optimizers.Adam(rate), {"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    model.fit(x_train, {"logits": y_train}, batch_size=64, epochs=epochs, verbose=0)
    after(model)
    model.export(folder, verbose=False)
    save_data(folder, x_train[:300], tested, checked)
    return {"image": rows_of("data.npz", "tested")}


def load_digits():
    """(images, labels) to train on, to test on, and to search with; copies of an image are on one side."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.default_rng(5)
    sides = np.split(rng.permutation(len(digits.target)), [-TESTED - CHECKED, -CHECKED])
    return [draw_copies(digits.images[side] / 16, digits.target[side], rng) for side in sides]


def draw_copies(images, labels, rng):
    """COPIES of each image in random order: twice as large, smooth between its pixels, moved by up to two, with noise."""
    from scipy.ndimage import zoom

    large = np.stack([zoom(image, SIDE // 8, order=1) for image in images])
    padded = np.pad(large, ((0, 0), (2, 2), (2, 2)))
    copies = []
    for _ in range(COPIES):
        for image in padded:
            down, right = rng.integers(0, 5, 2)
            copies.append(image[down : down + SIDE, right : right + SIDE])
    noisy = np.stack(copies) + rng.normal(0, NOISE, (len(copies), SIDE, SIDE))
    order = rng.permutation(len(copies))
    # Of 256 values, as images have: they are kept in a fraction of the room.
    rounded = np.round(255 * np.clip(noisy[order], 0, 1)) / 255
    return rounded.astype(np.float32)[..., np.newaxis], np.tile(labels, COPIES)[order].astype(np.int32)


def save_data(folder, calibration, tested, checked):
    """What is known of a model's data, beside it in `data.npz`.

    `calibration`: inputs that it was trained on. `tested` and `labels`: what its accuracy is measured on. `checked` and
    `checked_labels`: what may be looked at on the way, when a conversion is chosen by its accuracy.
    """
    np.savez_compressed(
        pathlib.Path(folder).parent / "data.npz",
        calibration=calibration,
        tested=tested[0],
        labels=tested[1],
        checked=checked[0],
        checked_labels=checked[1],
    )
