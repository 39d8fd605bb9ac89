"""Whole models to engines of TensorRT-RTX, for real, where there is no GPU: what goes in, what stays out, and why."""

from __future__ import annotations

from collections.abc import Callable

import life_cycle
import pytest
from expect_structures import STRUCTURES
from expectations import EXPECTATIONS

import beforehand
from beforehand.backends.tensorrt_flavours import RTX

pytestmark = pytest.mark.skipif(
    not RTX.find_module(), reason="TensorRT-RTX is not installed (beforehand[tensorrt-rtx])"
)
TABLE = {**EXPECTATIONS, **STRUCTURES}
# In `make test`; the others of the table in `make test-all`.
FEW = ("mobilenet_v2", "resize_bilinear", "detector", "bert", "lstm_masked", "gru", "cond", "while")
# What TensorRT-RTX cannot build as a whole, by reason; see the tests below.
REFUSED = {"dilated", "dilated_by_hand", "ragged", "ragged_inputs", "ragged_inside", "segment_sums"}


def takes_text(name: str) -> bool:
    """Such models are built of samples, by other tests: their text is not what engines are about."""
    return not all(
        all(isinstance(dim, int) for dim in shape)
        for sets in TABLE[name].built.values()
        for s in sets
        for shape in s.values()
    )


OTHERS = sorted(
    name
    for name, expected in TABLE.items()
    if name not in (*FEW, *REFUSED) and not expected.slow and not takes_text(name)
)


def convert_and_build(
    name: str, made_model: Callable[[str], life_cycle.MadeModel], precision: str = "FP32"
) -> beforehand.Converter:
    expected = TABLE[name]
    options = {**expected.options, "precision_mode": precision}
    converter = beforehand.Converter(made_model(name).folder, backend="tensorrt-rtx", progress="off", **options)
    converter.convert()
    for key, shapes in expected.built.items():
        converter.build(shapes=list(shapes), signature=key)
    return converter


def check_built(name: str, made_model: Callable[[str], life_cycle.MadeModel]) -> None:
    converter = convert_and_build(name, made_model)
    assert {engine.target for engine in converter.engines} == {"cuda-ampere+"}
    wanted = sum(len({str(shapes) for shapes in sets}) for sets in TABLE[name].built.values())
    assert len(converter.engines) >= wanted
    assert all(engine.bytes > 10_000 for engine in converter.engines)


@pytest.mark.parametrize("model", FEW)
def test_models_are_built(model: str, made_model: Callable[[str], life_cycle.MadeModel]) -> None:
    check_built(model, made_model)


@pytest.mark.parametrize("precision", ["FP16", "BF16"])
@pytest.mark.parametrize("model", ["mobilenet_v2", "bert", "lstm_masked", "while"])
def test_models_are_built_in_half_precision(
    model: str, precision: str, made_model: Callable[[str], life_cycle.MadeModel]
) -> None:
    engines = convert_and_build(model, made_model, precision).engines
    assert {engine.precision for engine in engines} == {precision}
    if model == "mobilenet_v2":  # its weights are what the engine is made of
        whole = {engine.shapes: engine.bytes for engine in convert_and_build(model, made_model).engines}
        assert all(engine.bytes < 0.6 * whole[engine.shapes] for engine in engines)


@pytest.mark.slow
@pytest.mark.parametrize("model", OTHERS)
def test_more_models_are_built(model: str, made_model: Callable[[str], life_cycle.MadeModel]) -> None:
    check_built(model, made_model)


def test_what_reads_an_input_as_a_shape_stays_in_tensorflow(made_model: Callable[[str], life_cycle.MadeModel]) -> None:
    """Padding of a dilated convolution whose amount is computed outside: SpaceToBatchND."""
    converter = convert_and_build("dilated_by_hand", made_model)
    assert converter.engines
    native = [node for _, node in converter._make_manifest(()).native_nodes if "as a shape" in node.detail]
    assert native
    assert all("wants bounds of its values" in node.detail for node in native)
