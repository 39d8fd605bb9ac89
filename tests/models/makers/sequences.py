"""Recurrent classifiers of text, convolutions along time and through volumes, a spectrogram in front."""

import numpy as np
import tensorflow as tf
from draw_inputs import integers, uniform

from makers.registry import check_not_constant, maker, perturb


def shake(model, seed):
    """Give every weight a value, so that no bias is zero."""
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign(weight + rng.normal(0, 0.1, weight.shape))


def export_text_classifier(folder, seed, mask_zero, *recurrent):
    import keras

    keras.utils.set_random_seed(seed)
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = keras.layers.Embedding(120, 24, mask_zero=mask_zero)(ids)
    for make_layer in recurrent:
        x = make_layer(keras.layers)(x)
    model = keras.Model(ids, keras.layers.Dense(4)(x))
    shake(model, seed)
    check_not_constant([model(np.random.default_rng(1).integers(0, 120, (4, 7)))])
    model.export(folder, verbose=False)
    return {"ids": integers(0, 120)}


@maker
def make_lstm(folder):
    return export_text_classifier(folder, 31, False, lambda layers: layers.LSTM(32))


@maker
def make_lstm_masked(folder):
    """The mask of the embedding (id 0) makes the layer keep its state; both directions."""
    return export_text_classifier(
        folder,
        37,
        True,
        lambda layers: layers.Bidirectional(layers.LSTM(16, return_sequences=True)),
        lambda layers: layers.LSTM(16),
    )


@maker
def make_gru(folder):
    return export_text_classifier(
        folder, 41, False, lambda layers: layers.GRU(24, return_sequences=True), lambda layers: layers.GRU(16)
    )


@maker
def make_gru_masked(folder):
    return export_text_classifier(folder, 43, True, lambda layers: layers.GRU(24))


@maker
def make_dilated(folder):
    """Convolutions that see ever further along a sequence of any length, by Keras's `dilation_rate`."""
    import keras

    keras.utils.set_random_seed(47)
    layers = keras.layers
    signal = keras.Input((None, 4), name="signal")
    x = layers.Conv1D(16, 5, padding="same", activation="relu")(signal)
    for rate in (2, 4, 8):
        y = layers.Conv1D(16, 3, padding="same", dilation_rate=rate)(layers.ReLU()(layers.BatchNormalization()(x)))
        x = x + y
    x = layers.Conv1D(16, 2, padding="causal", dilation_rate=3, activation="tanh")(x)
    x = layers.Conv1D(16, 3, padding="valid", dilation_rate=5, activation="relu")(x)
    model = keras.Model(signal, [layers.Conv1D(3, 1)(x), layers.Dense(5)(layers.GlobalMaxPooling1D()(x))])
    rng = np.random.default_rng(47)
    sample = rng.normal(0, 1, (4, 200, 4)).astype(np.float32)
    perturb(model, sample, rng)
    check_not_constant(model(sample))
    model.export(folder, verbose=False)
    return {"signal": uniform(2.0, -2.0)}


@maker
def make_dilated_by_hand(folder):
    """The same idea in TensorFlow's own words, whose batches of pieces (SpaceToBatchND) are in the graph."""

    class Dilated(tf.Module):
        def __init__(self):
            super().__init__()
            rng = np.random.default_rng(53)
            self.kernels = [tf.Variable(rng.normal(0, 0.3, (3, 8, 8)).astype(np.float32)) for _ in range(3)]
            self.first = tf.Variable(rng.normal(0, 0.5, (1, 4, 8)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, None, 4], tf.float32, name="signal")], autograph=False)
        def call(self, signal):
            x = tf.nn.convolution(signal, self.first)
            for kernel, rate, padding in zip(self.kernels, (2, 4, 8), ("SAME", "SAME", "VALID"), strict=True):
                x = tf.nn.relu(tf.nn.convolution(x, kernel, dilations=[rate], padding=padding))
            return {"y": tf.reduce_mean(x, axis=1), "x": x}

    module = Dilated()
    check_not_constant(module.call(np.random.default_rng(1).normal(size=(3, 64, 4)).astype(np.float32)).values())
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
    return {"signal": uniform(2.0, -2.0)}


@maker
def make_volumes(folder):
    """Convolutions, poolings and a transposed convolution in three dimensions."""
    import keras

    keras.utils.set_random_seed(59)
    layers = keras.layers
    volume = keras.Input((8, 16, 16, 2), name="volume")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv3D(8, 3, padding="same", use_bias=False)(volume)))
    x = layers.MaxPooling3D()(x)
    x = layers.Conv3D(12, 3, strides=2, padding="same", activation="relu")(x)
    wide = layers.Conv3DTranspose(6, 2, strides=2, padding="valid")(layers.UpSampling3D(2)(x))
    pooled = layers.GlobalAveragePooling3D()(layers.AveragePooling3D(2)(x))
    model = keras.Model(
        volume, {"mask": layers.Conv3D(1, 1, activation="sigmoid")(wide), "kind": layers.Dense(4)(pooled)}
    )
    rng = np.random.default_rng(59)
    sample = rng.uniform(0, 1, (4, 8, 16, 16, 2)).astype(np.float32)
    perturb(model, sample, rng)
    model.get_layer(index=-1).kernel.assign(rng.normal(0, 3, model.get_layer(index=-1).kernel.shape))
    check_not_constant(model(sample).values())
    model.export(folder, verbose=False)
    return {"volume": uniform()}


@maker
def make_spectrogram(folder):
    """A waveform of any length, tf.signal.stft, mel bands, convolutions."""
    import keras

    keras.utils.set_random_seed(61)
    layers = keras.layers
    given = keras.Input((None, 20, 1))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(given)
    x = layers.Conv2D(12, 3, strides=2, padding="same", activation="relu")(x)
    network = keras.Model(given, layers.Dense(6)(layers.GlobalAveragePooling2D()(x)))
    shake(network, 61)

    class Spectrogram(tf.Module):
        def __init__(self):
            super().__init__()
            self.network = network
            self.mel = tf.Variable(tf.signal.linear_to_mel_weight_matrix(20, 129, 8000, 60.0, 3800.0), trainable=False)

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="wave")], autograph=False)
        def call(self, wave):
            spectrum = tf.abs(tf.signal.stft(wave, 200, 80, 256))
            bands = tf.math.log(tf.matmul(spectrum, self.mel) + 1e-3)
            return {"logits": self.network(bands[..., tf.newaxis]), "bands": bands}

    module = Spectrogram()
    check_not_constant(module.call(np.random.default_rng(1).normal(size=(3, 1600)).astype(np.float32)).values())
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
    return {"wave": uniform(1.0, -1.0)}
