"""Calibration of models of several segments and control flow: what the native runs give to it; and its cancellation, here and on Ray."""

from __future__ import annotations

import json
import pathlib
import threading
import time
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf

pytest.importorskip("nncf")

import beforehand
from beforehand.calibrate.capture_inputs import InputCapture
from beforehand.errors import BuildCancelledError, PrecisionError
from beforehand.records import Engine
from beforehand.store import layout
from beforehand.store.manifest import read_manifest

WIDTH = 1024  # so that an engine in the body of a loop is worth its call
RNG = np.random.default_rng(0)
STEM, BODY, HEAD = (RNG.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)).astype(np.float32) for _ in range(3))
SAMPLES = [RNG.normal(size=(4, WIDTH)).astype(np.float32) for _ in range(40)]


@pytest.fixture(autouse=True, scope="module")
def _need_int8() -> None:
    try:
        beforehand.Converter("somewhere", precision_mode="INT8")
    except PrecisionError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Dense layers before a loop, in its body and after it; the body prints, so that the loop stays in TensorFlow."""
    folder = tmp_path_factory.mktemp("source")
    module = tf.Module()
    module.stem, module.body, module.head = (tf.Variable(value) for value in (STEM, BODY, HEAD))

    @tf.function(input_signature=[tf.TensorSpec((None, WIDTH), tf.float32, name="x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        rounds = 1 + tf.cast(x[0, 0] > 0, tf.int32)
        v = tf.nn.relu(tf.matmul(x, module.stem))

        def step(i: tf.Tensor, v: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            tf.print("round", i, output_stream="file:///dev/null")
            return i + 1, tf.tanh(tf.matmul(v, module.body))

        _, v = tf.while_loop(lambda i, v: i < rounds, step, [tf.constant(0), v])
        text = tf.strings.as_string(v)  # between segments, as no engine has it
        return {"y": tf.nn.softmax(tf.matmul(v * tf.cast(tf.strings.length(text) > 0, tf.float32), module.head))}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


def convert(source: pathlib.Path, **options: Any) -> beforehand.Converter:
    converter = beforehand.Converter(source, precision_mode="INT8", minimum_segment_size=1, progress="off", **options)
    converter.convert()
    return converter


def find_segments(converter: beforehand.Converter) -> dict[str, int]:
    """Which segment has which product, by the weight that it reads: its index in the manifest."""
    assert converter._converted is not None
    _, conversion, _, live = converter._converted
    found = {}
    for index, segment in enumerate(converter.segments):
        if dict(segment.node_ops).get("MatMul") != 1:
            continue
        zeros = [np.ones([dim or 4 for dim in spec.shape or ()], spec.dtype) for spec in segment.inputs]
        outputs = live.run_segment(index, zeros)
        for name, weight in (("stem", STEM), ("body", BODY), ("head", HEAD)):
            product = np.ones((4, WIDTH), np.float32) @ weight
            made = {"stem": np.maximum(product, 0), "body": np.tanh(product), "head": _softmax(product)}[name]
            if any(value.shape == made.shape and np.allclose(value, made, atol=1e-5) for value in outputs):
                found[name] = index
    assert conversion.lowered
    return found


def _softmax(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def test_each_segment_gets_what_came_to_it_in_loops_once_a_round(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    converter = convert(source)
    assert converter._converted is not None
    _, _, segments, live = converter._converted
    places = find_segments(converter)
    assert set(places) == {"stem", "body", "head"}, segments
    capture = InputCapture(tmp_path)
    live.capture_inputs(converter.signatures[0], [{"x": x} for x in SAMPLES], capture.add)
    wanted: dict[str, list[Any]] = {"stem": [], "body": [], "head": []}
    for x in SAMPLES:
        wanted["stem"].append(x)
        v = np.maximum(x @ STEM, 0)
        for _ in range(1 + int(x[0, 0] > 0)):
            wanted["body"].append(v)
            v = np.tanh(v @ BODY)
        wanted["head"].append(v)
    assert len(SAMPLES) < len(wanted["body"]) < 2 * len(SAMPLES)
    for name, index in places.items():
        found = capture.find(index)
        assert found is not None
        assert found.calls == len(wanted[name]), name
        for call, value in enumerate(wanted[name]):
            came = [np.load(found.folder / f"{call}_{place}.npy") for place in range(len(segments[index].inputs))]
            assert any(array.shape == value.shape and np.allclose(array, value, atol=1e-5) for array in came), (
                name,
                call,
            )


def test_engines_of_all_of_them_run_in_int8(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    converter = convert(source)
    converter.calibrate(SAMPLES)
    places = set(find_segments(converter).values())
    engines = converter.build(lambda: SAMPLES[:1])
    assert places <= {engine.segment_index for engine in engines if engine.precision == "INT8"}
    converter.save(tmp_path / "saved")
    expected = tf.saved_model.load(str(source)).signatures["serving_default"](x=tf.constant(SAMPLES[0]))["y"].numpy()
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    found = loaded.signatures["serving_default"](x=tf.constant(SAMPLES[0]))["y"].numpy()
    assert 1e-5 < np.abs(found - expected).max() < 0.1 * np.ptp(expected)
    assert beforehand.stats(loaded)["signatures"]["serving_default"]["native_calls"] == 0


def list_children() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if "beforehand.calibrate.child" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_cancel_ends_a_calibration_and_leaves_the_one_before(
    source: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While NNCF works, and while the samples run; no process and no half of a calibration is left."""
    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "cache"))
    converter = convert(source)
    converter.calibrate(SAMPLES)
    assert converter._converted is not None
    before = converter._converted[1].lowered
    begun: list[float] = []

    def cancel_once_it_runs() -> None:
        deadline = time.monotonic() + 60
        while not list_children() and time.monotonic() < deadline:
            time.sleep(0.01)
        begun.append(time.monotonic())
        converter.cancel()

    thread = threading.Thread(target=cancel_once_it_runs)
    thread.start()
    with pytest.raises(BuildCancelledError, match="BH403"):
        converter.calibrate([2 * x for x in SAMPLES])
    thread.join()
    assert time.monotonic() - begun[0] < 5
    assert not list_children()

    def cancel_and_go_on() -> Any:
        yield SAMPLES[0]
        converter.cancel()
        yield from SAMPLES[1:]

    with pytest.raises(BuildCancelledError, match="BH403 calibration was cancelled"):
        converter.calibrate(cancel_and_go_on)
    assert converter._converted[1].lowered == before
    assert not list((tmp_path / "cache" / "quantized").glob("*.made"))
    # The one before is whole: engines are built of it, and it is saved.
    engines = converter.build(lambda: SAMPLES[:1])
    assert "INT8" in {engine.precision for engine in engines}
    converter.save(tmp_path / "saved")
    kept = {lowered.quantized_sha256 for lowered in before if lowered.quantized_sha256}
    sources = read_manifest(layout.find_manifest(tmp_path / "saved")).sources
    assert kept <= {item.quantized_sha256 for item in sources}


@pytest.mark.slow
def test_ray_builds_the_same_engines_in_int8_healed_ones_too(
    source: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quantised graph and the segment's weights go to the node, and what is to be kept at a higher precision."""
    ray = pytest.importorskip("ray", reason="the extra beforehand[ray] is not installed")
    found: dict[str, list[tuple[Engine, bytes]]] = {}
    for executor in ("local", "ray"):
        monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / executor))
        # Of one segment a part is put back, of the others all that is quantised.
        converter = convert(source, executor=executor, workers=1, max_error=3e-3, max_rebuilds=4)
        converter.calibrate(SAMPLES)
        engines = converter.build(lambda: SAMPLES[:1])
        found[executor] = [(engine, (converter._work / engine.file).read_bytes()) for engine in engines]
    assert not ray.is_initialized()
    local, away = found["local"], found["ray"]
    assert [(e.key, e.precision, e.kept, data) for e, data in local] == [
        (e.key, e.precision, e.kept, data) for e, data in away
    ]
    told = json.dumps([[e.segment, e.precision, e.kept] for e, _ in away])
    assert any(e.precision == "INT8" and e.kept for e, _ in away), told
