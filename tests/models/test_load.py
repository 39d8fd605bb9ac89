"""beforehand.load: the answers of TensorFlow where TensorFlow cannot even be imported."""

from __future__ import annotations

import json
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import life_cycle
import numpy as np
import pytest
import tensorflow as tf
from expect_structures import STRUCTURES
from expectations import EXPECTATIONS
from life_cycle import run_python

import beforehand
from beforehand.errors import (
    EngineMismatchError,
    IntegrityError,
    ManifestError,
    NativePartsError,
    OptionValueError,
    SampleError,
    SignatureError,
    SourceNotFoundError,
    UnknownOptionError,
    UnseenShapeError,
)
from beforehand.runtime.standalone import StandaloneModel
from beforehand.store import layout

ALONE = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "onnx", "tf2onnx"):
            raise ModuleNotFoundError(f"{name} is not to be had", name=name)
sys.meta_path.insert(0, Absent())
import numpy as np
import beforehand
folder, calls = sys.argv[1], json.loads(sys.argv[2])
model = beforehand.load(folder)
for key, name in calls:
    with np.load(name + ".in.npz") as given:
        outputs = model.signatures[key](**{name: given[name] for name in given.files})
    np.savez(name + ".out.npz", **outputs)
print(json.dumps({"stats": beforehand.stats(model), "modules": [m for m in sys.modules if "tensorflow" in m.split(".")[0]]}))
"""


def draw(spec: Any, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    if np.dtype(spec.dtype).kind == "f":
        return rng.normal(size=shape).astype(spec.dtype)
    if spec.dtype == "bool":
        return rng.random(shape) < 0.5
    return rng.integers(0, 2 if spec.dtype.startswith("int") else 255, shape).astype(spec.dtype)


@pytest.mark.parametrize("name", ["resize_nearest", "volumes", "two_dynamic", "gpt_step", "lstm_masked"])
def test_answers_are_those_of_tensorflow(
    name: str, made_model: Callable[[str], life_cycle.MadeModel], tmp_path: pathlib.Path
) -> None:
    made, built = made_model(name), {**EXPECTATIONS, **STRUCTURES}[name].built
    converter = beforehand.Converter(made.folder)
    converter.convert()
    for key, shapes in built.items():
        converter.build(shapes=list(shapes), signature=key)
    converter.save(tmp_path / "converted")
    native = tf.saved_model.load(str(made.folder))
    rng = np.random.default_rng()
    calls, expected = [], {}
    for key, sets in built.items():
        [signature] = [item for item in converter.signatures if item.key == key]
        for number, shapes in enumerate(sets):
            given = {spec.name: draw(spec, tuple(shapes[spec.name]), rng) for spec in signature.inputs}
            where = str(tmp_path / f"{key}{number}")
            np.savez(f"{where}.in.npz", **given)
            calls.append((key, where))
            expected[where] = native.signatures[key](**{n: tf.constant(value) for n, value in given.items()})
    done = run_python("-c", ALONE, tmp_path / "converted", json.dumps(calls))
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["modules"] == []
    counted = sum(signature["engine_calls"] for signature in told["stats"]["signatures"].values())
    assert counted == len(calls)
    for where, outputs in expected.items():
        with np.load(f"{where}.out.npz") as found:
            assert set(found.files) == set(outputs)
            for output, value in outputs.items():
                np.testing.assert_allclose(found[output], value.numpy(), rtol=2e-3, atol=2e-4)


class TwoInputs(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng(5).normal(size=(6, 3)).astype(np.float32))

    @tf.function(
        input_signature=[tf.TensorSpec([None, 6], tf.float32, "x"), tf.TensorSpec([None, 3], tf.float32, "bias")]
    )
    def serve(self, x: Any, bias: Any) -> dict[str, Any]:
        y = tf.nn.relu(x @ self.weights) + bias
        return {"y": tf.tanh(y), "z": tf.nn.softmax(y)}

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3], tf.uint8, "pixels")])
    def see(self, pixels: Any) -> dict[str, Any]:
        return {"means": tf.reduce_mean(tf.nn.relu(tf.cast(pixels, tf.float32) / 255.0 - 0.5), [1, 2])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def read(self, text: Any) -> dict[str, Any]:
        return {"numbers": tf.tanh(tf.nn.relu(tf.strings.to_number(text)) + 1.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    where = tmp_path_factory.mktemp("alone")
    model = TwoInputs()
    tf.saved_model.save(
        model, str(where / "model"), signatures={"serving_default": model.serve, "read": model.read, "see": model.see}
    )
    converter = beforehand.Converter(where / "model", minimum_segment_size=2)
    converter.convert()
    converter.build(shapes=[{"x": (2, 6), "bias": (2, 3)}, {"x": (5, 6), "bias": (5, 3)}], signature="serving_default")
    converter.build(shapes={"pixels": ((1, 8), 4, 4, 3)}, signature="see")
    converter.save(where / "converted")
    return where / "converted"


@pytest.fixture
def model(folder: pathlib.Path) -> Iterator[StandaloneModel]:
    with beforehand.load(folder) as opened:
        yield opened


def make_inputs(batch: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=(batch, 6)).astype(np.float32), "bias": rng.normal(size=(batch, 3)).astype(np.float32)}


def compute(given: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """In float64."""
    weights = np.random.default_rng(5).normal(size=(6, 3)).astype(np.float32).astype(np.float64)
    y = np.maximum(given["x"].astype(np.float64) @ weights, 0) + given["bias"]
    spread = np.exp(y - y.max(-1, keepdims=True))
    return {"y": np.tanh(y), "z": spread / spread.sum(-1, keepdims=True)}


def check(outputs: dict[str, np.ndarray[Any, Any]], given: dict[str, np.ndarray[Any, Any]]) -> None:
    expected = compute(given)
    assert list(outputs) == sorted(expected) or set(outputs) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-6)


def test_by_name_in_any_order_by_position_and_by_the_model(model: StandaloneModel) -> None:
    given = make_inputs(2)
    serve = model.signatures["serving_default"]
    order = [spec.name for spec in serve.inputs]
    check(serve(**given), given)
    check(serve(**dict(reversed(given.items()))), given)
    check(serve(*(given[name] for name in order)), given)
    check(serve(given[order[0]], **{order[1]: given[order[1]]}), given)
    check(model(**given), given)
    assert "serving_default" in repr(serve)


def test_a_model_does_what_the_functions_of_beforehand_do_with_it(model: StandaloneModel) -> None:
    serve = model.signatures["serving_default"]
    assert (model.inputs, model.outputs) == (serve.inputs, serve.outputs)
    model(**make_inputs(2))
    assert model.stats() == beforehand.stats(model)
    assert model.stats()["signatures"]["serving_default"]["engine_calls"] == 1
    model.reset_stats()
    assert model.stats()["signatures"]["serving_default"]["engine_calls"] == 0
    model.set_policies(maximum_cached_engines=1)
    for batch in (2, 5):
        model(**make_inputs(batch))
    assert sum(engine["evictions"] for engine in model.stats()["engines"]) == 1
    with pytest.raises(UnknownOptionError, match="on_unseen_shape"):
        model.set_policies(on_unseen_shapes="build")
    with pytest.raises(OptionValueError):
        model.set_policies(on_unseen_shape="bulid")


def test_bytes_and_a_range_of_batches(model: StandaloneModel) -> None:
    rng = np.random.default_rng()
    for batch in (8, 1, 5):
        pixels = rng.integers(0, 256, (batch, 4, 4, 3)).astype(np.uint8)
        expected = np.maximum(pixels.astype(np.float64) / 255 - 0.5, 0).mean((1, 2))
        np.testing.assert_allclose(model.signatures["see"](pixels=pixels)["means"], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(UnseenShapeError):
        model.signatures["see"](pixels=np.zeros((9, 4, 4, 3), np.uint8))
    with pytest.raises(SampleError, match=r"pixels uint8 \(9, 4, 5, 3\)"):
        model.signatures["see"](pixels=np.zeros((9, 4, 5, 3), np.uint8))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": None}, r"given bias float32 \(2, 3\).*takes"),
        ({"y": np.zeros(2, np.float32)}, r"y float32 \(2\)"),
        ({"x": np.zeros((2, 6))}, r"x float64 \(2, 6\)"),
        ({"x": [[0.0] * 6] * 2}, "x a list"),
        ({"x": np.zeros((2, 7), np.float32)}, r"x float32 \(2, 7\)"),
        ({"x": np.zeros((2, 1, 6), np.float32)}, r"x float32 \(2, 1, 6\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    change: dict[str, Any], words: str, model: StandaloneModel
) -> None:
    given = {name: value for name, value in {**make_inputs(2), **change}.items() if value is not None}
    with pytest.raises(SampleError, match=words) as caught:
        model.signatures["serving_default"](**given)
    assert "x float32 (?, 6)" in str(caught.value)
    with pytest.raises(SampleError, match="3 inputs were given"):
        model(*[np.zeros(1, np.float32)] * 3)
    with pytest.raises(SampleError, match="given twice"):
        model(make_inputs(2)[model.signatures["serving_default"].inputs[0].name], **make_inputs(2))


class Tagged(np.ndarray[Any, Any]):
    """A subclass as users have them."""


def test_subclasses_of_arrays_are_arrays(model: StandaloneModel, tmp_path: pathlib.Path) -> None:
    given = make_inputs(2)
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=(2, 6))
    mapped[:] = given["x"]
    read_only = np.memmap(tmp_path / "x", np.float32, "r", shape=(2, 6))
    for x in (mapped, read_only, given["x"].view(Tagged), np.asmatrix(given["x"])):
        outputs = model(x=x, bias=given["bias"])
        check(outputs, given)
        assert {type(array) for array in outputs.values()} == {np.ndarray}
    with pytest.raises(SampleError, match=r"x float64 \(2, 6\)"):
        model(x=given["x"].astype(np.float64).view(Tagged), bias=given["bias"])


def test_masked_and_swapped_arrays_are_refused_with_what_is_wrong_with_them(model: StandaloneModel) -> None:
    given = make_inputs(2)
    with pytest.raises(SampleError, match=r"x masked float32 \(2, 6\).*engines know no masks.*filled"):
        model(x=np.ma.masked_greater(given["x"], 0), bias=given["bias"])
    with pytest.raises(SampleError, match=r"x float32 \(2, 6\) in the other byte order"):
        model(x=given["x"].astype(given["x"].dtype.newbyteorder()), bias=given["bias"])


def test_unseen_shapes_are_an_error_and_are_counted(model: StandaloneModel) -> None:
    with pytest.raises(UnseenShapeError, match="without TensorFlow nothing else can answer"):
        model(**make_inputs(3))
    stats = beforehand.stats(model)
    assert [item["count"] for item in stats["unseen_shapes"]] == [1]
    model.warm_up()
    beforehand.reset_stats(model)
    assert beforehand.stats(model)["unseen_shapes"] == []


def wait_for_a_build(model: StandaloneModel) -> None:
    deadline = time.monotonic() + 60
    while not beforehand.stats(model)["builds"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_engine_asked_for_is_built_and_then_answers(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "cache"))
    with beforehand.load(folder) as model:
        beforehand.set_policies(model, on_unseen_shape="build")
        given = make_inputs(4)
        with pytest.raises(UnseenShapeError, match="an engine is being built"):
            model(**given)
        wait_for_a_build(model)
        check(model(**given), given)


def test_a_signature_with_parts_in_tensorflow_is_refused_with_their_names(model: StandaloneModel) -> None:
    assert set(model.signatures) == {"serving_default", "read", "see"}
    with pytest.raises(NativePartsError, match=r"BH606 .*StringToNumber") as caught:
        model.signatures["read"]
    assert caught.value.nodes
    with pytest.raises(SignatureError, match="one of serving_default, "):
        model.signatures["serve"]


def test_threads_get_their_own_answers(model: StandaloneModel) -> None:
    wrong: list[BaseException] = []

    def call(seed: int) -> None:
        try:
            for step in range(50):
                given = make_inputs((2, 5)[step % 2], 100 * seed + step)
                check(model(**given), given)
        except BaseException as error:  # noqa: BLE001
            wrong.append(error)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert beforehand.stats(model)["signatures"]["serving_default"]["engine_calls"] == 400


def test_closed_it_opens_again(model: StandaloneModel) -> None:
    given = make_inputs(2)
    check(model(**given), given)
    model.close()
    check(model(**given), given)
    assert beforehand.stats(model)["engines"][0]["loads"] == 2


@pytest.fixture
def copied(folder: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    import shutil

    return pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))


def test_an_altered_engine_is_an_error(copied: pathlib.Path) -> None:
    for engine in (copied / layout.ASSETS).glob("*.openvino"):
        data = bytearray(engine.read_bytes())
        data[len(data) // 2] ^= 1
        engine.unlink()
        engine.write_bytes(data)
    with beforehand.load(copied) as model, pytest.raises(IntegrityError, match="BH503"):
        model(**make_inputs(2))


def test_no_engine_for_this_machine_is_told_at_once(copied: pathlib.Path) -> None:
    file = layout.find_manifest(copied)
    data = json.loads(file.read_text())
    for engine in data["engines"]:
        engine["target"] = "cpu-sparc"
    file.write_text(json.dumps(data))
    with pytest.raises(EngineMismatchError, match=r"BH605 .*cpu-sparc.*add-target"):
        beforehand.load(copied)


@pytest.fixture
def partly_foreign(copied: pathlib.Path) -> pathlib.Path:
    """Of the three engines, that for a batch of 5 is another machine's."""
    file = layout.find_manifest(copied)
    data = json.loads(file.read_text())
    [engine] = [engine for engine in data["engines"] if "[5, 6]" in json.dumps(engine["shapes"])]
    engine["target"] = "cpu-sparc"
    file.write_text(json.dumps(data))
    return copied


def test_shapes_of_an_engine_for_another_machine_are_refused_as_such(
    partly_foreign: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    with beforehand.load(partly_foreign) as model:
        [record] = caplog.records
        assert record.getMessage().startswith("BH605 1 of 3 engines")
        assert record.getMessage().endswith("Such calls are refused.")
        with pytest.raises(
            UnseenShapeError, match=r"another machine: \[openvino .*, cpu-sparc\].*`beforehand add-target .*/copy`"
        ):
            model(**make_inputs(5))
        with pytest.raises(UnseenShapeError, match="has no engine for the shapes"):
            model(**make_inputs(3))
        check(model(**make_inputs(2)), make_inputs(2))


def test_engines_for_another_machine_are_an_error_where_the_policy_says_so(
    partly_foreign: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEFOREHAND_ON_MISMATCH", "error")
    with pytest.raises(EngineMismatchError, match=r"BH605 1 of 3 engines .*cpu-sparc"):
        beforehand.load(partly_foreign)


def test_engines_for_another_machine_are_built_anew_where_the_policy_says_so(
    partly_foreign: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BEFOREHAND_ON_MISMATCH", "rebuild")
    with beforehand.load(partly_foreign) as model:
        assert "until then such calls are refused" in caplog.text
        with pytest.raises(UnseenShapeError, match="an engine is being built"):
            model(**make_inputs(5))
        wait_for_a_build(model)
        check(model(**make_inputs(5)), make_inputs(5))


FORK = """
import json, os, sys, threading, time
import numpy as np
import beforehand
from beforehand.errors import EngineRunError
folder, hint, parent, child, end = sys.argv[1:]
given = {"x": np.ones((2, 6), np.float32), "bias": np.zeros((2, 3), np.float32)}
def load():
    model = beforehand.load(folder)
    beforehand.set_policies(model, performance_hint=hint)
    return model
def keep_calling():
    while True:
        model(**given)
model = load()
if parent != "loaded":
    expected = model(**given)
if parent == "closed":
    model.close()
if parent == "busy":
    for _ in range(3):
        threading.Thread(target=keep_calling, daemon=True).start()
    time.sleep(0.1)
pid = os.fork()
if pid == 0:
    if child == "reload":
        model = load()
    code = 5
    try:
        if child != "nothing":
            model(**given)
        code = 3
    except EngineRunError as error:
        code = 4 if "forked" in str(error) and "spawn" in str(error) else 6
    model.close()
    if end == "at once":
        os._exit(code)
    sys.exit(code)
limit, ended = time.monotonic() + 30, 0
while time.monotonic() < limit and not ended:
    ended, code = os.waitpid(pid, os.WNOHANG)
    time.sleep(0.01)
if not ended:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
print(json.dumps(os.waitstatus_to_exitcode(code) if ended else "hangs"), flush=True)
os._exit(0)  # the busy threads
"""
ANSWERED, REFUSED = 3, 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize(
    ("hint", "parent", "child", "expected"),
    [
        ("latency", "loaded", "same", ANSWERED),
        ("latency", "loaded", "reload", ANSWERED),
        ("latency", "called", "nothing", ANSWERED),
        ("latency", "called", "same", REFUSED),
        ("latency", "closed", "reload", REFUSED),  # it hung: OpenVINO gave it threads of the parent's
        ("latency", "busy", "same", REFUSED),  # it hung
        ("throughput", "called", "same", REFUSED),  # it hung
    ],
)
def test_a_forked_child_answers_or_is_refused_and_never_hangs_not_even_at_its_end(
    hint: str, parent: str, child: str, expected: int, folder: pathlib.Path
) -> None:
    for end in ("at once", "as a rule"):
        done = run_python("-c", FORK, folder, hint, parent, child, end)
        assert done.stdout.splitlines()[-1:] == [str(expected)], done.stderr[-2000:]


def test_what_is_no_converted_model(tmp_path: pathlib.Path, folder: pathlib.Path) -> None:
    with pytest.raises(SourceNotFoundError):
        beforehand.load(tmp_path / "nothing")
    with pytest.raises(ManifestError):
        beforehand.load(folder.parent / "model")
