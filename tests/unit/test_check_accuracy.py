"""Engines compared with TensorFlow after a build: real ones that are right, and such as are made wrong on their way back."""

from __future__ import annotations

import json
import logging
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import beforehand
from beforehand.accuracy import check_build
from beforehand.errors import AccuracyError
from beforehand.report.summarize import format_summary
from beforehand.store.layout import find_manifest
from beforehand.store.manifest import read_manifest

WEIGHTS = np.random.default_rng(0).normal(0, 0.3, (16, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two segments: between them is text, which no engine has."""
    folder = tmp_path_factory.mktemp("source")
    module = tf.Module()
    module.weights = tf.Variable(WEIGHTS)

    @tf.function(input_signature=[tf.TensorSpec((None, 16), tf.float32, name="x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        h = tf.nn.relu(tf.matmul(x, module.weights))
        text = tf.strings.as_string(tf.reduce_max(h))
        size = tf.cast(tf.strings.length(text), tf.float32)
        return {"y": tf.nn.softmax(h / size), "n": tf.argmax(h, axis=1)}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


def convert(source: pathlib.Path, **options: Any) -> beforehand.Converter:
    converter = beforehand.Converter(source, minimum_segment_size=1, progress="off", **options)
    converter.convert()
    return converter


class Wrong:
    """An executable whose floating-point outputs are what `spoil` makes of the right ones."""

    def __init__(self, right: Any, spoil: Callable[[Any], Any]) -> None:
        self._right, self._spoil = right, spoil

    def run(self, inputs: Any) -> list[Any]:
        outputs = self._right.run(inputs)
        return [self._spoil(array) if array.dtype == np.float32 else array for array in outputs]


def spoil_engines(monkeypatch: pytest.MonkeyPatch, segment: str, spoil: Callable[[Any], Any]) -> None:
    right = check_build.open_engine

    def open_spoilt(engine: Any, *rest: Any) -> Any:
        found = right(engine, *rest)
        return Wrong(found, spoil) if engine.segment == segment else found

    monkeypatch.setattr(check_build, "open_engine", open_spoilt)


def test_every_engine_is_compared_on_values_that_reach_its_segment(
    source: pathlib.Path, caplog: pytest.LogCaptureFixture, tmp_path: pathlib.Path
) -> None:
    converter = convert(source)
    assert len(converter.segments) >= 2
    rng = np.random.default_rng(1)
    samples = [rng.normal(size=(batch, 16)).astype(np.float32) for batch in (3, 3, 3, 5)]
    with caplog.at_level(logging.INFO, "beforehand"):
        engines = converter.build(lambda: samples)
    told = [record for record in caplog.records if "compared with TensorFlow" in record.getMessage()]
    assert [record.levelname for record in told] == ["INFO"]
    assert (
        told[0].getMessage().startswith(f"{len(engines)} of {len(engines)} engines compared with TensorFlow; the worst")
    )
    for engine in engines:
        assert engine.accuracy is not None
        assert not engine.accuracy.is_drawn
        segment = converter.segments[engine.segment_index]
        assert [output.name for output in engine.accuracy.outputs] == [spec.name for spec in segment.outputs]
        assert engine.accuracy.max_rel < 1e-5
        assert engine.accuracy.samples == (2 if 3 in engine.shapes.shapes[-1][:1] else 1)
    assert engines == tuple(engine for engine in converter.engines)
    note = format_summary(converter.summary())[-1]
    assert note.startswith(f"[*] Accuracy: {len(engines)} of {len(engines)} engines compared")
    converter.save(tmp_path / "saved")
    assert read_manifest(find_manifest(tmp_path / "saved")).engines == engines


def test_shapes_alone_and_samples_of_zeros_have_their_values_drawn(source: pathlib.Path) -> None:
    converter = convert(source)
    for given in ({"shapes": {"x": (4, 16)}}, {"input_fn": lambda: [np.zeros((6, 16), np.float32)]}):
        for engine in converter.build(**given):
            assert engine.accuracy is not None
            assert engine.accuracy.is_drawn
            # Of zeros all is zero: that the cosine is 1 would say nothing.
            assert engine.accuracy.samples == 1
            assert engine.accuracy.max_rel < 1e-5


@pytest.mark.parametrize("length", [5, (1, 7)])
def test_of_a_model_that_reads_text_shapes_alone_are_enough(tmp_path: pathlib.Path, length: Any) -> None:
    """The text is empty then, whichever of NumPy's forms TensorFlow's tensors of text have."""
    module = tf.Module()
    module.table = tf.Variable(np.random.default_rng(2).normal(size=(32, 16)).astype(np.float32))
    module.weights = tf.Variable(WEIGHTS)

    @tf.function(
        input_signature=[tf.TensorSpec((None, None), tf.string, name="words"), tf.TensorSpec((None, 16), name="x")]
    )
    def serve(words: tf.Tensor, x: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.gather(module.table, tf.strings.to_hash_bucket_fast(words, 32))
        y = tf.nn.tanh(tf.matmul(tf.reduce_mean(rows, 1) + x, module.weights))
        return {"y": y, "twice": tf.strings.join([words, words])}

    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": serve})
    converter = convert(tmp_path)
    shapes = {"words": (2, length), "x": (2, 16)}
    engines = converter.build(
        shapes=shapes, metric=lambda model: model(words=[["a"]], x=np.ones((1, 16), np.float32))["y"].max(), max_drop=1
    )
    assert engines
    for engine in engines:
        assert engine.accuracy is not None
        assert engine.accuracy.is_drawn
        assert engine.accuracy.outputs
        assert engine.accuracy.max_rel < 1e-5


def test_a_range_is_compared_at_both_ends_and_at_what_came(source: pathlib.Path) -> None:
    converter = convert(source, serve_smaller_batches=True)
    rng = np.random.default_rng(1)
    engines = converter.build(lambda: [rng.normal(size=(7, 16)).astype(np.float32)])
    first = next(engine for engine in engines if engine.shapes.names == ("x",))
    assert first.shapes.is_range
    assert first.accuracy is not None
    assert first.accuracy.samples == 2


def test_no_comparison_where_none_is_wanted(source: pathlib.Path) -> None:
    converter = convert(source, compare_samples=0)
    assert [engine.accuracy for engine in converter.build(shapes={"x": (4, 16)})] == [None] * len(converter.engines)
    assert converter.summary().accuracy_note == ""


def test_engines_of_a_backend_that_runs_none_are_not_compared_and_the_reason_is_told(
    source: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    converter = convert(source, backend="fake")
    with caplog.at_level(logging.INFO, "beforehand"):
        engines = converter.build(shapes={"x": (4, 16)})
    assert engines
    assert all(
        engine.accuracy is not None and "the backend fake runs no engines" in engine.accuracy.not_compared
        for engine in engines
    )
    told = [record for record in caplog.records if "could not be compared with TensorFlow" in record.getMessage()]
    assert [record.levelname for record in told] == ["WARNING"] * len(engines)
    assert f"0 of {len(engines)} engines compared with TensorFlow; not compared: it cannot be run here" in caplog.text


def test_engines_for_another_cpu_are_not_compared(source: pathlib.Path) -> None:
    converter = convert(source, target="cpu-x86_64+avx2")
    engines = converter.build(shapes={"x": (4, 16)})
    assert engines
    assert all(
        engine.accuracy is not None and engine.accuracy.not_compared.startswith("it is for [openvino")
        for engine in engines
    )


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda array: np.where(array > 0, np.float32(np.nan), array), "are NaN, infinite or missing"),
        (lambda array: array * np.float32(0.7), "of the largest magnitude of an output, and may be by 0.1"),
    ],
)
def test_a_wrong_engine_is_taken_out_and_tensorflow_answers(
    spoil: Any, reason: str, source: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    converter = convert(source)
    bad = next(segment.name for segment in converter.segments if segment.inputs[0].name == "x")
    spoil_engines(monkeypatch, bad, spoil)
    engines = converter.build(shapes={"x": (4, 16)})
    assert engines
    assert bad not in {engine.segment for engine in engines}
    assert converter.engines == engines
    [warning] = [record for record in caplog.records if reason in record.getMessage()]
    assert warning.levelname == "WARNING"
    assert "Such calls run natively" in warning.getMessage()
    assert reason in converter.summary().accuracy_note
    monkeypatch.undo()
    # Wrong no more, it is built, which is to find it in the cache, and used again.
    again = converter.build(shapes={"x": (4, 16)})
    assert [engine.segment for engine in again] == [bad]
    assert "left in TensorFlow" not in converter.summary().accuracy_note


def test_a_wrong_engine_is_an_error_where_that_is_asked_for_and_the_others_are_kept(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converter = convert(source, on_inaccurate="error", max_error=1e-3)
    bad = converter.segments[0].name
    spoil_engines(monkeypatch, bad, lambda array: array * 1.01)
    with pytest.raises(AccuracyError, match=r"BH404 .*in FP32: it is off by 0\.01 .*may be by 0\.001") as caught:
        converter.build(shapes={"x": (4, 16)})
    assert [engine.segment for engine in caught.value.engines] == [bad]
    assert converter.engines
    assert bad not in {engine.segment for engine in converter.engines}


def test_numbers_of_a_comparison_are_json(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    converter = convert(source)
    converter.build(shapes={"x": (2, 16)})
    converter.save(tmp_path / "saved")
    manifest = json.loads(find_manifest(tmp_path / "saved").read_text())
    for engine in manifest["engines"]:
        assert set(engine["accuracy"]) == {"outputs", "samples", "is_drawn", "not_compared", "put_back", "search"}
