"""Quantised graphs for TensorRT: int8 with zero points of 0, half precision around it; and nodes put back to floating point."""

from __future__ import annotations

import dataclasses
import pathlib
from collections import Counter
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from beforehand.backends import cuda, tensorrt_build  # noqa: E402
from beforehand.backends.describe_cpu import describe_this_cpu  # noqa: E402
from beforehand.backends.openvino_precisions import find_arithmetic  # noqa: E402
from beforehand.backends.registry import find_backend  # noqa: E402
from beforehand.backends.tensorrt_describe import describe_network  # noqa: E402
from beforehand.backends.tensorrt_flavours import DATA_CENTRE, RTX, Flavour  # noqa: E402
from beforehand.errors import BuildError, PrecisionError  # noqa: E402
from beforehand.precision.adapt_quantized import adapt_quantized  # noqa: E402
from beforehand.precision.onnx_graph import OnnxGraph  # noqa: E402
from beforehand.precision.prepare_model import prepare_model  # noqa: E402
from beforehand.precision.revert_nodes import list_quantized, revert_nodes  # noqa: E402
from beforehand.records import EngineSpec, ShapeSet  # noqa: E402
from beforehand.store.hashing import hash_file  # noqa: E402

RNG = np.random.default_rng(4)
KERNEL = RNG.normal(0, 0.2, (16, 8, 3, 3)).astype(np.float32)
DENSE = RNG.normal(0, 0.3, (16, 12)).astype(np.float32)
CONSTANTS: dict[str, Any] = {
    "kernel": KERNEL,
    "kernel_scale": (np.abs(KERNEL).max(axis=(1, 2, 3)) / 127).astype(np.float32),
    "kernel_zero": np.zeros(16, np.int8),
    "dense": DENSE,
    "dense_scale": (np.abs(DENSE).max(axis=0) / 127).astype(np.float32),
    "dense_zero": np.zeros(12, np.int8),
    "x_scale": np.float32(0.031),
    "x_zero": np.int8(3),  # as NNCF has it for values that are not symmetric
    "r_scale": np.float32(0.02),
    "r_zero": np.uint8(0),  # and after a Relu
    "bias": RNG.normal(0, 0.1, 16).astype(np.float32),
    "axes": np.array([2, 3]),
}
NODES: list[Any] = [
    ("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"], {}),
    ("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"], {}),
    ("QuantizeLinear", ["kernel", "kernel_scale", "kernel_zero"], ["kq"], {"axis": 0}),
    ("DequantizeLinear", ["kq", "kernel_scale", "kernel_zero"], ["kd"], {"axis": 0}),
    ("Conv", ["xd", "kd", "bias"], ["c"], {"pads": [1, 1, 1, 1]}),
    ("Relu", ["c"], ["r"], {}),
    ("ReduceMean", ["r", "axes"], ["m"], {"keepdims": 0}),
    ("QuantizeLinear", ["m", "r_scale", "r_zero"], ["rq"], {}),
    ("DequantizeLinear", ["rq", "r_scale", "r_zero"], ["rd"], {}),
    ("Unsqueeze", ["rd", "last"], ["u"], {}),
    ("Squeeze", ["u", "last"], ["s"], {}),
    ("QuantizeLinear", ["dense", "dense_scale", "dense_zero"], ["dq"], {"axis": 1}),
    ("DequantizeLinear", ["dq", "dense_scale", "dense_zero"], ["dd"], {"axis": 1}),
    ("MatMul", ["s", "dd"], ["y"], {}),
]
FLOAT: list[Any] = [
    ("Conv", ["x", "kernel", "bias"], ["c"], {"pads": [1, 1, 1, 1]}),
    ("Relu", ["c"], ["r"], {}),
    ("ReduceMean", ["r", "axes"], ["m"], {"keepdims": 0}),
    ("MatMul", ["m", "dense"], ["y"], {}),
]


def save(folder: pathlib.Path, nodes: list[Any] = NODES, **changed: Any) -> str:
    constants = {**CONSTANTS, "last": np.array([-1]), **changed}
    used = {name for _, inputs, _, _ in nodes for name in inputs}
    graph = helper.make_graph(
        [helper.make_node(op, ins, outs, name=f"n/{outs[0]}", **attributes) for op, ins, outs, attributes in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 10, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder.mkdir(exist_ok=True)
    file = str(folder / "segment.onnx")
    onnx.save(model, file, save_as_external_data=True, location="segment.weights", size_threshold=1000)
    return file


def write(model: OnnxGraph, folder: pathlib.Path) -> str:
    folder.mkdir()
    return str(model.write(folder))


def run(file: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(onnxruntime.InferenceSession(file).run(None, {"x": x})[0])


def draw() -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).uniform(-3, 3, (2, 8, 10, 10)).astype(np.float32)


def read_constants(file: str) -> dict[str, np.ndarray[Any, Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}


def test_adapted_it_is_int8_without_zero_points_and_answers_as_before(tmp_path: pathlib.Path) -> None:
    file = save(tmp_path / "plain")
    model = OnnxGraph(file)
    assert adapt_quantized(model) == 4
    adapted = write(model, tmp_path / "out")
    graph, constants = onnx.load(adapted).graph, read_constants(adapted)
    quantising = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert Counter(node.op_type for node in quantising) == {"QuantizeLinear": 2, "DequantizeLinear": 4}
    for node in quantising:
        scale, zero = (constants[name] for name in node.input[1:])
        assert zero.dtype == np.int8
        assert not zero.any()
        np.testing.assert_array_equal(scale.astype(np.float16).astype(np.float32), scale)
        assert scale.ndim == (node.input[0] in constants)
    x, unit = draw(), np.ptp(run(file, draw()))
    assert np.abs(run(adapted, x) - run(file, x)).max() < 0.02 * unit


def test_no_weight_is_off_by_more_than_half_a_step(tmp_path: pathlib.Path) -> None:
    """Of the scale that it is read with, which was rounded to half precision before."""
    model = OnnxGraph(save(tmp_path / "plain"))
    adapt_quantized(model)
    adapted = write(model, tmp_path / "out")
    constants = read_constants(adapted)
    [node] = [n for n in onnx.load(adapted).graph.node if n.op_type == "DequantizeLinear" and n.output[0] == "kd"]
    weights, scale = (constants[name] for name in node.input[:2])
    assert weights.dtype == np.int8
    wide = scale.reshape(-1, 1, 1, 1)
    assert (np.abs(weights * wide - KERNEL) <= wide * 0.5001).all()
    assert (scale >= CONSTANTS["kernel_scale"]).all()


@pytest.mark.parametrize("scale", [np.float32(1e-9), np.float32(3e-6)])
def test_a_scale_that_half_precision_hardly_has_is_never_0(scale: np.float32, tmp_path: pathlib.Path) -> None:
    file = save(tmp_path / "plain", kernel=KERNEL * scale, kernel_scale=np.full(16, scale / 100, np.float32))
    prepared = prepare_model(file, "INT8", pathlib.Path(tmp_path))
    y = run(str(prepared.file), draw())
    assert np.isfinite(y).all()


def test_a_value_is_quantised_by_a_scale_of_the_type_that_it_is_read_with(tmp_path: pathlib.Path) -> None:
    """Of the graph's input too, before which nothing computes in half precision."""
    (tmp_path / "out").mkdir()
    prepared = prepare_model(save(tmp_path / "plain"), "INT8", tmp_path / "out")
    graph, constants = onnx.load(str(prepared.file)).graph, read_constants(str(prepared.file))
    scales = {node.output[0]: constants[node.input[1]] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert len(scales) == 2
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in scales:
            assert scales.pop(node.input[0]).dtype == constants[node.input[1]].dtype == np.float16
    assert not scales


def test_weights_that_were_int8_already_with_zero_points_are_as_before(tmp_path: pathlib.Path) -> None:
    """Of quantization-aware training: ranges that are not quite symmetric."""
    nodes = [node for node in NODES if node[2] != ["kq"]]
    nodes = [(op, ["kernel_int8" if name == "kq" else name for name in ins], outs, a) for op, ins, outs, a in nodes]
    for zero in (np.int8(-1), np.int8(50)):
        more = {
            "kernel_int8": RNG.integers(-128, 128, KERNEL.shape).astype(np.int8),
            "kernel_zero": np.full(16, zero, np.int8),
        }
        folder = tmp_path / str(zero)
        file = save(folder, nodes, **more)
        model = OnnxGraph(file)
        assert adapt_quantized(model) == 4
        expected = run(file, draw())
        error = np.abs(run(write(model, folder / "out"), draw()) - expected).max()
        assert error < 0.03 * np.ptp(expected)


def test_all_reverted_it_computes_in_float32(tmp_path: pathlib.Path) -> None:
    model = OnnxGraph(save(tmp_path / "plain"))
    quantized = list_quantized(model)
    assert [node.op_type for node in quantized] == ["Conv", "MatMul"]
    assert revert_nodes(model, {node.name for node in quantized}) == 2
    assert list_quantized(model) == []
    reverted = write(model, tmp_path / "out")
    np.testing.assert_allclose(
        run(reverted, draw()), run(save(tmp_path / "float", FLOAT), draw()), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", ["n/c", "n/y"])
def test_one_reverted_leaves_the_other(name: str, tmp_path: pathlib.Path) -> None:
    model = OnnxGraph(save(tmp_path / "plain"))
    assert revert_nodes(model, {name, "n/r", "nobody"}) == 1
    [left] = list_quantized(model)
    assert {left.name, name} == {"n/c", "n/y"}
    expected = run(save(tmp_path / "float", FLOAT), draw())
    error = np.abs(run(write(model, tmp_path / "out"), draw()) - expected).max() / np.ptp(expected)
    assert 1e-6 < error < 0.05


def test_int8_weights_are_reverted_to_what_they_stand_for(tmp_path: pathlib.Path) -> None:
    file = save(tmp_path / "plain")
    model = OnnxGraph(file)
    adapt_quantized(model)
    adapted = write(model, tmp_path / "adapted")
    again = OnnxGraph(adapted)
    assert revert_nodes(again, {"n/c", "n/y"}) == 2
    expected = run(save(tmp_path / "float", FLOAT), draw())
    assert np.abs(run(write(again, tmp_path / "out"), draw()) - expected).max() < 0.02 * np.ptp(expected)


def make_spec(file: str, **fields: Any) -> EngineSpec:
    return dataclasses.replace(
        EngineSpec("TRTEngineOp_000_000", 0, file, ("x",), ("y",), ShapeSet(("x",), ((2, 8, 10, 10),)), "tensorrt-rtx",
                   "1", "INT8", "", (), "key", quantized="hash"),
        **fields,
    )  # fmt: skip


def test_an_openvino_engine_keeps_what_is_kept(tmp_path: pathlib.Path) -> None:
    try:
        find_arithmetic("INT8", describe_this_cpu())
    except PrecisionError as error:
        pytest.skip(str(error))
    nodes = [(op, ["rd" if n == "s" else n for n in ins], *more) for op, ins, *more in NODES if "last" not in ins]
    backend, file = find_backend("openvino"), save(tmp_path / "plain", nodes, x_zero=np.uint8(131))
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for kept in ((), ("n/c",), ("n/y",)):
        data = backend.build(make_spec(file, backend="openvino", kept=kept), lambda phase: None)
        opened = backend.load(np.frombuffer(bytearray(data), np.uint8), ["x"], ["y"], precision="INT8")
        found[kept] = {}
        for op in opened._compiled.get_runtime_model().get_ops():  # type: ignore[attr-defined]
            kind, precision = (
                str(getattr(op.get_rt_info()[name], "value", op.get_rt_info()[name]))
                for name in ("layerType", "runtimePrecision")
            )
            if kind in ("Convolution", "FullyConnected"):
                found[kept][kind] = precision
    eights = {"i8", "u8"}
    assert set(found[()].values()) <= eights
    assert found["n/c",]["Convolution"] not in eights
    assert found["n/c",]["FullyConnected"] in eights
    assert found["n/y",]["FullyConnected"] not in eights
    assert found["n/y",]["Convolution"] in eights


needs_rtx = pytest.mark.skipif(not find_backend("tensorrt-rtx").find_version(), reason="TensorRT-RTX is not installed")


@needs_rtx
def test_tensorrts_parser_has_int8_where_it_was_quantised(tmp_path: pathlib.Path) -> None:
    trt = find_backend("tensorrt-rtx")._trt  # type: ignore[attr-defined]
    (tmp_path / "out").mkdir()
    prepared = prepare_model(save(tmp_path / "plain"), "INT8", tmp_path / "out")
    assert prepared.quantized == 2
    assert "of quantised values: 2" in prepared.describe()
    logger = tensorrt_build.make_logger(trt, is_silent=True)
    builder = trt.Builder(logger)
    parsed = tensorrt_build.parse(trt, logger, builder, str(prepared.file))
    assert parsed.refusal is None
    profile = builder.create_optimization_profile()
    profile.set_shape("x", *[(2, 8, 10, 10)] * 3)
    told = describe_network(trt, parsed.network, profile)
    assert told.is_strongly_typed
    assert told.dtypes["QUANTIZE"] == {"int8"}
    assert told.layers["QUANTIZE"] == 2
    assert told.layers["DEQUANTIZE"] == 4
    for kind in ("DEQUANTIZE", "CONVOLUTION", "MATRIX_MULTIPLY"):
        assert told.dtypes[kind] == {"float16"}
    assert [spec.dtype for spec in (*told.inputs, *told.outputs)] == ["float32", "float32"]


def test_what_a_release_has_no_int8_of_stays_in_half_precision(tmp_path: pathlib.Path) -> None:
    (tmp_path / "out").mkdir()
    prepared = prepare_model(save(tmp_path / "plain"), "INT8", tmp_path / "out", int8_ops={"MatMul"})
    assert prepared.quantized == 1
    ops = Counter(node.op_type for node in onnx.load(str(prepared.file)).graph.node)
    assert (ops["QuantizeLinear"], ops["DequantizeLinear"]) == (1, 2)
    assert dict(prepared.in_half)["Conv"] == 1


@needs_rtx
def test_an_engine_of_which_nothing_would_be_int8_is_refused(tmp_path: pathlib.Path) -> None:
    file = save(tmp_path / "plain")
    with pytest.raises(BuildError, match="BH401 nothing of TRTEngineOp_000_000 runs in INT8 with this release"):
        tensorrt_build._prepare(make_spec(file), tmp_path, {"Einsum"})


def test_releases_say_what_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    def list_ops(flavour: Flavour, version: str) -> frozenset[str]:
        monkeypatch.setattr(Flavour, "find_version", lambda self: version)
        return flavour.list_int8_ops()

    assert list_ops(RTX, "1.6.1.120") == {"Gemm", "MatMul"}
    assert list_ops(RTX, "1.7.1.116") == list_ops(RTX, "2.0") == list_ops(DATA_CENTRE, "10.13") == frozenset()


def test_int8_is_refused_where_a_release_wants_a_gpu_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = find_backend("tensorrt-rtx")
    monkeypatch.setattr(cuda, "find_gpus", lambda: ((), "none"))
    monkeypatch.setattr(Flavour, "find_version", lambda self: "1.4.0.76")
    with pytest.raises(
        PrecisionError, match=r"BH103 .*1\.4\.0\.76 on this machine\. that release builds .*Try: 1\.5 or"
    ):
        backend.resolve_precision("INT8", "cuda-ampere+")
    monkeypatch.setattr(Flavour, "find_version", lambda self: "1.5.0.114")
    assert backend.resolve_precision("INT8", "cuda-ampere+") == "INT8"
    assert backend.resolve_rest("cuda-ampere+") == "FP16"


def test_hashes_of_files_do_not_change_where_nothing_is_kept(tmp_path: pathlib.Path) -> None:
    file = pathlib.Path(save(tmp_path / "plain"))
    before = hash_file(file)
    revert_nodes(OnnxGraph(str(file)), {"n/c"})
    assert hash_file(file) == before
