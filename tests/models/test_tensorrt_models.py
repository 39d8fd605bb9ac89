"""Whole models to engines of TensorRT-RTX, for real, where there is no GPU: what goes in, what stays out, and why."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable

import life_cycle
import numpy as np
import onnx
import pytest
from check_network import check_network, list_nodes
from draw_inputs import draw_inputs
from expect_structures import STRUCTURES
from expectations import EXPECTATIONS

import beforehand
from beforehand.backends.registry import find_backend
from beforehand.backends.tensorrt_flavours import RTX
from beforehand.build_engines.plan_engines import plan_engines
from beforehand.errors import BuildError

pytestmark = pytest.mark.skipif(
    not RTX.find_module(), reason="TensorRT-RTX is not installed (beforehand[tensorrt-rtx])"
)
TABLE = {**EXPECTATIONS, **STRUCTURES}
# In `make test`; the others of the table in `make test-all`.
FEW = ("mobilenet_v2", "resize_bilinear", "detector", "bert", "lstm_masked", "gru", "dilated", "cond", "while")
# What TensorRT-RTX cannot build as a whole, since sizes within follow from values.
REFUSED = {
    **dict.fromkeys(
        ("jpeg_scalar", "ragged", "ragged_inputs", "ragged_inside", "segment_sums"), "has an input of any size"
    ),
}
# Kinds of inputs (see draw_inputs.py) in whose place zeros are no text, no rows, no sizes.
VALUES = ("integers", "rows", "splits", "text")


OTHERS = sorted(name for name, expected in TABLE.items() if name not in (*FEW, *REFUSED) and not expected.slow)


def build_as_expected(converter: beforehand.Converter, name: str, made: life_cycle.MadeModel) -> None:
    for key, shapes in TABLE[name].built.items():
        if any(spec["kind"] in VALUES for spec in made.inputs.values()):
            rng = np.random.default_rng(1)
            samples = [draw_inputs(made.inputs, sizes, rng, made.folder.parent) for sizes in shapes]
            converter.build(lambda samples=samples: iter(samples), signature=key)
        else:
            converter.build(shapes=list(shapes), signature=key)


def check_built(
    name: str, made_model: Callable[[str], life_cycle.MadeModel], precision: str = "FP32"
) -> beforehand.Converter:
    expected, made = TABLE[name], made_model(name)
    options = {**expected.options, "precision_mode": precision}
    converter = beforehand.Converter(made.folder, backend="tensorrt-rtx", progress="off", **options)
    converter.convert()
    assert converter._converted is not None
    lowered = dict(enumerate(converter._converted[1].lowered))
    build_as_expected(converter, name, made)
    wanted = sum(len({str(shapes) for shapes in sets}) for sets in expected.built.values())
    assert len(converter.engines) >= wanted
    for engine in converter.engines:
        shapes = (engine.segment_index, engine.shapes)
        [spec] = plan_engines(lowered, [shapes], find_backend("tensorrt-rtx"), converter.options)
        assert (engine.key, engine.target) == (spec.key, "cuda-ampere+")
        check_network(RTX.import_module(), spec)
        data = (converter._work / engine.file).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (engine.bytes, engine.sha256)
        assert engine.bytes > max(5_000, spec.weight_bytes // (2 if precision == "FP32" else 4))  # it holds the weights
    return converter


@pytest.mark.parametrize("model", FEW)
def test_models_are_built(model: str, made_model: Callable[[str], life_cycle.MadeModel]) -> None:
    check_built(model, made_model)


@pytest.mark.parametrize("precision", ["FP16", "BF16"])
@pytest.mark.parametrize("model", ["mobilenet_v2", "bert", "lstm_masked", "while"])
def test_models_are_built_in_half_precision(
    model: str, precision: str, made_model: Callable[[str], life_cycle.MadeModel]
) -> None:
    engines = check_built(model, made_model, precision).engines
    assert {engine.precision for engine in engines} == {precision}
    if model == "mobilenet_v2":  # its weights are what the engine is made of
        whole = {engine.shapes: engine.bytes for engine in check_built(model, made_model).engines}
        assert all(engine.bytes < 0.6 * whole[engine.shapes] for engine in engines)


@pytest.mark.slow
@pytest.mark.parametrize("model", OTHERS)
def test_more_models_are_built(model: str, made_model: Callable[[str], life_cycle.MadeModel]) -> None:
    check_built(model, made_model)


@pytest.mark.parametrize(
    ("model", "layers"),
    [("lstm", {"LSTM": 1}), ("lstm_masked", {"LSTM": 3}), ("gru", {"GRU": 2}), ("gru_masked", {"GRU": 1})],
)
def test_recurrent_layers_go_in_as_a_whole(
    model: str, layers: dict[str, int], made_model: Callable[[str], life_cycle.MadeModel]
) -> None:
    converter = beforehand.Converter(made_model(model).folder, backend="tensorrt-rtx", progress="off")
    converter.convert()
    assert converter._converted is not None
    [lowered] = converter._converted[1].lowered
    graph = onnx.load(lowered.onnx_file, load_external_data=False).graph
    loops = [node.op_type for node in list_nodes(graph) if node.op_type in ("GRU", "Loop", "LSTM", "RNN", "Scan")]
    assert Counter(loops) == layers
    assert converter._make_manifest(()).native_nodes == ()


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(REFUSED))
def test_what_tensorrt_cannot_build_is_told(model: str, made_model: Callable[[str], life_cycle.MadeModel]) -> None:
    made = made_model(model)
    converter = beforehand.Converter(made.folder, backend="tensorrt-rtx", progress="off", **TABLE[model].options)
    converter.convert()
    with pytest.raises(BuildError, match=REFUSED[model]):
        build_as_expected(converter, model, made)
