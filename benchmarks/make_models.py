"""The models of the benchmark: Keras applications and BERT-base, with seeded random weights, as SavedModels.

Usage: python make_models.py FOLDER NAME...

Models that lie there already are kept.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

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
TEXTS = ("BERT-base",)  # encoders; their inputs are those of the GPU's benchmark
CALIBRATED = 32  # inputs, for INT8: of random weights and random inputs, more say no more
SIX = ("ResNet50", "MobileNetV2", "EfficientNetB0", "DenseNet121", "InceptionV3", "ConvNeXtTiny")


def make_tiny(folder: str) -> None:
    """A network of two layers; a call costs next to nothing."""
    import keras  # noqa: PLC0415 (cpu.py, which reads the table alone, imports nothing large)

    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 16, 3))
    features = keras.layers.Flatten()(keras.layers.Conv2D(8, 3, activation="relu")(inputs))
    keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(features)).export(folder, verbose=False)


def make_encoder(folder: str) -> None:
    """BERT-base as the GPU's benchmark has it, with its last layer's words as the one output."""
    import gpu_models_keras as models  # noqa: PLC0415 (as above)
    import keras  # noqa: PLC0415 (as above)

    keras.utils.set_random_seed(17)
    model = models.make_bert()
    models.draw_weights(model)
    encoder = keras.Model(model.inputs, {"hidden": model.output["hidden"]})
    models.check_not_constant([encoder(models.draw_inputs("bert", 2))["hidden"]])
    encoder.export(folder, verbose=False)


def draw_inputs(model: str, names: Sequence[str], batch: int, rng: Any) -> dict[str, Any]:
    """Random inputs of one call, of any model of the tables; `names` are those of its signature's inputs."""
    if model in TEXTS:
        import gpu_models  # noqa: PLC0415 (imports NumPy)

        lengths = rng.integers(gpu_models.LENGTH // 2, gpu_models.LENGTH + 1, (batch, 1))
        ids = rng.integers(0, gpu_models.VOCABULARY, (batch, gpu_models.LENGTH))
        mask = list(range(gpu_models.LENGTH)) < lengths
        return {"input_ids": ids.astype("int32"), "attention_mask": mask.astype("int32")}
    [name] = names
    size, scale = MODELS[model]
    return {name: rng.uniform(0, scale, (batch, size, size, 3)).astype("float32")}


def main(folder: str, *names: str) -> None:
    """Make what is missing."""
    sys.path.insert(0, str(ROOT / "tests" / "models"))
    for name in names:
        target = pathlib.Path(folder) / name
        if (target / "saved_model.pb").is_file():
            continue
        if name == "tiny":
            make_tiny(str(target))
        elif name in TEXTS:
            make_encoder(str(target))
        else:
            # The tests' maker sees to it that the answers are finite and differ, and that no layer's signal dies.
            from makers.applications import make_application  # noqa: PLC0415 (as above)

            make_application(name, str(target), MODELS[name][1], MODELS[name][0])


if __name__ == "__main__":
    main(*sys.argv[1:])
