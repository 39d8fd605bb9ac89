"""A segment quantised: small on disk, near its float32, found again by everything that it is made of."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections import Counter
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("nncf")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from beforehand import causes  # noqa: E402
from beforehand.build_engines.settings import BuildSettings  # noqa: E402
from beforehand.build_engines.supervise import Outcome  # noqa: E402
from beforehand.calibrate import quantize_segment as module  # noqa: E402
from beforehand.calibrate.capture_inputs import InputCapture, SegmentInputs  # noqa: E402
from beforehand.calibrate.quantize_segment import make_key, quantize_segment  # noqa: E402
from beforehand.errors import BuildError  # noqa: E402
from beforehand.precision.find_attention import find_attention  # noqa: E402
from beforehand.precision.fold_constants import fold_constants  # noqa: E402
from beforehand.precision.keep_reduced import keep_reduced  # noqa: E402
from beforehand.precision.onnx_graph import OnnxGraph  # noqa: E402
from beforehand.records import LoweredSegment, Segment  # noqa: E402
from beforehand.store import layout  # noqa: E402
from beforehand.store.cache_folder import CacheFolder  # noqa: E402
from beforehand.store.hashing import hash_file  # noqa: E402
from beforehand.store.quantized_cache import QuantizedCache  # noqa: E402

RNG = np.random.default_rng(11)
CHANNELS = 32
Node = tuple[str, list[str], list[str], dict[str, Any]]
# A convolution whose kernel TensorFlow has in another layout, batch normalisation after it, and a dense layer.
NETWORK: list[Node] = [
    ("Transpose", ["kernel"], ["turned"], {"perm": [3, 2, 0, 1]}),
    ("Conv", ["x", "turned"], ["c"], {"pads": [1, 1, 1, 1]}),
    ("Mul", ["c", "scale"], ["s"], {}),
    ("Add", ["s", "shift"], ["b"], {}),
    ("Relu", ["b"], ["r"], {}),
    ("GlobalAveragePool", ["r"], ["p"], {}),
    ("Flatten", ["p"], ["f"], {}),
    ("MatMul", ["f", "dense"], ["y"], {}),
]
CONSTANTS = {
    "kernel": RNG.normal(0, 0.2, (3, 3, 8, CHANNELS)).astype(np.float32),
    "scale": RNG.uniform(0.5, 1.5, (1, CHANNELS, 1, 1)).astype(np.float32),
    "shift": RNG.normal(0, 0.2, (1, CHANNELS, 1, 1)).astype(np.float32),
    "dense": RNG.normal(0, 1, (CHANNELS, 40)).astype(np.float32),
}
WIDTH, LENGTH = 32, 6
# Attention over 6 places, of which one has values ten times as large as the others: what SmoothQuant is for.
ATTENTION: list[Node] = [
    ("MatMul", ["x", "q"], ["xq"], {}),
    ("MatMul", ["x", "k"], ["xk"], {}),
    ("MatMul", ["x", "v"], ["xv"], {}),
    ("Transpose", ["xk"], ["xkt"], {"perm": [0, 2, 1]}),
    ("MatMul", ["xq", "xkt"], ["scores"], {}),
    ("Mul", ["scores", "factor"], ["scaled"], {}),
    ("Softmax", ["scaled"], ["weights"], {"axis": -1}),
    ("MatMul", ["weights", "xv"], ["mixed"], {}),
    ("MatMul", ["mixed", "o"], ["y"], {}),
]


def lower(folder: pathlib.Path, nodes: list[Node], constants: dict[str, Any], shape: list[Any]) -> LoweredSegment:
    """Large constants in a second file, as the lowering writes them."""
    graph = helper.make_graph(
        [helper.make_node(op, ins, outs, name=f"n/{outs[0]}", **attributes) for op, ins, outs, attributes in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    folder.mkdir(exist_ok=True)
    file = folder / layout.ONNX_MODEL
    onnx.save(model, str(file), save_as_external_data=True, location=layout.ONNX_WEIGHTS, size_threshold=1000)
    segment = Segment("TRTEngineOp_000_000", 0, "serving_default", (), (), (), (), (), (), 0)
    if not file.with_name(layout.ONNX_WEIGHTS).exists():
        file.with_name(layout.ONNX_WEIGHTS).touch()
    hashes = hash_file(file), hash_file(file.with_name(layout.ONNX_WEIGHTS))
    return LoweredSegment(segment, str(file), ("x",), ("y",), "digest", (), *hashes)


def lower_network(folder: pathlib.Path) -> LoweredSegment:
    return lower(folder, NETWORK, CONSTANTS, ["n", 8, 10, 10])


def lower_attention(folder: pathlib.Path) -> LoweredSegment:
    rng = np.random.default_rng(2)
    weights = {name: rng.normal(0, 0.2, (WIDTH, WIDTH)).astype(np.float32) for name in "qkvo"}
    return lower(folder, ATTENTION, {**weights, "factor": np.float32(0.02)}, ["n", LENGTH, WIDTH])


def draw(lowered: LoweredSegment, seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    if "dense" in {tensor.name for tensor in onnx.load(lowered.onnx_file, load_external_data=False).graph.initializer}:
        return rng.uniform(-2, 2, size=(1, 8, 10, 10)).astype(np.float32)
    x = rng.uniform(-1, 1, size=(1, LENGTH, WIDTH)).astype(np.float32)
    x[..., 3] *= 10
    return x


def capture(lowered: LoweredSegment, folder: pathlib.Path, count: int = 24) -> SegmentInputs:
    captured = InputCapture(folder)
    for seed in range(count):
        captured.add(0, [draw(lowered, seed)])
    found = captured.find(0)
    assert found is not None
    return found


@dataclasses.dataclass(frozen=True)
class Case:
    plain: LoweredSegment
    inputs: SegmentInputs
    quantized: LoweredSegment
    cache: QuantizedCache


@pytest.fixture(scope="module", params=["network", "attention"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    plain = {"network": lower_network, "attention": lower_attention}[request.param](folder / "segment")
    inputs = capture(plain, folder / "inputs")
    cache = QuantizedCache(CacheFolder(folder / "cache"))
    return Case(plain, inputs, quantize_segment(plain, inputs, BuildSettings(), cache), cache)


def run(file: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(onnxruntime.InferenceSession(file).run(None, {"x": x})[0])


def test_it_answers_nearly_as_before_and_not_equally(case: Case) -> None:
    assert case.quantized.quantized_sha256 == hash_file(pathlib.Path(case.quantized.quantized_file))
    for seed in range(100, 104):
        x = draw(case.plain, seed)
        expected, given = run(case.plain.onnx_file, x), run(case.quantized.quantized_file, x)
        assert 1e-5 < np.abs(given - expected).max() / np.ptp(expected) < 0.05


def test_every_product_has_its_operands_quantised(case: Case) -> None:
    graph = onnx.load(case.quantized.quantized_file).graph
    makers = {name: node for node in graph.node for name in node.output}

    def find_maker(name: str) -> str:
        while makers[name].op_type in ("Flatten", "Transpose"):
            name = makers[name].input[0]
        return str(makers[name].op_type)

    products = [node for node in graph.node if node.op_type in ("Conv", "MatMul")]
    assert Counter(node.op_type for node in products) in ({"Conv": 1, "MatMul": 1}, {"MatMul": 6})
    for node in products:
        assert {find_maker(name) for name in node.input[:2]} == {"DequantizeLinear"}, node.name


def test_zero_points_are_of_uint8(case: Case) -> None:
    constants = {t.name: t for t in onnx.load(case.quantized.quantized_file).graph.initializer}
    graph = onnx.load(case.quantized.quantized_file).graph
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            zero = numpy_helper.to_array(constants[node.input[2]])
            assert zero.dtype == np.uint8 or not zero.any()


def test_weights_are_references_to_the_segments_own_file(case: Case) -> None:
    graph = onnx.load(case.quantized.quantized_file, load_external_data=False).graph
    inline = [tensor for tensor in graph.initializer if tensor.data_location != TensorProto.EXTERNAL]
    outside = [tensor for tensor in graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    own = onnx.load(case.plain.onnx_file, load_external_data=False).graph.initializer
    assert {str(tensor.external_data) for tensor in outside} == {
        str(tensor.external_data) for tensor in own if tensor.data_location == TensorProto.EXTERNAL
    }
    assert max(int(np.prod(tensor.dims)) for tensor in inline) <= CHANNELS * 2
    assert sum(1 for file in pathlib.Path(case.plain.onnx_file).parent.iterdir()) == 3


def test_folded_its_weights_are_those_that_were_quantised(case: Case) -> None:
    """Turned for the convolution, scaled by batch normalisation or by SmoothQuant."""
    model = OnnxGraph(case.quantized.quantized_file)
    scaled = Counter(node.op_type for node in model.graph.node if node.name in node.output)
    assert scaled["Mul"] >= 1
    before = len(model.graph.node)
    assert fold_constants(model) == sum(scaled.values()) == before - len(model.graph.node)
    if "Transpose" in scaled:
        [conv] = [node for node in model.graph.node if node.op_type == "Conv"]
        makers = {name: node for node in model.graph.node for name in node.output}
        weight = model.read(makers[makers[conv.input[1]].input[0]].input[0])
        expected = CONSTANTS["kernel"].transpose(3, 2, 0, 1) * CONSTANTS["scale"].reshape(-1, 1, 1, 1)
        np.testing.assert_array_equal(weight, expected)


def test_a_second_time_nothing_is_run(case: Case, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_child", lambda *_: pytest.fail("NNCF was started"))
    again = dataclasses.replace(case.plain, onnx_file=str(tmp_path / layout.ONNX_MODEL))
    found = quantize_segment(again, case.inputs, BuildSettings(), case.cache)
    assert found.quantized_sha256 == case.quantized.quantized_sha256
    assert pathlib.Path(found.quantized_file).read_bytes() == pathlib.Path(case.quantized.quantized_file).read_bytes()
    with pytest.raises(pytest.fail.Exception, match="NNCF was started"):
        quantize_segment(again, dataclasses.replace(case.inputs, digest="other"), BuildSettings(), case.cache)


def test_an_altered_graph_in_the_cache_is_made_again(case: Case, tmp_path: pathlib.Path) -> None:
    cache = QuantizedCache(CacheFolder(tmp_path))
    graph = tmp_path / "graph"
    graph.write_bytes(b"graph")
    cache.add("key", graph)
    target = tmp_path / "target"
    assert cache.find("key", target) == hash_file(graph)
    assert cache.find("other", target) is None
    [kept] = (tmp_path / "quantized").glob("*.onnx")
    kept.unlink()
    kept.write_bytes(b"grass")
    assert cache.find("key", target) is None


def test_each_part_of_what_a_graph_is_made_of_changes_its_key(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered, inputs = lower_network(tmp_path), SegmentInputs(tmp_path, 3, "digest")
    keys = {
        make_key(lowered, inputs),
        make_key(dataclasses.replace(lowered, onnx_sha256="other"), inputs),
        make_key(dataclasses.replace(lowered, weights_sha256="other"), inputs),
        make_key(lowered, dataclasses.replace(inputs, digest="other")),
    }
    assert make_key(dataclasses.replace(lowered, onnx_file="elsewhere"), inputs) in keys
    monkeypatch.setattr(module, "_find_version", lambda name: "other")
    assert len({*keys, make_key(lowered, inputs)}) == 5


def test_what_has_nothing_to_quantise_has_no_graph_and_is_remembered(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered = lower(tmp_path / "segment", [("Exp", ["x"], ["y"], {})], {}, ["n", 8, 10, 10])
    captured = InputCapture(tmp_path)
    captured.add(0, [np.ones((1, 8, 10, 10), np.float32)])
    inputs, cache = captured.find(0), QuantizedCache(CacheFolder(tmp_path / "cache"))
    assert inputs is not None
    assert quantize_segment(lowered, inputs, BuildSettings(), cache) == lowered
    monkeypatch.setattr(module, "run_child", lambda *_: pytest.fail("NNCF was started"))
    assert quantize_segment(lowered, inputs, BuildSettings(), cache) == lowered


def test_a_failure_of_nncf_is_an_error_with_its_log(tmp_path: pathlib.Path) -> None:
    lowered = lower_network(tmp_path / "segment")
    captured = InputCapture(tmp_path)
    captured.add(0, [np.ones((1, 9, 10, 10), np.float32)])  # no convolution takes it
    inputs = captured.find(0)
    assert inputs is not None
    with pytest.raises(BuildError, match=r"BH401 TRTEngineOp_000_000 was not quantised \(failed\)") as caught:
        quantize_segment(lowered, inputs, BuildSettings(), QuantizedCache(CacheFolder(tmp_path / "cache")))
    assert caught.value.cause == causes.FAILED
    assert "Traceback" in pathlib.Path(caught.value.log).read_text()
    assert {file.name for file in (tmp_path / "segment").iterdir()} == {layout.ONNX_MODEL, layout.ONNX_WEIGHTS}


POOLING: list[Node] = [
    ("ReduceMean", ["x", "axes"], ["m"], {"keepdims": 0}),
    ("Mul", ["m", "factor"], ["s"], {}),
    ("QuantizeLinear", ["s", "scale", "zero"], ["q"], {}),
    ("DequantizeLinear", ["q", "scale", "zero"], ["y"], {}),
]


def test_a_reduction_keeps_its_axis_where_openvino_would_take_a_product_into_it(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(1)
    factor = rng.uniform(0.5, 1.5, (1, WIDTH)).astype(np.float32)
    constants = {"axes": np.array([1]), "factor": factor, "scale": np.float32(0.03), "zero": np.int8(-2)}
    model = OnnxGraph(lower(tmp_path, POOLING, constants, ["n", LENGTH, WIDTH]).onnx_file)
    assert keep_reduced(model) == 1
    assert keep_reduced(model) == 0
    assert [node.op_type for node in model.graph.node[:2]] == ["ReduceMean", "Squeeze"]
    (tmp_path / "out").mkdir()
    file = str(model.write(tmp_path / "out"))
    x = rng.normal(size=(1, LENGTH, WIDTH)).astype(np.float32) * 3
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(next(iter(compiled(x).values())), run(file, x), atol=0.031)
    np.testing.assert_allclose(run(file, x), run(str(tmp_path / layout.ONNX_MODEL), x), atol=1e-6)


def test_attention_is_told_from_a_softmax_at_the_end(tmp_path: pathlib.Path) -> None:
    assert find_attention(OnnxGraph(lower_attention(tmp_path / "attention").onnx_file)) == 1
    ends = [*NETWORK[:-1], ("MatMul", ["f", "dense"], ["z"], {}), ("Softmax", ["z"], ["y"], {})]
    assert find_attention(OnnxGraph(lower(tmp_path / "ends", ends, CONSTANTS, ["n", 8, 10, 10]).onnx_file)) == 0


LIMIT = 48 << 10  # in place of the 2 GB at which a message of ONNX ends


def lower_large(folder: pathlib.Path, *, has_attention: bool) -> LoweredSegment:
    """Weights of more than `LIMIT` in all."""
    rng = np.random.default_rng(2)
    width = 128
    weights = {name: rng.normal(0, 0.1, (width, width)).astype(np.float32) for name in "qkvo"}
    nodes = ATTENTION if has_attention else [("MatMul", ["x", "q"], ["xq"], {}), ("MatMul", ["xq", "o"], ["y"], {})]
    lowered = lower(folder, nodes, {**weights, "factor": np.float32(0.02)}, ["n", LENGTH, width])
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert size > LIMIT
    return dataclasses.replace(lowered, bytes=size)


@pytest.mark.parametrize("has_attention", [False, True])
def test_weights_larger_than_a_message_can_be_are_quantised_all_the_same(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, has_attention: bool
) -> None:
    """In this process, where each message that NNCF makes is held to the limit."""
    from nncf.onnx import engine
    from nncf.onnx.quantization import quantize_model

    from beforehand.calibrate import child

    sizes: list[int] = []

    def check(model: Any) -> None:
        sizes.append(len(model.SerializeToString()))
        if sizes[-1] > LIMIT:
            raise ValueError(f"a message of {sizes[-1]} bytes")

    start = engine.ONNXEngine.__init__

    def start_checked(self: Any, model: Any, **options: Any) -> None:
        check(model)
        start(self, model, **options)

    def run_here(_: str, arguments: list[str], folder: pathlib.Path, *rest: Any) -> Outcome:
        monkeypatch.chdir(folder)
        found = child._quantize(json.loads(pathlib.Path(arguments[0]).read_text()))
        return Outcome(0, "", None, found, 0.0, "", 0, 0, 0, (0, 0, ""), folder / "log")

    monkeypatch.setattr(engine.ONNXEngine, "__init__", start_checked)
    monkeypatch.setattr(quantize_model, "check_model_protobuf_size", check)
    monkeypatch.setattr(module, "run_child", run_here)
    monkeypatch.setattr(module, "MOST_SMOOTHED", LIMIT)
    lowered = lower_large(tmp_path / "segment", has_attention=has_attention)
    rng = np.random.default_rng(0)
    captured = InputCapture(tmp_path / "inputs")
    for _ in range(24):
        captured.add(0, [rng.uniform(-1, 1, (1, LENGTH, 128)).astype(np.float32)])
    inputs = captured.find(0)
    assert inputs is not None
    quantized = quantize_segment(lowered, inputs, BuildSettings(), QuantizedCache(CacheFolder(tmp_path / "cache")))
    assert sizes  # NNCF was asked
    assert pathlib.Path(quantized.quantized_file).stat().st_size < LIMIT / 2
    assert "SmoothQuant" in caplog.text
    x = rng.uniform(-1, 1, (1, LENGTH, 128)).astype(np.float32)
    plain, found = run(lowered.onnx_file, x), run(quantized.quantized_file, x)
    assert 1e-5 < np.abs(found - plain).max() < 0.05 * np.ptp(plain)
