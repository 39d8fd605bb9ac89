"""A model's whole life with engines for GPUs, each step a process: with TensorFlow (its CPU wheel will do) and without."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import pytest

HERE = pathlib.Path(__file__).parent
BATCHES = (1, 3, 8, 9)  # an engine of that very batch, a range, its end, and none

WITH_TENSORFLOW = """
import json, sys
import numpy as np
import tensorflow as tf
import beforehand
folder, batches = sys.argv[1], json.loads(sys.argv[2])
loaded, source = tf.saved_model.load(folder), tf.saved_model.load(sys.argv[3])
assert not tf.config.list_physical_devices("GPU"), "this TensorFlow has CUDA of its own"
errors = []
for batch in batches:
    x = tf.constant(np.random.default_rng(batch).random((batch, 32, 32, 3), np.float32))
    [found] = loaded.signatures["serving_default"](image=x).values()
    [expected] = source.signatures["serving_default"](image=x).values()
    errors.append(float(np.abs(found - expected).max()))
    np.save(f"{sys.argv[4]}/{batch}.npy", expected)
print(json.dumps({"errors": errors, "stats": beforehand.stats(loaded)}))
"""

WITHOUT = """
import json, sys
import numpy as np
import beforehand
model = beforehand.load(sys.argv[1])
errors = []
for batch in json.loads(sys.argv[2]):
    [found] = model(image=np.random.default_rng(batch).random((batch, 32, 32, 3), np.float32)).values()
    errors.append(float(np.abs(found - np.load(f"{sys.argv[3]}/{batch}.npy")).max()))
assert "tensorflow" not in sys.modules
print(json.dumps({"errors": errors, "stats": beforehand.stats(model)}))
"""


def run(*words: Any, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)], env={**os.environ, **environ}, capture_output=True, text=True, check=False, timeout=300
    )  # fmt: skip


def read(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr[-4000:]
    data: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return data


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("life")
    done = run(HERE / "make_and_convert.py", folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def call_with_tensorflow(life: pathlib.Path, folder: pathlib.Path) -> tuple[dict[str, Any], str]:
    done = run("-c", WITH_TENSORFLOW, folder, json.dumps(BATCHES), life / "source", life)
    return read(done), done.stderr


def test_with_tensorflow_and_then_without(life: pathlib.Path) -> None:
    told, _ = call_with_tensorflow(life, life / "built")
    assert max(told["errors"]) < 5e-3, told["errors"]
    assert told["stats"]["signatures"]["serving_default"] == {"engine_calls": 3, "native_calls": 1}
    assert told["stats"]["builds"] == 0
    alone = read(run("-c", WITHOUT, life / "built", json.dumps(BATCHES[:3]), life))
    assert max(alone["errors"]) < 5e-3, alone["errors"]
    assert alone["stats"]["signatures"]["serving_default"]["engine_calls"] == 3


@pytest.fixture
def copied(life: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(life / "built", tmp_path / "copy"))


@pytest.mark.parametrize(
    "change", [{"target": "cuda-sm_75"}, {"backend_version": "1.0.0"}], ids=["wrong GPU", "old runtime"]
)
def test_what_was_built_for_others_is_answered_by_tensorflow(
    change: dict[str, str], life: pathlib.Path, copied: pathlib.Path
) -> None:
    manifest = copied / "assets" / "beforehand.json"
    data = json.loads(manifest.read_text())
    for engine in data["engines"]:
        engine.update(change)
    manifest.write_text(json.dumps(data))
    told, log = call_with_tensorflow(life, copied)
    assert told["stats"]["signatures"]["serving_default"] == {"engine_calls": 0, "native_calls": 4}
    assert max(told["errors"]) < 1e-6
    assert "do not fit this machine" in log
    assert next(iter(change.values())) in log


def test_a_corrupted_engine_is_answered_by_tensorflow(life: pathlib.Path, copied: pathlib.Path) -> None:
    for engine in (copied / "assets").glob("*.tensorrt-rtx"):
        data = bytearray(engine.read_bytes())
        data[len(data) // 2] ^= 1
        engine.write_bytes(data)
    told, log = call_with_tensorflow(life, copied)
    assert told["stats"]["signatures"]["serving_default"] == {"engine_calls": 0, "native_calls": 4}
    assert "BH503" in log


ON_THE_GPU = """
import json, sys
import numpy as np
import torch
import beforehand
errors = []
with beforehand.load(sys.argv[1], device=0) as model:
    for batch in json.loads(sys.argv[2]):
        x = torch.from_numpy(np.random.default_rng(batch).random((batch, 32, 32, 3), np.float32)).cuda()
        [found] = model(image=x).values()
        assert isinstance(found, torch.Tensor) and found.is_cuda
        errors.append(float(np.abs(found.cpu().numpy() - np.load(f"{sys.argv[3]}/{batch}.npy")).max()))
    try:
        model(image=x.half())
    except beforehand.errors.SampleError as error:
        told = str(error)
    stats = beforehand.stats(model)
print(json.dumps({"errors": errors, "stats": stats, "told": told}))
"""


def test_tensors_of_the_gpu_without_tensorflow(life: pathlib.Path) -> None:
    call_with_tensorflow(life, life / "built")
    told = read(run("-c", ON_THE_GPU, life / "built", json.dumps(BATCHES[:3]), life))
    assert max(told["errors"]) < 5e-3, told["errors"]
    assert told["stats"]["signatures"]["serving_default"]["engine_calls"] == 3
    assert all(engine["device_bytes"] > 0 for engine in told["stats"]["engines"] if engine["engine_calls"])
    assert "torch.float16 (8, 32, 32, 3)" in told["told"]
