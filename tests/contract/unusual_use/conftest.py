"""Models of these tests, made once a session in a process of their own, and ways to run Python in fresh ones."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

HERE = pathlib.Path(__file__).parent
Array = np.ndarray[Any, Any]

# Of the environment, only these decide what a child does; the tests set them.
OUR_VARIABLES = ("BEFOREHAND_DISABLE", "BEFOREHAND_FORBID_BUILD", "BEFOREHAND_LOG", "PYTHONSTARTUP")

# What every child has: `arguments` from the test, `report(**values)` back to it, and fresh inputs as .npy files.
PRELUDE = """
import json, os, sys
arguments = json.loads(sys.argv[1])
def report(**values):
    print("\\nREPORT " + json.dumps(values), flush=True)
"""


@dataclasses.dataclass(frozen=True)
class Saved:
    """A model of the suite: the SavedModel that TensorFlow wrote, and the converted one."""

    source: pathlib.Path
    converted: pathlib.Path
    inputs: dict[str, tuple[int, ...]]  # of serving_default, without the batch

    def make_inputs(self, rng: np.random.Generator, batch: int) -> dict[str, Array]:
        """Random inputs of serving_default."""
        return {name: rng.normal(size=(batch, *shape)).astype(np.float32) for name, shape in self.inputs.items()}

    def copy_to(self, folder: pathlib.Path) -> pathlib.Path:
        """A copy of the converted model that a test may spoil."""
        return pathlib.Path(shutil.copytree(self.converted, folder))


class Runner:
    """Runs code in a fresh Python, in an empty folder that is no part of this repository."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def start(self, command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if name not in OUR_VARIABLES}
        # Children must find beforehand where this process found it, also when PYTHONPATH is relative.
        paths = [str(pathlib.Path(path).resolve()) for path in kept.pop("PYTHONPATH", "").split(os.pathsep) if path]
        kept |= {"PYTHONPATH": os.pathsep.join(paths)} if paths else {}
        kept |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", **env}
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=kept,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"child failed ({done.returncode})\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
        return done

    def __call__(self, code: str, arguments: dict[str, Any] | None = None, **env: str) -> dict[str, Any]:
        """What the code reported, and under "stderr" what it wrote there."""
        given = {
            name: str(value) if isinstance(value, pathlib.Path) else value for name, value in (arguments or {}).items()
        }
        done = self.start(["-c", PRELUDE + code, json.dumps(given)], env)
        lines = [line for line in done.stdout.splitlines() if line.startswith("REPORT ")]
        assert len(lines) == 1, f"the child reported {len(lines)} times\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        reported: dict[str, Any] = json.loads(lines[0].removeprefix("REPORT "))
        return {**reported, "stderr": done.stderr}

    def run_c_api(self, folder: pathlib.Path, signature: str, inputs: dict[str, Array]) -> dict[str, Array]:
        """A signature's outputs, through TensorFlow's C API. Skips where the wheel has no library for it."""
        libraries = pathlib.Path(sysconfig.get_paths()["purelib"], "tensorflow")
        if not list(libraries.glob("libtensorflow_cc.so*")):
            pytest.skip("this TensorFlow wheel has no libtensorflow_cc, so no C API to call")
        definition = read_meta_graph(folder).signature_def[signature]
        scratch = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        placeholders = {definition.inputs[name].name.partition(":")[0]: array for name, array in inputs.items()}
        np.savez(scratch / "inputs.npz", **placeholders)
        tensors = {name: info.name for name, info in definition.outputs.items()}
        files = [str(folder), str(scratch / "inputs.npz"), ",".join(tensors.values()), str(scratch / "outputs.npz")]
        self.start([str(HERE.parent / "saved_form" / "c_api_load.py"), *files], {})
        with np.load(scratch / "outputs.npz") as found:
            return {name: found[tensor] for name, tensor in tensors.items()}


def read_meta_graph(folder: pathlib.Path) -> Any:
    """The one MetaGraphDef of a SavedModel."""
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel()
    message.ParseFromString((folder / "saved_model.pb").read_bytes())
    (meta_graph,) = message.meta_graphs
    return meta_graph


def list_nodes(meta_graph: Any) -> Iterator[Any]:
    """Every node, of the graph and of its library."""
    yield from meta_graph.graph_def.node
    for function in meta_graph.graph_def.library.function:
        yield from function.node_def


def list_state(folder: pathlib.Path) -> dict[str, tuple[int, str]]:
    """Everything in a folder: time of the last change and hash of the content."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder",
        )
        for path in (folder, *folder.rglob("*"))
    }


def count_calls(loaded: Any) -> tuple[int, int]:
    """Engine calls and native calls of a loaded model, all signatures together."""
    import beforehand

    signatures = beforehand.stats(loaded)["signatures"].values()
    return sum(one["engine_calls"] for one in signatures), sum(one["native_calls"] for one in signatures)


def assert_close(found: Any, expected: Any, *, exact: bool = False) -> None:
    """Equal within the project's tolerance for FP32 engines; `exact`: as TensorFlow agrees with itself."""
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if exact else {"rtol": 1e-3, "atol": 1e-4}
    if isinstance(expected, dict):
        assert sorted(found) == sorted(expected)
        for name, value in expected.items():
            assert_close(found[name], value, exact=exact)
        return
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert np.ptp(expected) > 0, "constant expectations prove nothing"
    np.testing.assert_allclose(found, expected, **tolerance)


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("contract_models")
    neutral = Runner(tmp_path_factory.mktemp("contract_make"))
    neutral.start([str(HERE / "make_models.py"), str(folder)], {})
    return folder


@pytest.fixture(scope="session")
def module_model(models_folder: pathlib.Path) -> Saved:
    """A tf.Module with the signatures serving_default (x -> y) and pair (a, b -> sum, gate)."""
    return Saved(models_folder / "module/source", models_folder / "module/converted", {"x": (8,)})


@pytest.fixture(scope="session")
def other_model(models_folder: pathlib.Path) -> Saved:
    """As `module_model`, every name alike, with other weights."""
    return Saved(models_folder / "other/source", models_folder / "other/converted", {"x": (8,)})


@pytest.fixture(scope="session")
def model_with_more(models_folder: pathlib.Path) -> Saved:
    """As `module_model`, with a function and a variable that no signature reaches."""
    return Saved(models_folder / "more/source", models_folder / "more/converted", {"x": (8,)})


@pytest.fixture(scope="session")
def keras_model(models_folder: pathlib.Path) -> Saved:
    """A convolutional net, exported by Keras."""
    return Saved(models_folder / "keras/source", models_folder / "keras/converted", {"image": (12, 12, 3)})


@pytest.fixture(scope="session")
def run_python(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("contract_children"))


@pytest.fixture
def rng() -> np.random.Generator:
    """Fresh random numbers; the seed is printed where a test fails."""
    seed = int(np.random.SeedSequence().entropy) % 2**32
    print(f"seed of the random inputs: {seed}")
    return np.random.default_rng(seed)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[pathlib.Path], Any]:
    """TensorFlow's own load, in this process, with beforehand imported and no switch set."""
    for name in OUR_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION", raising=False)
    import tensorflow as tf

    import beforehand  # noqa: F401 (its import is what turns engines on)

    return lambda folder: tf.saved_model.load(str(folder))


@pytest.fixture(scope="session")
def references() -> dict[pathlib.Path, Any]:
    """Sources loaded so far."""
    return {}


@pytest.fixture
def expect(references: dict[pathlib.Path, Any]) -> Callable[..., dict[str, Array]]:
    """TensorFlow's answer: `expect(saved, inputs, signature)` runs the source, which beforehand never touched."""
    import tensorflow as tf

    def answer(saved: Saved, inputs: dict[str, Array], signature: str = "serving_default") -> dict[str, Array]:
        if saved.source not in references:
            references[saved.source] = tf.saved_model.load(str(saved.source))
        outputs = references[saved.source].signatures[signature](**{k: tf.constant(v) for k, v in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    return answer
