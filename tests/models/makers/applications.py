"""Keras's applications, with seeded random weights."""

import numpy as np
from draw_inputs import uniform

from makers.registry import check_not_constant, maker, perturb, spread_logits


def make_application(name, folder, scale, size=224):
    """An application that takes `image`, its values in [0, scale)."""
    import keras

    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    model = getattr(keras.applications, name)(weights=None, input_tensor=keras.Input((size, size, 3), name="image"))
    inputs = rng.uniform(0, scale, (4, *model.input_shape[1:])).astype(np.float32)
    perturb(model, inputs, rng)
    spread_logits(model, model.layers[-1], inputs, rng)
    outputs = np.asarray(model(inputs))
    check_not_constant([outputs])
    assert outputs.max(axis=1).min() < 0.999, "one class has everything"
    model.export(folder, verbose=False)
    return {"image": uniform(scale)}


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
def make_densenet121(folder):
    return make_application("DenseNet121", folder, 1.0)


@maker
def make_inception_v3(folder):
    return make_application("InceptionV3", folder, 1.0, size=299)


@maker
def make_convnext_tiny(folder):
    return make_application("ConvNeXtTiny", folder, 255.0)


@maker
def make_nasnet_mobile(folder):
    return make_application("NASNetMobile", folder, 1.0)
