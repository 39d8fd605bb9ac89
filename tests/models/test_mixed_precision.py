"""Models that compute in float16 by themselves (Keras's policy "mixed_float16"), as engines of TensorRT-RTX, built without a GPU."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from check_network import check_network, list_halves

import beforehand
from beforehand.backends.registry import find_backend
from beforehand.backends.tensorrt_flavours import RTX
from beforehand.build_engines.plan_engines import plan_engines
from beforehand.precision.prepare_model import prepare_model

pytestmark = pytest.mark.skipif(
    not RTX.find_module(), reason="TensorRT-RTX is not installed (beforehand[tensorrt-rtx])"
)
layers = keras.layers


def make_network() -> Any:
    """Convolutions and what stands between them; the head is in float32, as Keras's guide says."""
    image = keras.Input((16, 16, 3), name="x")
    x = image
    for channels in (8, 16):
        x = layers.Conv2D(channels, 3, padding="same", use_bias=False)(layers.ZeroPadding2D(1)(x))
        x = layers.MaxPooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    x = layers.Activation("swish")(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", dtype="float32")(x))


def make_encoder(dtype: str = "float32") -> Any:
    given = keras.Input((12, 32), name="x", dtype=dtype)
    x = given
    for _ in range(2):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 8)(x, x))
        x = layers.LayerNormalization()(x + layers.Dense(32)(layers.Dense(64, activation="gelu")(x)))
    return keras.Model(given, layers.Dense(4, dtype=dtype)(x))


MAKERS = {
    "network": make_network,
    "encoder": make_encoder,
    "encoder in float16 from end to end": lambda: make_encoder("float16"),
    "recurrent": lambda: keras.Sequential([keras.Input((12, 32), name="x"), layers.LSTM(16), layers.Dense(4)]),
}


@pytest.fixture(scope="module", params=MAKERS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    folder = tmp_path_factory.mktemp("mixed") / "source"
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        keras.utils.set_random_seed(1)
        model = MAKERS[request.param]()
        model.export(str(folder), verbose=False)
    finally:
        keras.mixed_precision.set_global_policy(policy)
    return folder


def convert(source: pathlib.Path, precision: str = "FP32") -> tuple[beforehand.Converter, Any]:
    """The converter, and the one segment of the model."""
    converter = beforehand.Converter(source, backend="tensorrt-rtx", precision_mode=precision, progress="off")
    converter.convert()
    assert converter._converted is not None
    [lowered] = converter._converted[1].lowered
    return converter, lowered


def draw(source: pathlib.Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """An input, and what TensorFlow answers."""
    serve = tf.saved_model.load(str(source)).signatures["serving_default"]
    [(name, spec)] = serve.structured_input_signature[1].items()
    x = np.random.default_rng(1).normal(size=(4, *spec.shape[1:])).astype(spec.dtype.as_numpy_dtype)
    [answer] = serve(**{name: tf.constant(x)}).values()
    return x, answer.numpy()


def test_all_of_it_is_one_segment_with_its_own_arithmetic(source: pathlib.Path) -> None:
    converter, lowered = convert(source)
    assert converter._make_manifest(()).native_nodes == ()
    assert list_halves(lowered.onnx_file) == {"float16"}
    model = onnx.shape_inference.infer_shapes(onnx.load(lowered.onnx_file, load_external_data=False), check_type=True)
    types = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.output)}
    products = {types[node.output[0]] for node in model.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")}
    assert onnx.TensorProto.FLOAT16 in products


@pytest.mark.parametrize("precision", ["FP32", "FP16", "BF16"])
def test_engines_are_built_in_the_types_of_the_model(source: pathlib.Path, precision: str) -> None:
    converter, lowered = convert(source, precision)
    sizes = draw(source)[0].shape[1:]
    [name] = tf.saved_model.load(str(source)).signatures["serving_default"].structured_input_signature[1]
    engines = converter.build(shapes=[{name: (2, *sizes)}, {name: ((1, 8), *sizes)}], signature="serving_default")
    assert len(engines) == 2
    graph = onnx.load(lowered.onnx_file, load_external_data=False).graph
    is_loop = any(node.op_type == "Loop" for node in graph.node)  # of float16 it is no LSTM, and ends by two conditions
    for engine in engines:
        [planned] = plan_engines({0: lowered}, [(0, engine.shapes)], find_backend("tensorrt-rtx"), converter.options)
        assert engine.key == planned.key
        if not is_loop:
            check_network(RTX.import_module(), planned)


@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_what_goes_into_the_builder_computes_what_tensorflow_does(
    source: pathlib.Path, precision: str, tmp_path: pathlib.Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    _, lowered = convert(source, precision)
    x, expected = draw(source)
    prepared = prepare_model(lowered.onnx_file, precision, tmp_path)
    session = onnxruntime.InferenceSession(str(prepared.file), providers=["CPUExecutionProvider"])
    [found] = session.run(None, {lowered.input_names[0]: x})
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(
        found.astype(np.float32), expected.astype(np.float32), rtol=0, atol=5e-3 * np.abs(expected).max()
    )
    if precision == "FP32":  # nothing was rounded that the model does not round
        before = onnx.load(lowered.onnx_file, load_external_data=False).graph
        after = onnx.load(str(prepared.file), load_external_data=False).graph
        casts = [sum(node.op_type == "Cast" for node in graph.node) for graph in (before, after)]
        assert casts[1] <= casts[0]
        assert not prepared.in_half


def test_gelu_and_norms_are_joined_in_a_mixed_model(tmp_path: pathlib.Path) -> None:
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        make_encoder().export(str(tmp_path / "source"), verbose=False)
    finally:
        keras.mixed_precision.set_global_policy(policy)
    _, lowered = convert(tmp_path / "source")
    (tmp_path / "prepared").mkdir()
    prepared = prepare_model(lowered.onnx_file, "FP32", tmp_path / "prepared")
    graph = onnx.load(str(prepared.file), load_external_data=False).graph
    ops = Counter(node.op_type for node in graph.node)
    assert (ops["LayerNormalization"], ops["Gelu"], ops["Erf"]) == (4, 2, 0)


def test_bfloat16_stays_in_tensorflow(tmp_path: pathlib.Path) -> None:
    """tf2onnx writes it as float16, which has another range."""

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8), tf.float32, name="x")])
        def serve(self, x: Any) -> dict[str, Any]:
            y = tf.cast(tf.matmul(tf.cast(x, tf.bfloat16), tf.ones((8, 8), tf.bfloat16)), tf.float32)
            return {"y": tf.nn.relu(tf.matmul(y, tf.ones((8, 8)))) + tf.nn.relu(y)}

    module = Model()
    tf.saved_model.save(module, str(tmp_path / "source"), signatures={"serving_default": module.serve})
    converter = beforehand.Converter(
        tmp_path / "source", backend="tensorrt-rtx", progress="off", minimum_segment_size=1
    )
    converter.convert()
    left = {node.op for _, node in converter._make_manifest(()).native_nodes}
    assert "MatMul" in left
    assert "Cast" in left
