"""Nodes kept in float32 in an engine of half precision: by OpenVINO's own account of what it runs, and by the numbers."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from beforehand.backends.import_openvino import import_openvino
from beforehand.backends.openvino import OpenVinoBackend
from beforehand.backends.openvino_precisions import ARITHMETIC, make_config
from beforehand.errors import BuildError, PrecisionError
from beforehand.records import EngineSpec, ShapeSet

WIDTH = 64
X = np.random.default_rng(1).normal(size=(8, WIDTH)).astype(np.float32)


@pytest.fixture(params=["BF16", "FP16"])
def precision(request: pytest.FixtureRequest) -> str:
    """Those that this CPU has arithmetic in."""
    try:
        found = OpenVinoBackend().resolve_precision(request.param, OpenVinoBackend().describe_target(""))
    except PrecisionError as error:
        pytest.skip(str(error))
    if found != request.param:
        pytest.skip(f"{request.param} runs in {found} here")
    return found


@pytest.fixture
def onnx_file(tmp_path: pathlib.Path) -> str:
    """Four products, each with a bias and tanh; small ones, which OpenVINO would fuse into one node in bf16."""
    rng = np.random.default_rng(0)
    nodes, constants = [], []
    value = "x"
    for place in range(4):
        for name, array in (("w", rng.normal(0, 0.2, (WIDTH, WIDTH))), ("b", rng.normal(0, 0.2, WIDTH))):
            constants.append(numpy_helper.from_array(array.astype(np.float32), f"{name}{place}"))
        nodes.append(
            helper.make_node("Gemm", [value, f"w{place}", f"b{place}"], [f"g{place}"], name=f"layer{place}/Gemm")
        )
        value = "y" if place == 3 else f"t{place}"
        nodes.append(helper.make_node("Tanh", [f"g{place}"], [value], name=f"layer{place}/Tanh"))
    graph = helper.make_graph(
        nodes, "test", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], constants,
    )  # fmt: skip
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), file)
    return str(file)


def build(onnx_file: str, precision: str, kept: tuple[str, ...]) -> tuple[dict[str, str], Any]:
    """In which precision each product runs, and the output."""
    shapes = ShapeSet(("x",), ((8, WIDTH),))
    spec = EngineSpec(
        "s", 0, onnx_file, ("x",), ("y",), shapes, "openvino", "1", precision, "", (), "key", kept=kept
    )  # fmt: skip
    data = OpenVinoBackend().build(spec)
    openvino = import_openvino()
    config = make_config(precision, "LATENCY", OpenVinoBackend().describe_target(""))
    compiled = openvino.Core().import_model(openvino.Tensor(np.frombuffer(bytearray(data), np.uint8)), "CPU", config)
    found = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if info["layerType"].value == "FullyConnected":
            found[node.get_friendly_name()] = info["runtimePrecision"].value
    return found, compiled(X)[0]


def test_a_node_that_is_kept_runs_in_float32_and_the_others_do_not(precision: str, onnx_file: str) -> None:
    exact = build(onnx_file, "FP32", ())[1]
    half = ARITHMETIC[precision].hint
    two, y_two = build(onnx_file, precision, ("layer1/Gemm", "layer2/Gemm"))
    assert sorted(two.values()) == sorted([half, half, "f32", "f32"]), two
    assert {name.split("/")[0] for name, found in two.items() if found == half} == {"layer0", "layer3"}
    everything, y_all = build(
        onnx_file, precision, tuple(f"layer{i}/{op}" for i in range(4) for op in ("Gemm", "Tanh"))
    )
    assert set(everything.values()) == {"f32"}
    y_none = build(onnx_file, precision, ())[1]
    off_none, off_two, off_all = (np.abs(y - exact).max() for y in (y_none, y_two, y_all))
    assert off_two > off_all
    assert off_all < off_none / 5


def test_a_node_that_is_not_in_the_model_is_refused(precision: str, onnx_file: str) -> None:
    with pytest.raises(BuildError, match=r"not in the model\. layer9/Gemm"):
        build(onnx_file, precision, ("layer9/Gemm",))
