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
FEW = ("mobilenet_v2", "resize_bilinear", "detector", "bert", "lstm_masked", "gru", "dilated", "cond", "while")
# What TensorRT-RTX cannot build as a whole, by reason; see the tests below.
REFUSED = {"ragged", "ragged_inputs", "ragged_inside", "segment_sums"}


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


def convert_and_build(name: str, made_model: Callable[[str], life_cycle.MadeModel]) -> beforehand.Converter:
    expected = TABLE[name]
    converter = beforehand.Converter(
        made_model(name).folder, backend="tensorrt-rtx", progress="off", **expected.options
    )
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


@pytest.mark.slow
@pytest.mark.parametrize("model", OTHERS)
def test_more_models_are_built(model: str, made_model: Callable[[str], life_cycle.MadeModel]) -> None:
    check_built(model, made_model)
