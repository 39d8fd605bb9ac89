"""Engines of TensorRT-RTX, built for real on a machine without a GPU: what goes in, what is refused, and by which name."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import Any

import pytest
from tests.gpu.make_segment import CHANNELS, build, write_counted

from beforehand.backends import tensorrt_build
from beforehand.backends.protocol import Refusal
from beforehand.backends.registry import find_backend
from beforehand.backends.tensorrt import PORTABLE
from beforehand.backends.tensorrt_describe import describe_network
from beforehand.backends.tensorrt_flavours import DATA_CENTRE, RTX
from beforehand.build_engines.build_engine import build_engine
from beforehand.build_engines.plan_engines import make_key
from beforehand.errors import BuildError, OptionValueError, PrecisionError
from beforehand.records import UNBOUNDED, EngineSpec, ShapeSet, TensorSpec

onnx = pytest.importorskip("onnx")
needs_rtx = pytest.mark.skipif(not RTX.find_module(), reason="TensorRT-RTX is not installed (beforehand[tensorrt-rtx])")
RANGE = ShapeSet(("x",), ((1, 3, 8, 8),), ((8, 3, 8, 8),))


def write_model(folder: pathlib.Path, op: str = "Relu", dims: Any = (None, 3, 8, 8), **attributes: Any) -> pathlib.Path:
    """A convolution, named as TensorFlow's node, and an op."""
    import numpy as np

    helper = onnx.helper
    weight = onnx.numpy_helper.from_array(np.random.default_rng(0).random((4, 3, 3, 3), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="model/conv__7", pads=[1, 1, 1, 1]),
        helper.make_node(op, ["c"], ["y"], name="model/last", **attributes),
    ]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(dims))
    dtype = onnx.TensorProto.INT64 if op == "NonZero" else onnx.TensorProto.FLOAT
    graph = helper.make_graph(nodes, "g", [x], [helper.make_tensor_value_info("y", dtype, None)], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, folder / "segment.onnx")
    return folder / "segment.onnx"


def make_spec(file: pathlib.Path, shapes: ShapeSet = RANGE, **changed: Any) -> EngineSpec:
    backend = find_backend("tensorrt-rtx")
    spec = EngineSpec(
        "TRTEngineOp_000_000", 0, str(file), ("x",), ("y",), shapes, "tensorrt-rtx", backend.find_version(), "FP32",
        PORTABLE, (), "", graph="digest",
    )  # fmt: skip
    spec = dataclasses.replace(spec, **changed)
    return dataclasses.replace(spec, key=make_key(spec))


@needs_rtx
def test_the_network_is_strongly_typed_and_has_what_the_model_has(tmp_path: pathlib.Path) -> None:
    trt = RTX.import_module()
    logger = tensorrt_build.make_logger(trt, is_silent=True)
    parsed = tensorrt_build.parse(trt, logger, trt.Builder(logger), str(write_model(tmp_path)))
    network = parsed.network
    assert parsed.refusal is None
    assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    assert [(item.name, tuple(item.shape), item.dtype) for item in inputs] == [("x", (-1, 3, 8, 8), trt.float32)]
    types = {network.get_layer(index).type for index in range(network.num_layers)}
    assert {trt.LayerType.CONVOLUTION, trt.LayerType.ACTIVATION} <= types
    output = network.get_output(0)
    assert (output.name, tuple(output.shape), output.dtype) == ("y", (-1, 4, 8, 8), trt.float32)


@needs_rtx
@pytest.mark.parametrize("shapes", [RANGE, ShapeSet(("x",), ((2, 3, 8, 8),))], ids=["range", "one shape"])
def test_engines_are_built_where_there_is_no_gpu(shapes: ShapeSet, tmp_path: pathlib.Path) -> None:
    phases: list[str] = []
    engine = build_engine(make_spec(write_model(tmp_path), shapes), tmp_path, report=lambda p: phases.append(p.phase))
    assert engine.bytes > 10_000
    assert (engine.backend, engine.target) == ("tensorrt-rtx", PORTABLE)
    assert "compiling" in phases


@needs_rtx
@pytest.mark.parametrize("target", ["cuda-sm_89", "cuda-sm_80+sm_120"])
def test_engines_for_some_gpus(target: str, tmp_path: pathlib.Path) -> None:
    assert find_backend("tensorrt-rtx").describe_target(target) == target
    assert build_engine(make_spec(write_model(tmp_path), target=target), tmp_path).target == target


@needs_rtx
def test_a_gpu_that_the_release_does_not_know_is_told_with_those_that_it_does(tmp_path: pathlib.Path) -> None:
    with pytest.raises(BuildError, match=r"cannot build for SM12.*it knows SM75, SM80") as caught:
        build_engine(make_spec(write_model(tmp_path), target="cuda-sm_12"), tmp_path)
    assert caught.value.cause == "target"


@needs_rtx
def test_every_node_that_the_parser_refuses_is_named(tmp_path: pathlib.Path) -> None:
    file = write_model(tmp_path, "Det")
    refusal = find_backend("tensorrt-rtx").check_model(str(file))
    assert refusal is not None
    assert refusal.nodes == ("model/last",)
    assert "does not take Det (UNSUPPORTED_NODE)" in refusal.reason
    with pytest.raises(BuildError, match="Nodes blamed: model/last") as caught:
        build_engine(make_spec(file), tmp_path)
    assert (caught.value.cause, caught.value.nodes) == ("unsupported", ("model/last",))


@needs_rtx
def test_what_reads_an_input_as_a_shape_is_named(tmp_path: pathlib.Path) -> None:
    helper = onnx.helper
    values = [
        helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None]),
        helper.make_tensor_value_info("amounts", onnx.TensorProto.INT64, [2]),
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None]),
    ]
    nodes = [helper.make_node("Pad", ["x", "amounts"], ["y"], name="model/pad")]
    graph = helper.make_graph(nodes, "g", values[:2], values[2:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "segment.onnx"
    )
    refusal = find_backend("tensorrt-rtx").check_model(str(tmp_path / "segment.onnx"))
    assert refusal is not None
    assert refusal.nodes == ("model/pad",)
    assert "reads amounts as a shape, and wants bounds of its values" in refusal.reason


@needs_rtx
def test_a_node_without_an_implementation_is_refused_by_name_before_it_is_built_and_if_it_is(
    tmp_path: pathlib.Path,
) -> None:
    file = write_model(tmp_path, "NonZero")
    refusal = find_backend("tensorrt-rtx").check_model(str(file))  # its parser takes it
    assert refusal == Refusal("TensorRT-RTX has no kernels of NON_ZERO", ("model/last",))
    with pytest.raises(BuildError, match="has no runners that implement it") as caught:
        build_engine(make_spec(file), tmp_path)
    assert (caught.value.cause, caught.value.nodes) == ("no-implementation", ("model/last",))


@needs_rtx
def test_outputs_whose_size_comes_of_the_values_are_built(tmp_path: pathlib.Path) -> None:
    """tests/gpu runs this one."""
    model = write_counted(tmp_path)
    assert build(tmp_path, model, (1, CHANNELS), (16, CHANNELS)).bytes > 10_000
    trt = RTX.import_module()
    logger = tensorrt_build.make_logger(trt, is_silent=True)
    builder = trt.Builder(logger)
    network = tensorrt_build.parse(trt, logger, builder, str(tmp_path / "segment.onnx")).network
    profile = builder.create_optimization_profile()
    profile.set_shape("x", (1, CHANNELS), (4, CHANNELS), (16, CHANNELS))
    found = describe_network(trt, network, profile)
    assert found.ranges == {"x": ((1, CHANNELS), (4, CHANNELS), (16, CHANNELS))}
    assert found.inputs == (TensorSpec("x", "float32", (None, CHANNELS)),)
    assert found.outputs == (
        TensorSpec("places", "int64", (None,)),
        TensorSpec("rows", "float32", (None, CHANNELS)),
        TensorSpec("filled", "float32", (None, 3)),
    )
    assert {"FILL", "SLICE"} <= set(found.layers)
    assert found.is_strongly_typed


@needs_rtx
@pytest.mark.parametrize("op", ["Unique", "Compress"])
def test_operations_that_choose_by_value_are_refused_by_name(op: str, tmp_path: pathlib.Path) -> None:
    helper = onnx.helper
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None])
    keep = helper.make_tensor_value_info("keep", onnx.TensorProto.BOOL, [None])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None])
    inputs = [x, keep] if op == "Compress" else [x]
    node = helper.make_node(op, [value.name for value in inputs], ["y"], name="model/last")
    model = helper.make_model(
        helper.make_graph([node], "g", inputs, [y]), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    onnx.save(model, tmp_path / "segment.onnx")
    refusal = find_backend("tensorrt-rtx").check_model(str(tmp_path / "segment.onnx"))
    assert refusal is not None
    assert (refusal.nodes, f"does not take {op} (UNSUPPORTED_NODE)" in refusal.reason) == (("model/last",), True)


@needs_rtx
def test_a_dimension_without_a_largest_size_is_refused(tmp_path: pathlib.Path) -> None:
    shapes = ShapeSet(("x",), ((1, 3, 8, 8),), ((UNBOUNDED, 3, 8, 8),))
    with pytest.raises(BuildError, match="has an input of any size") as caught:
        build_engine(make_spec(write_model(tmp_path), shapes), tmp_path)
    assert caught.value.cause == "range"


@needs_rtx
def test_a_second_try_asks_for_less_and_is_another_engine(tmp_path: pathlib.Path) -> None:
    backend = find_backend("tensorrt-rtx")
    spec = make_spec(write_model(tmp_path))
    eased = backend.ease(spec)
    assert eased is not None
    assert backend.ease(eased) is None
    eased = dataclasses.replace(eased, key=make_key(eased))
    assert eased.key != spec.key
    assert build_engine(eased, tmp_path).bytes > 10_000


@needs_rtx
def test_what_is_found_is_told_without_a_gpu_too() -> None:
    backend = find_backend("tensorrt-rtx")
    probe = backend.probe()
    assert probe.usable
    assert probe.version
    if not backend.list_targets_here():
        assert "engines are built here for others" in probe.device


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for flavour in (RTX, DATA_CENTRE):
        monkeypatch.setattr(type(flavour), "find_module", lambda self: "")
        probe = find_backend(flavour.name).probe()
        assert (probe.usable, probe.version) == (False, "")
        assert probe.advice == f"pip install 'beforehand[{flavour.name}]'"


@pytest.mark.parametrize("target", ["cuda", "cuda-sm_", "cuda-sm_89+", "cpu-x86_64", "sm_89"])
def test_a_target_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(OptionValueError, match=r"BH102 target is .*cuda-sm_89"):
        find_backend("tensorrt-rtx").describe_target(target)


def test_a_precision_that_it_does_not_have_yet_is_refused() -> None:
    with pytest.raises(PrecisionError, match="INT8 is not available with the backend tensorrt-rtx"):
        find_backend("tensorrt-rtx").resolve_precision("INT8", "cuda-ampere+")


@needs_rtx
def test_the_gpus_that_the_release_names_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from beforehand.backends import cuda

    backend = find_backend("tensorrt-rtx")
    assert re.match(r"it names GPUs of compute capability 7\.5, 8\.0, 8\.6, 8\.9, 12\.0", backend.probe().details)
    hopper = cuda.Gpu(0, "NVIDIA H100", 90, 80 << 30)
    monkeypatch.setattr(cuda, "find_gpus", lambda: ((hopper,), ""))
    assert "NVIDIA H100 (9.0) is not among them: TensorRT (`beforehand[tensorrt]`" in backend.probe().details
    monkeypatch.setattr(cuda, "find_gpus", lambda: ((cuda.Gpu(0, "NVIDIA L4", 89, 24 << 30),), ""))
    assert "not among them" not in backend.probe().details


@needs_rtx
def test_kernels_are_part_of_the_key_where_a_gpu_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from beforehand.backends import cuda

    backend = find_backend("tensorrt-rtx")
    assert backend.describe_kernels("cuda-ampere+") == ""
    monkeypatch.setattr(cuda, "find_gpus", lambda: ((cuda.Gpu(0, "NVIDIA L4", 89, 24 << 30),), ""))
    assert backend.describe_kernels("cuda-ampere+") == "sm_89"
    assert backend.describe_kernels("cuda-sm_89") == "sm_89"
    assert backend.describe_kernels("cuda-sm_120") == ""


@needs_rtx
@pytest.mark.parametrize(("precision", "rounds"), [("FP32", False), ("TF32", True), ("FP16", False)])
def test_options_reach_the_builder(precision: str, rounds: bool, tmp_path: pathlib.Path) -> None:
    from beforehand.backends import tensorrt_build

    trt = RTX.import_module()
    builder = trt.Builder(tensorrt_build.make_logger(trt, is_silent=True))
    options = (("builder_optimization_level", 1), ("max_workspace_size_bytes", 64 << 20))
    spec = make_spec(write_model(tmp_path), precision=precision, options=options)
    config = tensorrt_build._make_config(trt, builder, spec, ["SM89"])
    assert config.get_flag(trt.BuilderFlag.TF32) is rounds
    assert config.builder_optimization_level == 1
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 << 20
    assert config.num_compute_capabilities == 1
    plain = tensorrt_build._make_config(trt, builder, dataclasses.replace(spec, options=()), [])
    assert plain.builder_optimization_level != 1


@needs_rtx
def test_the_log_says_what_was_done_and_what_tensorrt_made_of_it(tmp_path: pathlib.Path) -> None:
    engine = build_engine(make_spec(write_model(tmp_path), precision="FP16"), tmp_path)
    log = (tmp_path / f"{engine.file}.log").read_text()
    assert "in half precision: Conv 1" in log
    assert "TensorRT's network: " in log
    assert "CONVOLUTION 1 (float16)" in log
