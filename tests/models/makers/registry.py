"""The makers by name, and what they check and do alike."""

import numpy as np

MAKERS = {}


def maker(function):
    """Register `make_NAME`, which writes model NAME into a folder and returns how each input is drawn (see draw_inputs)."""
    name = function.__name__.removeprefix("make_")
    assert name not in MAKERS, f"two makers of {name}"
    MAKERS[name] = function
    return function


def perturb(model, inputs, rng):
    """Give everything that starts at zero a value, and batch normalisations the statistics of what they really get.

    With any other statistics the signal shrinks from layer to layer, until the answers depend on nothing but rounding.
    """
    import keras

    normalisations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in model.layers:
        if layer in normalisations:
            if layer.gamma is not None:
                layer.gamma.assign(rng.uniform(0.8, 1.2, layer.gamma.shape))
            if layer.beta is not None:
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
