"""Process 1 of a life cycle: makes a model with seeded random weights and writes it as a SavedModel.

Usage: python make_model.py FOLDER NAME...

Model NAME is written to FOLDER/NAME/source. The last line printed is JSON: {NAME: {INPUT: scale}}; samples of that input
are uniform in [0, scale). A model with Keras's
own first weights answers 1/1000 for each of 1000 classes whatever it is given, so weights are perturbed until it does
not, and that is checked here.
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf

MAKERS = {}


def maker(function):
    """Register a function that writes a model into a folder and returns the scales of its inputs."""
    MAKERS[function.__name__.removeprefix("make_")] = function
    return function


def perturb(model, inputs, rng):
    """Give everything that starts at zero a value, and batch normalisations the statistics of what they really get.

    With any other statistics the signal shrinks from layer to layer, until the answers depend on nothing but rounding.
    """
    import keras

    normalisations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in model.layers:
        if layer in normalisations:
            if layer.scale:  # InceptionV3's have none
                layer.gamma.assign(rng.uniform(0.8, 1.2, layer.gamma.shape))
            layer.beta.assign(rng.normal(0, 0.1, layer.beta.shape))
            layer.momentum = 0.0
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
    model(inputs, training=True)
    for layer in normalisations:
        layer.momentum = 0.99


def spread_logits(model, head, inputs, rng):
    """Scale the last dense layer so that its logits differ between inputs and between classes by about 2."""
    import keras

    features = np.asarray(keras.Model(model.inputs, head.input)(inputs))
    varying = features.std(axis=0)
    kernel = rng.normal(0, 1, head.kernel.shape)
    logits = (features - features.mean(axis=0)) @ kernel
    assert varying.max() > 0, "the features do not depend on the input"
    head.kernel.assign(2 * kernel / logits.std())
    # What all inputs have in common goes, or its softmax would have one class alone.
    head.bias.assign(-(features.mean(axis=0) @ (2 * kernel / logits.std())))


def check_not_constant(outputs):
    for values in map(np.asarray, outputs):
        spread = np.abs(values - values[:1]).max()
        assert np.isfinite(values).all(), "the model's outputs are not finite"
        assert spread > 1e-3, f"the model's outputs are constant: they differ by {spread}"


def make_application(name, folder, scale):
    import keras

    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    model = getattr(keras.applications, name)(weights=None)
    inputs = rng.uniform(0, scale, (4, *model.input_shape[1:])).astype(np.float32)
    perturb(model, inputs, rng)
    spread_logits(model, model.layers[-1], inputs, rng)
    outputs = np.asarray(model(inputs))
    check_not_constant([outputs])
    assert outputs.max(axis=1).min() < 0.999, "one class has everything"
    model.export(folder, verbose=False)
    return {model.inputs[0].name: scale}


@maker
def make_resnet50(folder):
    return make_application("ResNet50", folder, 1.0)


@maker
def make_mobilenet_v2(folder):
    return make_application("MobileNetV2", folder, 1.0)


@maker
def make_efficientnet_b0(folder):
    return make_application("EfficientNetB0", folder, 255.0)


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
    return {"image": 1.0}


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
    return {"wide": 1.0, "deep": 1.0}


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
    return {"inp1": 1.0}


@maker
def make_two_signatures(folder):
    """A tf.Module whose two signatures differ and share their large weight."""
    tf.saved_model.save(module := make_two_signature_module(), folder, signatures=module.list_signatures())
    return {"x": 1.0, "words": 1.0}


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
    return {"x": 1.0}


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
    return {"x": 1.0}


if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    made = {}
    for name in names:
        target = pathlib.Path(folder, name, "source")
        target.parent.mkdir()
        made[name] = MAKERS[name](str(target))
    print(json.dumps(made))
