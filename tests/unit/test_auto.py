"""`precision_mode="auto"`: real engines in every precision that this CPU has; which is fastest is made certain, not measured."""

from __future__ import annotations

import logging
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import beforehand
from beforehand.accuracy import check_build
from beforehand.accuracy.judge import find_auto_excess
from beforehand.backends.openvino import OpenVinoBackend
from beforehand.build_engines.plan_engines import make_spec
from beforehand.cli.main import main
from beforehand.errors import AccuracyError, CalibrationError, OptionValueError
from beforehand.records import Accuracy, Engine, OutputAccuracy, ShapeSet
from beforehand.speed import time_engines
from beforehand.speed.list_candidates import list_candidates
from beforehand.speed.other_work import OtherWork
from beforehand.speed.race_engines import Race
from beforehand.store.layout import find_manifest
from beforehand.store.manifest import read_manifest

WIDTH = 64
SAMPLES = [np.random.default_rng(seed).normal(size=(64, WIDTH)).astype(np.float32) for seed in range(40)]
HERE = list_candidates(OpenVinoBackend(), OpenVinoBackend().describe_target(""))
needs_all = pytest.mark.skipif(
    not {"BF16", "INT8"} <= set(HERE), reason=f"this CPU has {', '.join(HERE)} alone, and nothing can be chosen"
)
# Seconds that an engine takes beside its own time, which is some microseconds.
INT8_WINS = {"FP32": 0.012, "FP16": 0.008, "BF16": 0.008, "INT8": 0.0}
HALF_WINS = {"FP32": 0.012, "FP16": 0.008, "BF16": 0.0, "INT8": 0.008}
EXACT_WINS = {"FP32": 0.0, "FP16": 0.008, "BF16": 0.008, "INT8": 0.008}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run beside others: what these do to the machine is not to decide."""
    monkeypatch.setattr(OtherWork, "find_share", lambda self: 0.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    module = tf.Module()
    module.first = tf.Variable(rng.normal(0, 0.2, (WIDTH, WIDTH)).astype(np.float32))
    module.second = tf.Variable(rng.normal(0, 0.2, (WIDTH, 10)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, WIDTH), tf.float32, name="x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.nn.softmax(tf.matmul(tf.nn.relu(tf.matmul(x, module.first)), module.second))}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


class Changed:
    """An executable whose outputs are changed, and which sleeps before it runs."""

    def __init__(self, right: Any, seconds: float, factor: float = 1.0) -> None:
        self._right, self.seconds, self._factor = right, seconds, np.float32(factor)

    def run(self, inputs: Any) -> list[Any]:
        time.sleep(self.seconds)
        return [output * self._factor for output in self._right.run(inputs)]


def rig(
    monkeypatch: pytest.MonkeyPatch,
    seconds: Mapping[str, float],
    spoilt: Mapping[str, float] | None = None,
    *,
    is_timed: bool = False,
) -> None:
    """Engines of a precision take so long, and are off by such a factor where they are compared.

    They run in either case; unless `is_timed`, their times are these very seconds, whatever else the machine does.
    """
    right = check_build.open_engine
    factors = dict(spoilt or {})

    def open_timed(engine: Engine, *rest: Any) -> Any:
        return Changed(right(engine, *rest), seconds[engine.precision])

    def open_compared(engine: Engine, *rest: Any) -> Any:
        return Changed(right(engine, *rest), 0.0, factors.get(engine.precision, 1.0))

    def race(live: Any, executables: Any, samples: Any, *rest: Any) -> Race:
        del live, rest
        for executable in executables:
            executable.run(samples[0].inputs)
        return make_race(*(executable.seconds or 1e-5 for executable in executables))

    monkeypatch.setattr(time_engines, "open_engine", open_timed)
    monkeypatch.setattr(check_build, "open_engine", open_compared)
    if not is_timed:
        monkeypatch.setattr(time_engines, "race_engines", race)


def make_race(*seconds: float) -> Race:
    """TensorFlow takes 0.1 s, and engines so long, 10 % more or less by turns, each by its own."""
    times = [[t * (0.9 + 0.1 * ((place + turn) % 3)) for turn in range(12)] for place, t in enumerate(seconds)]
    return Race([[0.1] * 12, *times], 1, OtherWork().find_share())


def convert(source: pathlib.Path, *, calibrate: bool = True, **options: Any) -> beforehand.Converter:
    converter = beforehand.Converter(source, precision_mode="auto", progress="off", **options)
    converter.convert((lambda: SAMPLES) if calibrate else None)
    return converter


@needs_all
def test_engines_for_a_lesser_machine_are_added_to_what_auto_chose(
    source: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    converter = convert(source, calibrate=False)
    converter.build(lambda: SAMPLES[:1])
    converter.save(tmp_path / "saved")
    [added] = beforehand.add_target(tmp_path / "saved", target="cpu-x86_64+avx2")
    assert (added.precision, added.target) == ("FP32", "cpu-x86_64+avx2")


@needs_all
def test_the_fastest_wins_and_nothing_of_the_others_is_left(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig(monkeypatch, {**dict.fromkeys(HERE, 0.06), "INT8": 0.0}, is_timed=True)
    converter = convert(source)
    with caplog.at_level(logging.INFO, "beforehand"):
        [engine] = converter.build(lambda: SAMPLES[:2])
    assert engine.precision == "INT8"
    assert engine.speed is not None
    assert [item.precision for item in engine.speed.lost] == [mode for mode in HERE if mode != "INT8"]
    for item in engine.speed.lost:
        assert item.engine_us > 60_000
        assert item.max_rel is not None
        assert "times as fast as INT8 (" in item.why
    assert converter.engines == (engine,)
    summary = converter.summary()
    assert summary.precision_note == "auto asked for, engines run in INT8"
    assert f"{engine.segment} for x=64x{WIDTH} is in INT8, not FP32 (" in summary.speed_note
    assert "runs in INT8 (" in caplog.text
    # A second build has nothing to do.
    assert converter.build(lambda: SAMPLES[:2]) == ()
    assert converter.engines == (engine,)
    converter.save(tmp_path / "saved")
    manifest = read_manifest(find_manifest(tmp_path / "saved"))
    assert manifest.engines == (engine,)
    assert [file.name for file in (tmp_path / "saved" / "assets").glob("*.openvino")] == [engine.file]
    assert beforehand.add_target(tmp_path / "saved") == ()  # what won is what the saved model is built again of
    unseen = make_spec(manifest, 0, ShapeSet(("x",), ((3, WIDTH),)), OpenVinoBackend())
    assert unseen.precision == "INT8"
    assert make_spec(manifest, 0, engine.shapes, OpenVinoBackend(), target="cpu-x86_64+avx2").precision == "FP32"
    with beforehand.load(tmp_path / "saved") as alone:
        assert alone(x=SAMPLES[0])["y"].shape == (64, 10)


@needs_all
def test_the_winner_is_the_engine_that_its_precision_by_name_would_be(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig(monkeypatch, HALF_WINS)
    [engine] = convert(source, calibrate=False).build(lambda: SAMPLES[:1])
    assert engine.precision == "BF16"
    assert engine.speed is not None
    assert "INT8" not in [item.precision for item in engine.speed.lost]  # nothing was calibrated
    by_name = beforehand.Converter(source, precision_mode="BF16", progress="off")
    by_name.convert()
    [other] = by_name.build(lambda: SAMPLES[:1])
    assert (other.key, other.file, other.sha256) == (engine.key, engine.file, engine.sha256)


@needs_all
def test_a_less_exact_engine_that_is_no_faster_is_not_taken(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig(monkeypatch, EXACT_WINS)
    [engine] = convert(source).build(lambda: SAMPLES[:1])
    assert engine.precision == "FP32"
    rig(monkeypatch, dict.fromkeys(HERE, 0.01))  # none is faster by the whole interval
    [engine] = convert(source).build(lambda: SAMPLES[:1])
    assert engine.precision == "FP32"


def test_what_was_chosen_on_a_busy_machine_is_told(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(OtherWork, "find_share", lambda self: 0.6)
    rig(monkeypatch, EXACT_WINS)
    convert(source, calibrate=False).build(lambda: SAMPLES[:1])
    assert "was chosen while other processes used 60 % of the CPUs: FP32 may not be the fastest" in caplog.text


@needs_all
def test_one_over_the_budget_is_not_taken_however_fast_it_is(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig(monkeypatch, {**HALF_WINS, "INT8": 0.0, "BF16": 0.004}, {"INT8": 1.5})
    [engine] = convert(source).build(lambda: SAMPLES[:1])
    assert engine.precision == "BF16"
    assert engine.speed is not None
    [int8] = [item for item in engine.speed.lost if item.precision == "INT8"]
    assert int8.engine_us == 0  # it was not timed
    assert "may be by 0.1" in int8.why
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    # The user's own budget holds instead: of half precision and INT8 none is within it.
    [exact] = convert(source, max_error=1e-5).build(lambda: SAMPLES[:1])
    assert exact.precision == "FP32"


def test_where_no_precision_is_within_the_budget_tensorflow_answers_or_it_is_an_error(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig(monkeypatch, EXACT_WINS, dict.fromkeys(HERE, 2.0))
    converter = convert(source, calibrate=False)
    assert converter.build(lambda: SAMPLES[:1]) == ()
    assert converter.engines == ()
    assert "in FP32: it is off by 1 of the largest magnitude of an output, and may be by 0.1" in caplog.text
    [left] = converter._used.list_left_native()
    assert left.shapes == ShapeSet(("x",), ((64, WIDTH),))
    strict = convert(source, calibrate=False, on_inaccurate="error")
    with pytest.raises(AccuracyError, match="BH404 TRTEngineOp_000_000 for x=64x64 in FP32: it is off by"):
        strict.build(lambda: SAMPLES[:1])


@needs_all
def test_the_users_metric_bars_what_it_does_not_hold_with(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig(monkeypatch, INT8_WINS)
    expected: list[Any] = []

    def measure(model: Any) -> float:
        found = model(x=SAMPLES[0])["y"]
        if not expected:
            expected.append(found)
        return -float(np.abs(found - expected[0]).max() / np.abs(expected[0]).max())

    [engine] = convert(source).build(lambda: SAMPLES[:1], metric=measure, max_drop=1.0)
    assert engine.precision == "INT8"
    converter = convert(source)
    [engine] = converter.build(lambda: SAMPLES[:1], metric=measure, max_drop=1e-5)
    assert engine.precision == "FP32"
    assert converter.engines == (engine,)
    assert engine.speed is not None
    assert all(item.why.endswith("; the metric was over its budget") for item in engine.speed.lost)
    strict = convert(source, on_inaccurate="error")
    with pytest.raises(AccuracyError, match=r"BH404 .*the metric is"):
        strict.build(lambda: SAMPLES[:1], metric=lambda model: -1.0 if strict_is_asked(model) else 0.0, max_drop=0.5)
    assert strict.engines == ()


def strict_is_asked(model: Any, seen: list[Any] = []) -> bool:  # noqa: B006 (the first model is TensorFlow's)
    seen.append(model)
    return model is not seen[0]


@needs_all
def test_the_winner_that_is_slower_than_tensorflow_is_left_out_with_all_that_lost(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig(monkeypatch, {**HALF_WINS, "BF16": 0.004})
    converter = convert(source, min_speedup=1e6)
    assert converter.build(lambda: SAMPLES[:1]) == ()
    [left] = converter._used.list_left_native()
    assert left.speed is not None
    assert not left.speed.kept
    assert {item.precision for item in left.speed.lost} == set(HERE) - {"BF16"}


def test_what_could_not_be_compared_is_in_float32(source: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no such device")

    monkeypatch.setattr(check_build, "open_engine", fail)
    monkeypatch.setattr(time_engines, "open_engine", fail)
    [engine] = convert(source, calibrate=False).build(lambda: SAMPLES[:1])
    assert engine.precision == "FP32"
    assert engine.speed is not None
    assert engine.speed.not_timed == "it cannot be run here: RuntimeError: no such device"


def test_a_plan_has_every_candidate_once(source: pathlib.Path) -> None:
    plan = convert(source, calibrate=False).plan(lambda: SAMPLES[:1])
    found = [engine.spec.precision for engine in plan.engines]
    assert found == [mode for mode in HERE if mode != "INT8"]


def test_what_cannot_be_measured_is_refused(source: pathlib.Path) -> None:
    with pytest.raises(
        OptionValueError, match=r'BH102 precision_mode is "auto", and engines of openvino for .*\+avx2 do not'
    ):
        beforehand.Converter(source, precision_mode="auto", target="cpu-x86_64+avx2")
    with pytest.raises(OptionValueError, match='BH102 compare_samples is 0, and precision_mode is "auto"'):
        beforehand.Converter(source, precision_mode="auto", compare_samples=0)
    converter = beforehand.Converter(source, precision_mode="auto", use_calibration=False)
    with pytest.raises(CalibrationError, match="BH123"):
        converter.convert(lambda: SAMPLES)


def test_samples_for_a_cpu_without_int8_are_no_error(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("beforehand.converter.list_candidates", lambda *_: ("FP32",))
    [engine] = convert(source).build(lambda: SAMPLES[:1])
    assert engine.precision == "FP32"
    assert "nothing is calibrated: this target has no INT8, and precision_mode auto does without it" in caplog.text


def test_the_command_line_takes_it_in_any_case_and_without_calibration(
    source: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["convert", str(source), "-o", str(tmp_path / "out"), "--precision", "AUTO", "--shapes", f"x=64x{WIDTH}"]
    assert main([*command, "--progress", "off", "--min-speedup", "0.000001"]) == 0
    [engine] = read_manifest(find_manifest(tmp_path / "out")).engines
    printed = capsys.readouterr().out
    assert f"precision   auto asked for, engines run in {engine.precision}" in printed
    assert "speed       1 of 1 engines timed against TensorFlow" in printed


def make_accuracy(**values: Any) -> Accuracy:
    return Accuracy(
        (OutputAccuracy(**{"name": "y", "max_abs": 0.0, "max_rel": 0.05, "mean_abs": 0.0, "cosine": 1.0, **values}),), 1
    )


@pytest.mark.parametrize(
    ("accuracy", "max_error", "reason"),
    [
        (make_accuracy(), None, ""),
        (make_accuracy(top1=0.5), None, ""),
        (make_accuracy(max_rel=0.2), None, "may be by 0.1"),
        (make_accuracy(max_rel=0.2), 0.3, ""),
        (make_accuracy(cosine=0.9), 0.3, ""),
        (make_accuracy(), 0.01, "may be by 0.01"),
        (make_accuracy(cosine=0.9), None, "the cosine of its output y with TensorFlow's is 0.9000, below 0.99"),
        (make_accuracy(unequal=0.5), None, "50.0% of the whole numbers of its output y are not TensorFlow's"),
        (make_accuracy(lost=3), 0.3, "3 values are NaN"),
        (Accuracy(not_compared="why"), None, "not compared: why"),
        (None, 0.3, "not compared: nobody tried"),
    ],
)  # fmt: skip
def test_the_budget_is_the_users_else_the_default_one(
    accuracy: Accuracy | None, max_error: float | None, reason: str
) -> None:
    found = find_auto_excess(accuracy, max_error)
    assert reason in found
    assert bool(reason) is bool(found)
