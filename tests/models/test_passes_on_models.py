"""The passes before a strongly typed builder, on whole models: what they give computes what the segment does, in float32 and in half.

Computed by OpenVINO in float32, of both: a difference is the passes', and the rounding of weights, not an engine's.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import life_cycle
import numpy as np
import pytest
from draw_inputs import draw_inputs
from expect_structures import STRUCTURES
from expectations import EXPECTATIONS

import beforehand
from beforehand.backends.import_openvino import import_openvino
from beforehand.precision.prepare_model import prepare_model

TABLE = {**EXPECTATIONS, **STRUCTURES}
FEW = ("bert", "vit", "keras_encoder", "mobilenet_v2", "lstm_masked", "cond")
OTHERS = sorted(name for name, expected in TABLE.items() if name not in FEW and not expected.slow)
# Of the largest value of an output. Networks of random weights amplify what is rounded: the bound only tells wrong from near.
TOLERANCE = {"FP32": 1e-4, "FP16": 6e-2, "BF16": 4e-1}
# Where half precision says nothing. ResNet50's weights are drawn: 2^-12 of noise on its input moves its answers by a tenth of
# their size, as the rounding of its weights does by a third; the detector gives numbers of classes.
FP32_ALONE = ("detector", "mobilenet_v2", "resnet50")


def compute(file: pathlib.Path, feeds: list[Any]) -> list[Any]:
    core = import_openvino().Core()
    model = core.read_model(str(file))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [np.array(value) for value in compiled(feeds).to_tuple()]


def check_passes(name: str, made: life_cycle.MadeModel, folder: pathlib.Path) -> int:
    """How many signatures were compared: those that are one segment, on inputs of the first shapes that they are built for."""
    options = {key: value for key, value in TABLE[name].options.items() if key != "backend"}
    converter = beforehand.Converter(made.folder, progress="off", **options)
    converter.convert()
    assert converter._converted is not None
    conversion, compared = converter._converted[1], 0
    for signature in conversion.signatures:
        shapes = TABLE[name].built.get(signature.key)
        if signature.whole is None or not shapes:
            continue
        drawn = draw_inputs(made.inputs, shapes[0], np.random.default_rng(3), made.folder.parent)
        arrays = [drawn[spec.name] for spec in signature.inputs]
        feeds = [np.asarray(arrays[place]) for place in signature.whole.inputs]
        lowered = conversion.lowered[signature.whole.segment]
        expected = compute(pathlib.Path(lowered.onnx_file), feeds)
        for precision, tolerance in TOLERANCE.items():
            if precision != "FP32" and name in FP32_ALONE:
                continue
            (folder / f"{signature.key}_{precision}").mkdir()
            prepared = prepare_model(lowered.onnx_file, precision, folder / f"{signature.key}_{precision}")
            for found, wanted in zip(compute(prepared.file, feeds), expected, strict=True):
                assert found.dtype == wanted.dtype
                if wanted.dtype.kind == "f" and wanted.size:
                    scale = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)) + 1e-6
                    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * scale, err_msg=precision)
                elif precision == "FP32":
                    np.testing.assert_array_equal(found, wanted)
        compared += 1
    return compared


@pytest.mark.parametrize("model", FEW)
def test_passes_keep_what_models_compute(
    model: str, made_model: Callable[[str], life_cycle.MadeModel], tmp_path: pathlib.Path
) -> None:
    assert check_passes(model, made_model(model), tmp_path) == 1


@pytest.mark.slow
@pytest.mark.parametrize("model", OTHERS)
def test_passes_keep_what_more_models_compute(
    model: str, made_model: Callable[[str], life_cycle.MadeModel], tmp_path: pathlib.Path
) -> None:
    check_passes(model, made_model(model), tmp_path)
