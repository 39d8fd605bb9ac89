"""A model of float16 inside, and of float16 from end to end, on the GPU: NumPy and torch arrays in and out, with and without TensorFlow."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

import beforehand

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
BATCHES = (1, 3, 8)


@pytest.fixture(scope="module", params=["float32", "float16"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Under Keras's policy "mixed_float16", whose signature is of the parameter's dtype."""
    folder, layers = tmp_path_factory.mktemp("half"), keras.layers
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        keras.utils.set_random_seed(2)
        given = keras.Input((24, 32), name="x", dtype=request.param)
        x = layers.LayerNormalization()(given + layers.MultiHeadAttention(4, 8)(given, given))
        x = layers.LayerNormalization()(x + layers.Dense(32)(layers.Dense(64, activation="gelu")(x)))
        keras.Model(given, layers.Dense(5, dtype=request.param)(x)).export(str(folder / "source"), verbose=False)
    finally:
        keras.mixed_precision.set_global_policy(policy)
    converter = beforehand.Converter(folder / "source", backend="tensorrt-rtx", progress="off")
    converter.convert()
    assert converter._make_manifest(()).native_nodes == ()
    converter.build(shapes=[{"x": (1, 24, 32)}, {"x": ((1, 8), 24, 32)}], signature="serving_default")
    converter.save(folder / "built")
    return folder


def answer(folder: pathlib.Path, batch: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """An input, and the source's answer by TensorFlow."""
    serve = tf.saved_model.load(str(folder / "source")).signatures["serving_default"]
    [spec] = serve.structured_input_signature[1].values()
    x = np.random.default_rng(batch).normal(size=(batch, 24, 32)).astype(spec.dtype.as_numpy_dtype)
    [expected] = serve(x=tf.constant(x)).values()
    return x, expected.numpy()


def check(found: Any, expected: np.ndarray[Any, Any]) -> None:
    assert found.dtype == expected.dtype
    difference = np.abs(np.asarray(found, np.float32) - expected.astype(np.float32)).max()
    assert 0 <= difference < 1e-2 * np.abs(expected).max(), difference


@pytest.mark.parametrize("batch", BATCHES)
def test_with_tensorflow(folder: pathlib.Path, batch: int) -> None:
    x, expected = answer(folder, batch)
    loaded = tf.saved_model.load(str(folder / "built"))
    [found] = loaded.signatures["serving_default"](x=tf.constant(x)).values()
    check(found.numpy(), expected)
    assert beforehand.stats(loaded)["signatures"]["serving_default"] == {"engine_calls": 1, "native_calls": 0}


@pytest.mark.parametrize("batch", BATCHES)
def test_numpy_without_tensorflow(folder: pathlib.Path, batch: int) -> None:
    x, expected = answer(folder, batch)
    with beforehand.load(folder / "built") as model:
        [found] = model(x=x).values()
        check(found, expected)
        assert model.inputs[0].dtype == x.dtype.name


@pytest.mark.parametrize("batch", BATCHES)
def test_torch_on_the_gpu(folder: pathlib.Path, batch: int) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA here")
    x, expected = answer(folder, batch)
    with beforehand.load(folder / "built") as model:
        [found] = model(x=torch.from_numpy(x).cuda()).values()
        assert found.is_cuda
        check(found.cpu().numpy(), expected)
