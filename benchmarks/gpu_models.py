"""The models of the GPU's benchmark as plain data: their inputs, and where each one's files lie."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

SIDE = 224
LENGTH, VOCABULARY = 128, 30522
BATCHES = (1, 8, 64)
INPUTS = {True: ("input_ids", "attention_mask"), False: ("image",)}  # of texts, of images
# Of torch: images in either order of memory, text in one.
LAYOUTS = ("contiguous", "channels_last")
Arrays = dict[str, "np.ndarray[Any, Any]"]


@dataclasses.dataclass(frozen=True)
class Model:
    """A model; `application` is Keras's name for it, empty where gpu_models_keras.py has it. `scale`: of its images."""

    title: str
    application: str = ""
    scale: float = 1.0
    is_text: bool = False
    layouts: tuple[str, ...] = LAYOUTS


MODELS = {
    "bert": Model("BERT-base", is_text=True, layouts=LAYOUTS[:1]),
    "vit": Model("ViT-base", layouts=LAYOUTS[:1]),
    "resnet50": Model("ResNet-50", "ResNet50"),
    "mobilenet_v2": Model("MobileNetV2", "MobileNetV2"),
    "efficientnet_b0": Model("EfficientNet-B0", "EfficientNetB0", 255.0),
}


def draw_inputs(name: str, batch: int) -> Arrays:
    """Random inputs of one call, by name in the signature's order; of a text the last words are masked."""
    rng = np.random.default_rng(batch)
    if not MODELS[name].is_text:
        return {"image": rng.uniform(0, MODELS[name].scale, (batch, SIDE, SIDE, 3)).astype(np.float32)}
    lengths = rng.integers(LENGTH // 2, LENGTH + 1, (batch, 1))
    return {
        "input_ids": rng.integers(0, VOCABULARY, (batch, LENGTH)).astype(np.int32),
        "attention_mask": (np.arange(LENGTH) < lengths).astype(np.int32),
    }


def find_source(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The SavedModel that TensorFlow wrote."""
    return folder / name / "source"


def find_built(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The SavedModel with engines."""
    return folder / name / "built"


def save_arrays(folder: pathlib.Path, name: str, batch: int, kind: str, arrays: Arrays) -> None:
    """Keep one call's `inputs` or `outputs`, a file each."""
    place = folder / name / kind / str(batch)
    place.mkdir(parents=True, exist_ok=True)
    for key, array in arrays.items():
        np.save(place / f"{key}.npy", array)


def load_arrays(folder: pathlib.Path, name: str, batch: int, kind: str) -> Arrays:
    """What `save_arrays` kept; inputs are in the signature's order."""
    place = folder / name / kind / str(batch)
    keys = INPUTS[MODELS[name].is_text] if kind == "inputs" else [file.stem for file in sorted(place.glob("*.npy"))]
    return {key: np.load(place / f"{key}.npy") for key in keys}
