"""INT8 on a GPU: calibrated and built in one process, loaded without TensorFlow in another, near TensorFlow's float32.

What is int8 depends on the release: TensorRT-RTX 1.4 to 1.6 have products of matrices alone, and convolutions in FP16.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("nncf")

HERE = pathlib.Path(__file__).parent
BOUND = 0.05  # of the spread of TensorFlow's answers

ALONE = """
import json, sys
import numpy as np
import beforehand
model = beforehand.load(sys.argv[1])
with np.load(sys.argv[2]) as data:
    [y] = model(x=data["x"]).values()
assert y.dtype == np.float32
np.save(sys.argv[3], y)
assert "tensorflow" not in sys.modules
print(json.dumps(beforehand.stats(model)["signatures"]))
"""


def run(*words: Any, **environ: str) -> Any:
    done = subprocess.run(
        [sys.executable, *map(str, words)], env={**os.environ, **environ}, capture_output=True, text=True, check=False, timeout=500
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    print(done.stderr[-4000:])  # what was put back to a higher precision, and why
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("int8")
    told = run(HERE / "make_int8.py", folder, BEFOREHAND_CACHE=str(folder / "cache"))
    assert told == {"network": ["INT8"], "encoder": ["INT8"]}
    return folder


@pytest.mark.parametrize("model", ["network", "encoder"])
def test_answers_are_near_float32_and_not_equal_to_it(model: str, made: pathlib.Path, tmp_path: pathlib.Path) -> None:
    told = run(
        "-c", ALONE, made / f"{model}.built", made / f"{model}.npz", tmp_path / "y.npy", BEFOREHAND_FORBID_BUILD="1"
    )
    assert told["serving_default"]["engine_calls"] == 1
    with np.load(made / f"{model}.npz") as data:
        error = np.abs(np.load(tmp_path / "y.npy") - data["y"]).max() / np.ptp(data["y"])
    assert 1e-5 < error < BOUND


def test_the_saved_model_keeps_the_quantised_graph(made: pathlib.Path) -> None:
    from beforehand.store import layout
    from beforehand.store.manifest import read_manifest

    for model in ("network", "encoder"):
        folder = made / f"{model}.built"
        manifest = read_manifest(layout.find_manifest(folder))
        assert all(source.quantized_file for source in manifest.sources)
        assert [engine.precision for engine in manifest.engines] == ["INT8"]
