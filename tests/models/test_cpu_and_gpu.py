"""One SavedModel with engines for CPUs and for GPUs: each machine runs its own. The GPU's part is in tests/gpu."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import beforehand
from beforehand.backends import cuda
from beforehand.backends.tensorrt_flavours import RTX
from beforehand.cli.main import main
from beforehand.store import layout
from beforehand.store.manifest import read_manifest

pytestmark = pytest.mark.skipif(
    not RTX.find_module(), reason="TensorRT-RTX is not installed (beforehand[tensorrt-rtx])"
)


class Net(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(1)
        self.kernel = tf.Variable(rng.normal(size=(3, 3, 3, 8)).astype(np.float32) / 5)
        self.dense = tf.Variable(rng.normal(size=(8, 10)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32, "x")])
    def serve(self, x: Any) -> dict[str, Any]:
        y = tf.nn.relu(tf.nn.conv2d(x, self.kernel, 2, "SAME"))
        return {"y": tf.nn.softmax(tf.reduce_mean(y, [1, 2]) @ self.dense)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("both") / "model"
    model = Net()
    tf.saved_model.save(model, str(folder), signatures=model.serve)
    return folder


def check_here(folder: pathlib.Path, source: pathlib.Path) -> dict[str, Any]:
    """Load, compare with the source, count."""
    x = tf.constant(np.random.default_rng().normal(size=(4, 16, 16, 3)).astype(np.float32))
    loaded = tf.saved_model.load(str(folder))
    found = loaded.signatures["serving_default"](x=x)["y"]
    expected = tf.saved_model.load(str(source)).signatures["serving_default"](x=x)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3)
    return beforehand.stats(loaded)


def test_engines_for_gpus_are_added_to_a_model_for_cpus(
    source: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    converter = beforehand.Converter(source)
    converter.convert()
    converter.build(shapes={"x": (4, 16, 16, 3)})
    converter.save(tmp_path / "both")
    graph = (tmp_path / "both" / layout.SAVED_MODEL).read_bytes()
    assert main(["add-target", str(tmp_path / "both"), "--backend", "tensorrt-rtx", "--dry-run"]) == 0
    assert "target cuda-ampere+: 1 engines, 1 to build" in capsys.readouterr().out
    [added] = beforehand.add_target(tmp_path / "both", backend="tensorrt-rtx")
    assert (added.backend, added.target) == ("tensorrt-rtx", "cuda-ampere+")
    assert beforehand.add_target(tmp_path / "both", backend="tensorrt-rtx") == ()
    assert (tmp_path / "both" / layout.SAVED_MODEL).read_bytes() == graph
    stats = check_here(tmp_path / "both", source)
    assert stats["signatures"]["serving_default"] == {"engine_calls": 1, "native_calls": 0}


def test_a_model_for_gpus_alone_runs_natively_where_there_is_none_and_says_so(
    source: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    if cuda.find_gpus()[0]:
        pytest.skip("there is a GPU")
    converter = beforehand.Converter(source, backend="tensorrt-rtx")
    converter.convert()
    converter.build(shapes={"x": (4, 16, 16, 3)})
    converter.save(tmp_path / "gpu")
    stats = check_here(tmp_path / "gpu", source)
    assert stats["signatures"]["serving_default"] == {"engine_calls": 0, "native_calls": 1}
    assert "do not fit this machine: they were built for [tensorrt-rtx" in caplog.text
    assert "no device that its engines run on" in caplog.text
    with pytest.raises(beforehand.errors.EngineMismatchError, match="BH605"):
        beforehand.load(tmp_path / "gpu")


def test_the_drop_in_has_no_backend_but_the_converter_has(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    argv = [
        "convert",
        str(source),
        "-o",
        str(out),
        "--backend",
        "tensorrt-rtx",
        "--target",
        "cuda-sm_89",
        "--shapes",
        "x=1..8x16x16x3",
    ]
    assert main(argv) == 0
    [engine] = read_manifest(layout.find_manifest(out)).engines
    assert (engine.target, engine.shapes.describe()) == ("cuda-sm_89", "x=1..8x16x16x3")
    assert json.loads(layout.find_manifest(out).read_text())["engines"][0]["backend_version"] == RTX.find_version()
