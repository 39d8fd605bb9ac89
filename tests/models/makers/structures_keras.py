"""SavedModels of Keras 3 and of the legacy tf_keras, by each of their ways to save."""

import pathlib

import numpy as np
import tensorflow as tf
from draw_inputs import uniform

from makers.registry import check_not_constant, maker, perturb


def _make_keras_model(seed):
    """Convolutions (a grouped one among them), a normalisation, a dense head; of Keras 3."""
    import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(12, 3, padding="same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(12, 3, groups=3, strides=2, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(5, name="scores")(x))
    rng = np.random.default_rng(seed)
    images = rng.uniform(size=(4, 16, 16, 3)).astype(np.float32)
    perturb(model, images, rng)
    model.layers[-1].kernel.assign(rng.normal(0, 1, model.layers[-1].kernel.shape))
    check_not_constant([model(images)])
    return model


@maker
def make_keras_saved(folder):
    """`tf.saved_model.save` of a Keras 3 model: each variable is twice in its graph, and its restore op knows one of them."""
    model = _make_keras_model(71)
    tf.saved_model.save(model, folder)
    return {"inputs": uniform()}


@maker
def make_keras_trained(folder):
    """`tf.saved_model.save` of a compiled and trained Keras 3 model: its optimizer is saved too."""
    model = _make_keras_model(72)
    model.compile("adam", "mse")
    rng = np.random.default_rng(72)
    model.fit(rng.uniform(size=(8, 16, 16, 3)), rng.uniform(size=(8, 5)), verbose=0)
    tf.saved_model.save(model, folder)
    return {"inputs": uniform()}


def _make_legacy_model(seed):
    import tf_keras

    tf_keras.utils.set_random_seed(seed)
    layers = tf_keras.layers
    image = tf_keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, strides=2, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = tf_keras.Model(image, layers.Dense(5, name="scores")(x))
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        shape, name = weight.shape, weight.name
        value = rng.uniform(0.5, 1.5, shape) if "variance" in name or "gamma" in name else rng.normal(0, 0.5, shape)
        weight.assign(value)
    check_not_constant([model(rng.uniform(size=(4, 16, 16, 3)).astype(np.float32))])
    return model


@maker
def make_legacy_keras(folder):
    """A model of tf_keras, by its own `save` in the format of TensorFlow."""
    model = _make_legacy_model(73)
    model.save(folder, save_format="tf")
    return {"image": uniform()}


@maker
def make_legacy_optimizer(folder):
    """A model of tf_keras with an optimizer of Keras 2 and its slot variables.

    Without tf_keras `tf.saved_model.load` refuses it; what it computes lies beside it without the optimizer, as `reference`.
    """
    import tf_keras

    model = _make_legacy_model(74)
    model.compile(tf_keras.optimizers.legacy.Adam(1e-3), "mse")
    rng = np.random.default_rng(74)
    model.fit(rng.uniform(size=(8, 16, 16, 3)), rng.uniform(size=(8, 5)), verbose=0)
    model.save(folder, save_format="tf", include_optimizer=True)
    reference = tf.Module()
    reference.variables_of_model = model.variables
    serve = tf.function(lambda image: {"scores": model(image, training=False)})
    spec = tf.TensorSpec([None, 16, 16, 3], tf.float32, name="image")
    signatures = {"serving_default": serve.get_concrete_function(spec)}
    tf.saved_model.save(reference, str(pathlib.Path(folder).parent / "reference"), signatures=signatures)
    return {"image": uniform()}
