"""`beforehand plan`, dry runs, and what is told of builds, by the command line and the converter, with OpenVINO."""

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
from life_cycle import run_python

import beforehand
from beforehand import trt_convert as trt
from beforehand.build_engines import events
from beforehand.build_engines.events import BuildEvent
from beforehand.cli.main import main
from beforehand.errors import BuildCancelledError, BuildError, NotConvertedError


class Dense(tf.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng().normal(size=(width, 4)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 16], tf.float32, "x")])
    def predict(self, x: Any) -> dict[str, Any]:
        return {"y": tf.nn.softmax(tf.nn.relu(x @ self.weights))}


@pytest.fixture
def source(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A model that nobody has built, and an empty cache."""
    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "cache"))
    model = Dense()
    tf.saved_model.save(model, str(tmp_path / "model"), signatures=model.predict)
    return tmp_path / "model"


def make_converter(source: pathlib.Path, **options: Any) -> beforehand.Converter:
    converter = beforehand.Converter(source, progress="off", **options)
    converter.convert()
    return converter


SHAPES = [{"x": (batch, 16)} for batch in (1, 2, 3)]


def test_a_plan_is_what_build_then_does(source: pathlib.Path) -> None:
    converter = make_converter(source)
    plan = converter.plan(shapes=SHAPES)
    assert plan.seconds is None
    built = converter.build(shapes=SHAPES[:2])
    assert [engine.key for engine in built] == [engine.spec.key for engine in plan.engines[:2]]
    assert converter.plan(shapes=SHAPES[:2]).engines == ()  # this converter has them
    later = make_converter(source).plan(shapes=SHAPES)
    assert [engine.is_cached for engine in later.engines] == [True, True, False]
    assert later.engines[2].basis == "same segment"
    assert later.seconds is not None
    assert 0 < later.seconds < 60
    assert later.peak_bytes is not None
    assert later.peak_bytes > 10_000_000
    assert later.disk_bytes == sum(engine.bytes for engine in built) + (later.engines[2].engine_bytes or 0)


def test_a_plan_for_other_targets(source: pathlib.Path) -> None:
    converter = make_converter(source)
    here = converter.plan(shapes=SHAPES).list_targets()[0]
    plan = converter.plan(shapes=SHAPES, targets=(here, "cpu-x86_64+avx2"))
    assert len({engine.spec.key for engine in plan.engines}) == 6 if here != "cpu-x86_64+avx2" else 3


def test_dry_run_builds_nothing_and_says_what_would_be(source: pathlib.Path) -> None:
    told: list[BuildEvent] = []
    converter = make_converter(source, on_event=told.append)
    assert converter.build(shapes=SHAPES, dry_run=True) == ()
    [event] = told
    assert (event.kind, event.engines) == (events.PLAN, 3)
    assert "3 engines: 0 in the cache, 3 to build (nothing is built now)" in event.message
    assert converter.engines == ()


def test_the_drop_in_plans_too(source: pathlib.Path) -> None:
    converter = trt.TrtGraphConverterV2(input_saved_model_dir=str(source))
    with pytest.raises(NotConvertedError):
        converter.plan(lambda: [np.zeros((2, 16), np.float32)])
    converter.convert()
    plan = converter.plan(lambda: [np.zeros((2, 16), np.float32)])
    assert [engine.spec.shapes.describe() for engine in plan.engines] == ["x=1..2x16"]


def test_the_command_plans_and_exits_by_the_budget(source: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = ["--shapes", "x=1x16", "--shapes", "x=2x16"]
    assert main(["plan", str(source), *shapes]) == 0
    assert "to build    2 of 2 engines" in capsys.readouterr().out
    assert main(["plan", str(source), *shapes, "--budget", "20min"]) == 1  # nothing is known
    assert "no time is known" in capsys.readouterr().out
    assert main(["convert", str(source), "-o", str(source.parent / "out"), *shapes]) == 0
    capsys.readouterr()
    assert main(["plan", str(source), *shapes, "--shapes", "x=5x16", "--budget", "20min", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["to_build"], data["fitting"], data["budget_s"]) == (1, 3, 1200)
    assert main(["plan", str(source)]) == 2
    assert "BH121" in capsys.readouterr().err
    assert main(["plan", str(source), *shapes, "--budget", "soon"]) == 2
    assert "--budget is 'soon'" in capsys.readouterr().err


def test_dry_runs_of_commands_write_nothing(source: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = source.parent / "out"
    assert main(["convert", str(source), "-o", str(out), "--shapes", "x=1x16", "--dry-run"]) == 0
    assert "to build    1 of 1 engines" in capsys.readouterr().out
    assert not out.exists()
    assert not (source.parent / "cache" / "engines").exists()
    assert main(["convert", str(source), "--shapes", "x=1x16"]) == 2
    assert "-o OUT is missing" in capsys.readouterr().err
    assert main(["convert", str(source), "-o", str(out), "--shapes", "x=1x16"]) == 0
    before = sorted(path.name for path in out.rglob("*"))
    assert main(["add-target", str(out), "--target", "cpu-x86_64+avx2", "--dry-run"]) == 0
    assert "target cpu-x86_64+avx2: 1 engines, 1 to build" in capsys.readouterr().out
    assert sorted(path.name for path in out.rglob("*")) == before


def test_every_engine_is_told_from_start_to_end(source: pathlib.Path) -> None:
    told: list[BuildEvent] = []
    make_converter(source, on_event=told.append).build(shapes=SHAPES)
    ends = [event.kind for event in told if event.kind not in (events.PHASE, events.HEARTBEAT)]
    assert ends == [events.PLAN, *[events.STARTED, events.FINISHED] * 3]
    phases = {event.phase for event in told}
    assert {events.STARTING, events.READING, events.COMPILING} <= phases
    assert json.loads(json.dumps([event.to_dict() for event in told]))


def test_cancel_from_another_thread(source: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[BuildEvent] = []
    converter = make_converter(source, on_event=told.append)
    many = [{"x": (batch, 16)} for batch in range(1, 200)]

    def cancel() -> None:
        while sum(event.kind == events.FINISHED for event in told) < 2:
            time.sleep(0.01)
        converter.cancel()

    threading.Thread(target=cancel, daemon=True).start()
    with pytest.raises(BuildCancelledError, match="BH403"):
        converter.build(shapes=many)
    finished = [event for event in told if event.kind == events.FINISHED]
    assert len(converter.engines) == len(finished) >= 2
    assert told[-1].kind == events.CANCELLED
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if "beforehand.build_engines.child" in " ".join(child.cmdline())]
    more = converter.build(shapes=many[: len(finished) + 1])  # it can go on
    assert len(more) == 1


FAILING = """
import sys, beforehand
converter = beforehand.Converter(sys.argv[1], backend="fake", progress="off")
converter.convert()
try:
    converter.build(shapes=[{"x": (batch, 16)} for batch in (1, 2, 3)])
except beforehand.errors.BuildError as error:
    print(len(converter.engines), len(error.failures), error)
"""


def test_a_failure_is_raised_at_the_end_with_all_others(source: pathlib.Path) -> None:
    told = json.dumps({"x=1x16": "signal 11", "x=3x16": "garbage"})
    done = run_python("-c", FAILING, source, BEFOREHAND_FAKE=told)
    assert done.stdout.startswith(
        "1 2 BH401 the engine of TRTEngineOp_000_000 for x=1x16 was not built by fake (crashed)"
    )
    assert "Failed too: TRTEngineOp_000_000 for x=3x16 (invalid-engine)." in done.stdout
    assert "Relu" in done.stdout  # the name of a TensorFlow node


def test_the_command_saves_what_was_built_and_says_what_was_not(source: pathlib.Path) -> None:
    out = source.parent / "out"
    words = [
        "-m",
        "beforehand",
        "convert",
        source,
        "-o",
        out,
        "--backend",
        "fake",
        "--shapes",
        "x=1x16",
        "--shapes",
        "x=2x16",
    ]
    done = run_python(*words, BEFOREHAND_FAKE=json.dumps({"x=2x16": "signal 11"}))
    assert done.returncode == 1
    assert "was not built by fake (crashed)" in done.stderr
    assert "engines     1" in done.stdout
    assert (out / "saved_model.pb").is_file()
    stopped = run_python(*words, "--on-failure", "stop", BEFOREHAND_FAKE=json.dumps({"x=2x16": "signal 11"}))
    assert stopped.returncode == 2


def test_equal_segments_have_an_engine_each(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their keys are equal: once an engine of either was lost to the other."""
    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "cache"))

    class Twice(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 16], tf.float32, "x")])
        def predict(self, x: Any) -> dict[str, Any]:
            first = tf.sigmoid(tf.nn.relu(x) + 1.0)
            between = tf.py_function(lambda value: value, [first], tf.float32)
            between.set_shape([None, 16])
            return {"y": tf.sigmoid(tf.nn.relu(between) + 1.0)}

    model = Twice()
    tf.saved_model.save(model, str(tmp_path / "model"), signatures=model.predict)
    converter = make_converter(tmp_path / "model")
    assert len(converter.segments) == 2
    built = converter.build(shapes={"x": (2, 16)})
    assert len(built) == len(converter.engines) == 2
    assert len({engine.segment for engine in converter.engines}) == 2


def test_an_error_names_all_failures_once() -> None:
    error = BuildError("no engine", cause="timeout")
    assert error.failures == (error,)
    assert "Failed too" not in str(error)
