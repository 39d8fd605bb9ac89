"""The models of the benchmark: Keras applications with seeded random weights, as SavedModels.

Usage: python make_models.py FOLDER NAME...

Models that lie there already are kept.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).parent.parent
# Input size, and the scale of the inputs that its own preprocessing layers expect.
MODELS = {
    "ResNet50": (224, 1.0),
    "MobileNetV2": (224, 1.0),
    "EfficientNetB0": (224, 255.0),
    "DenseNet121": (224, 1.0),
    "InceptionV3": (299, 1.0),
    "ConvNeXtTiny": (224, 255.0),
    "NASNetMobile": (224, 1.0),
    "tiny": (16, 1.0),  # for the test of the benchmark
}
SIX = ("ResNet50", "MobileNetV2", "EfficientNetB0", "DenseNet121", "InceptionV3", "ConvNeXtTiny")


def make_tiny(folder: str) -> None:
    """A network of two layers; a call costs next to nothing."""
    import keras  # noqa: PLC0415 (cpu.py, which reads the table alone, imports nothing large)

    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 16, 3))
    features = keras.layers.Flatten()(keras.layers.Conv2D(8, 3, activation="relu")(inputs))
    keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(features)).export(folder, verbose=False)


def main(folder: str, *names: str) -> None:
    """Make what is missing."""
    sys.path.insert(0, str(ROOT / "tests" / "models"))
    for name in names:
        target = pathlib.Path(folder) / name
        if (target / "saved_model.pb").is_file():
            continue
        if name == "tiny":
            make_tiny(str(target))
        else:
            # The tests' maker sees to it that the answers are finite and differ, and that no layer's signal dies.
            from makers.applications import make_application  # noqa: PLC0415 (as above)

            make_application(name, str(target), MODELS[name][1], MODELS[name][0])


if __name__ == "__main__":
    main(*sys.argv[1:])
