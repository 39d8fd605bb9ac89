"""Images as they come (whole numbers, any size), detectors, grouped convolutions."""

import pathlib

import numpy as np
import tensorflow as tf
from draw_inputs import integers, rows_of, uniform

from makers.registry import check_not_constant, maker, perturb


def make_small_network(seed, size, classes, **more):
    import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    image = keras.Input((size, size, 3), name="image", **more)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 3, activation="relu")(x))
    model = keras.Model(image, layers.Dense(classes)(x))
    rng = np.random.default_rng(seed)
    sample = rng.uniform(0, 1, (4, size, size, 3)).astype(np.float32)
    perturb(model, sample, rng)
    model.layers[-1].kernel.assign(rng.normal(0, 3, model.layers[-1].kernel.shape))
    check_not_constant([model(sample)])
    return model


def save_resized(folder, method, **options):
    """Images of whole numbers and any size, made to fit by `tf.image.resize`, as a server gets them."""

    class Resized(tf.Module):
        def __init__(self):
            super().__init__()
            self.network = make_small_network(67, 32, 5)

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")], autograph=False)
        def call(self, image):
            fitted = tf.image.resize(image, (32, 32), method=method, **options)
            return {"logits": self.network(tf.cast(fitted, tf.float32) / 255.0), "fitted": fitted}

    module = Resized()
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
    return {"image": integers(0, 256, "uint8")}


@maker
def make_resize_bilinear(folder):
    return save_resized(folder, "bilinear")


@maker
def make_resize_nearest(folder):
    return save_resized(folder, "nearest")


@maker
def make_resize_bicubic(folder):
    return save_resized(folder, "bicubic")


@maker
def make_resize_antialias(folder):
    return save_resized(folder, "bilinear", antialias=True)


@maker
def make_resize_area(folder):
    return save_resized(folder, "area")


@maker
def make_grouped(folder):
    """Keras 3 compiles grouped convolutions on a CPU by XLA, in functions of their own; the batch is dynamic."""
    import keras

    keras.utils.set_random_seed(71)
    layers = keras.layers
    image = keras.Input((24, 24, 8), name="image")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, groups=4, padding="same")(image)))
    x = x + layers.Conv2D(16, 3, groups=2, padding="same")(x)
    x = layers.Conv2D(32, 3, groups=8, strides=2)(x)
    model = keras.Model(image, layers.Dense(5)(layers.GlobalMaxPooling2D()(x)))
    rng = np.random.default_rng(71)
    sample = rng.uniform(0, 1, (4, 24, 24, 8)).astype(np.float32)
    perturb(model, sample, rng)
    check_not_constant([model(sample)])
    model.export(folder, verbose=False)
    return {"image": uniform()}


@maker
def make_detector(folder):
    """Boxes and scores from a small network, then `tf.image.combined_non_max_suppression`; one image has no object."""
    rng = np.random.default_rng(73)
    images = rng.uniform(0, 1, (6, 32, 32, 3)).astype(np.float32)
    images[0] = 0.0  # no object: see the bias of the scores
    np.savez(pathlib.Path(folder).parent / "images.npz", images=images)

    class Detector(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(rng.normal(0, 0.3, (5, 5, 3, 12)).astype(np.float32))
            self.boxes = tf.Variable(rng.normal(0, 0.4, (3, 3, 12, 8)).astype(np.float32))
            self.scores = tf.Variable(rng.normal(0, 1.5, (3, 3, 12, 6)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.float32, name="image")], autograph=False)
        def call(self, image):
            x = tf.nn.relu(tf.nn.conv2d(image, self.kernel, 4, "SAME"))
            raw = tf.reshape(tf.nn.conv2d(x, self.boxes, 1, "SAME"), [-1, 128, 4])
            centre, half = tf.sigmoid(raw[..., :2]), tf.sigmoid(raw[..., 2:]) * 0.3
            boxes = tf.concat([centre - half, centre + half], axis=-1)[:, :, tf.newaxis]
            scores = tf.sigmoid(tf.reshape(tf.nn.conv2d(x, self.scores, 1, "SAME"), [-1, 128, 3]) - 1.0)
            found = tf.image.combined_non_max_suppression(boxes, scores, 10, 20, 0.4, 0.5)
            return {**found._asdict(), "scores": scores}

    module = Detector()
    counts = module.call(images)["valid_detections"].numpy()
    assert counts[0] == 0, counts
    assert counts[1:].min() > 0, counts
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
    return {"image": rows_of("images.npz", "images")}
