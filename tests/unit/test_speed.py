"""Engines timed beside TensorFlow after a build. No test asks how fast this machine is: what must win or lose is made to."""

from __future__ import annotations

import logging
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf

import beforehand
from beforehand.backends.registry import find_backend
from beforehand.cli.collect_inspection import collect_inspection
from beforehand.cli.format_inspection import format_inspection
from beforehand.errors import BuildCancelledError, EngineRunError, OptionValueError, UnseenShapeError
from beforehand.live_model import LiveModel
from beforehand.records import Engine, EngineSpeed, LostCandidate
from beforehand.report.summarize_speed import summarize_speed
from beforehand.runtime import loaded_engine
from beforehand.speed import judge_signature, time_engines
from beforehand.speed import time_calls as timing
from beforehand.speed.estimate_ratio import estimate_ratio
from beforehand.speed.judge import find_slowness
from beforehand.speed.other_work import MOST_OTHERS, OtherWork
from beforehand.speed.race_engines import Race
from beforehand.speed.time_calls import Way, time_calls
from beforehand.store.layout import find_manifest
from beforehand.store.manifest import read_manifest

ANY, NONE = 1e-6, 1e6  # what every engine is as many times as fast as TensorFlow, and what none is
SLOW_S = 0.02
X = np.random.default_rng(1).normal(size=(4, 16)).astype(np.float32)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet_down(monkeypatch)


def quiet_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run beside others: what these do to the machine is not to decide, and there is time for all rounds that it takes."""
    monkeypatch.setattr(OtherWork, "find_share", lambda self: 0.0)
    monkeypatch.setattr(time_engines, "EACH_S", 60.0)
    monkeypatch.setattr(judge_signature, "EACH_S", 60.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two segments: between them is text, which no engine has."""
    folder = tmp_path_factory.mktemp("source")
    module = tf.Module()
    module.weights = tf.Variable(np.random.default_rng(0).normal(0, 0.3, (16, 8)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 16), tf.float32, name="x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        h = tf.nn.relu(tf.matmul(x, module.weights))
        size = tf.cast(tf.strings.length(tf.strings.as_string(tf.reduce_max(h))), tf.float32)
        return {"y": tf.nn.softmax(h / size)}

    @tf.function(input_signature=[tf.TensorSpec((None, 16), tf.float32, name="x")])
    def whole(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"z": tf.nn.softmax(tf.nn.relu(tf.matmul(x, module.weights)) * 2.0)}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve, "whole": whole})
    return folder


def convert(source: pathlib.Path, *signatures: str, **options: Any) -> beforehand.Converter:
    chosen = signatures or ("serving_default",)
    converter = beforehand.Converter(source, signatures=chosen, minimum_segment_size=1, progress="off", **options)
    converter.convert()
    return converter


class Slowed:
    """An executable that sleeps before it runs."""

    def __init__(self, right: Any, seconds: float) -> None:
        self._right, self._seconds = right, seconds

    def run(self, inputs: Any) -> Any:
        time.sleep(self._seconds)
        return self._right.run(inputs)


def slow_engines(monkeypatch: pytest.MonkeyPatch, find_seconds: Callable[[Engine], float]) -> None:
    """Engines take so much longer where they are timed alone, not in calls of the model."""
    right = time_engines.open_engine
    monkeypatch.setattr(
        time_engines, "open_engine", lambda engine, *rest: Slowed(right(engine, *rest), find_seconds(engine))
    )


def slow_native(monkeypatch: pytest.MonkeyPatch) -> None:
    right = LiveModel.make_native_call

    def make_slow(self: LiveModel, index: int, inputs: Any) -> Callable[[], list[Any]]:
        call = right(self, index, inputs)

        def run() -> list[Any]:
            time.sleep(SLOW_S)
            return call()

        return run

    monkeypatch.setattr(LiveModel, "make_native_call", make_slow)


def test_the_interval_of_a_median_lies_between_two_of_the_ratios() -> None:
    assert vars(estimate_ratio([2.0])) == {"median": 2.0, "low": 2.0, "high": 2.0}
    assert vars(estimate_ratio([1.0, 2.0, 9.0])) == {"median": 2.0, "low": 1.0, "high": 9.0}
    # Of ten, the second and the ninth: Conover, Practical Nonparametric Statistics, table of the binomial.
    ten = estimate_ratio([10.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])
    assert vars(ten) == {"median": 5.5, "low": 2.0, "high": 9.0}


def test_ratios_are_of_pairs_and_of_several_samples_the_geometric_mean() -> None:
    native, engine = [[4.0, 40.0, 4.0], [1.0, 1.0, 1.0]], [[1.0, 10.0, 1.0], [1.0, 1.0, 1.0]]
    race = Race([*native, *engine], samples=2)
    assert vars(race.compare(1, 0)) == pytest.approx({"median": 2.0, "low": 2.0, "high": 2.0})
    assert race.find_us(0) == pytest.approx(2e6)
    assert race.describe(1) == EngineSpeed(
        1e6, pytest.approx(2e6), pytest.approx(2), low=pytest.approx(2), high=pytest.approx(2)
    )  # type: ignore[arg-type]


def test_calls_take_turns_and_what_prepares_them_is_not_timed() -> None:
    made: list[str] = []
    ways = [
        Way(lambda: made.append("a"), lambda: time.sleep(0.002)),
        Way(lambda: (made.append("b"), time.sleep(0.03))),
    ]
    times = time_calls(ways, lambda _: True, seconds=60.0)
    assert times is not None
    assert [len(row) for row in times] == [timing._FIRST_LOOK] * 2  # then it is decided, after 0.3 s and more
    assert min(times[0]) < 0.002
    assert min(times[1]) >= 0.03
    order = [name for place, name in enumerate(made) if name != made[place - 1]]
    assert {"a", "b"} == set(order)


def test_what_is_too_slow_is_given_up_and_time_is_kept_to() -> None:
    slow = Way(lambda: time.sleep(0.05))
    assert time_calls([slow, slow], lambda _: False, seconds=0.01) is None
    start = time.perf_counter()
    times = time_calls([slow, slow], lambda _: False, seconds=0.5)
    assert times is not None
    assert timing.FEWEST_ROUNDS <= len(times[0]) <= 10
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("low", "high", "min_speedup", "is_slow"),
    [(0.5, 0.9, 1.0, True), (0.5, 1.0, 1.0, False), (1.1, 1.2, 1.0, False), (1.1, 1.2, 1.5, True), (0.5, 0.9, 0, False),
     (0.5, 0.9, None, False)],
)  # fmt: skip
def test_only_what_is_slower_by_the_whole_interval_is_left_out(
    low: float, high: float, min_speedup: float | None, is_slow: bool
) -> None:
    speed = EngineSpeed(100.0, 90.0, (low + high) / 2, low=low, high=high)
    assert bool(find_slowness(speed, min_speedup, "x")) is is_slow
    assert not find_slowness(EngineSpeed(not_timed="no samples"), 2.0, "x")


def test_where_other_processes_are_at_work_nothing_is_left_out_and_the_reason_is_told(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(OtherWork, "find_share", lambda self: 0.6)
    converter = convert(source, "whole", min_speedup=NONE)
    [engine] = converter.build(lambda: [X])
    assert engine.speed is not None
    assert engine.speed.kept
    assert engine.speed.others == 0.6
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.split(" takes ")[0] for text in told] == [f"{engine.segment} for x=4x16 in FP32", "whole for x=4x16"]
    assert all(
        "while other processes used 60 % of the CPUs). That is not 1e+06, but says little" in text for text in told
    )


def test_the_work_of_other_processes_is_seen_and_ones_own_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(psutil.cpu_count() or 1)]
    try:
        time.sleep(0.2)
        work = OtherWork()
        time.sleep(0.5)
        assert work.find_share() > MOST_OTHERS
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert OtherWork().find_share() == 0.0  # too short to tell


def test_every_engine_is_timed_and_the_manifest_and_the_summary_have_the_numbers(
    source: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    converter = convert(source, min_speedup=ANY)
    engines = converter.build(lambda: [X])
    assert len(engines) >= 2
    for engine in engines:
        speed = engine.speed
        assert speed is not None
        assert speed.kept
        assert not speed.not_timed
        assert 0 < speed.engine_us < 1e6
        assert 0 < speed.native_us < 1e6
        assert 0 < speed.low <= speed.speedup <= speed.high
    note = converter.summary().speed_note
    assert note.startswith(f"{len(engines)} of {len(engines)} engines timed against TensorFlow; the least gain, ")
    assert "; serving_default for x=4x16 takes " in note
    converter.save(tmp_path / "saved")
    assert read_manifest(find_manifest(tmp_path / "saved")).engines == engines
    found = collect_inspection(tmp_path / "saved")
    assert found["engines"][0]["speed"]["kept"] is True
    assert f"  {found['speed']}" in format_inspection(found, tmp_path / "saved")


def test_where_nothing_is_asked_of_them_nothing_is_timed(source: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time_engines, "race_engines")
    for nothing in (None, 0):
        converter = convert(source, min_speedup=nothing)
        assert {engine.speed for engine in converter.build(shapes={"x": (4, 16)})} == {None}
        assert converter.summary().speed_note == ""


def test_slower_engines_leave_their_shapes_to_tensorflow_which_answers_without_a_word(
    source: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    converter = convert(source, "whole", min_speedup=NONE, on_unseen_shape="error")
    assert converter.build(lambda: [X]) == ()
    assert converter.engines == ()
    [told] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "times as fast" in told
    assert told.endswith(", and must be 1e+06. Such calls run natively, in TensorFlow.")
    assert not [
        record for record in caplog.records if "compared" in record.getMessage() and record.levelno > logging.INFO
    ]
    assert "left in TensorFlow" in converter.summary().speed_note
    assert converter.summary().accuracy_note == ""
    live = converter._converted[3].functions["whole"]  # type: ignore[index]
    expected = live(x=tf.constant(X))["z"].numpy()
    converter.save(tmp_path / "saved")
    [left] = read_manifest(find_manifest(tmp_path / "saved")).left_native
    assert left.speed is not None
    assert not left.speed.kept
    assert left.speed.engine_us > 0
    assert left.speed.native_us > 0
    caplog.clear()
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    found = loaded.signatures["whole"](x=tf.constant(X))["z"].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    stats = beforehand.stats(loaded)
    assert stats["signatures"]["whole"] == {"engine_calls": 0, "native_calls": 1}
    assert stats["unseen_shapes"] == []
    assert caplog.records == []
    with pytest.raises(tf.errors.OpError, match="BH604"):  # of all other shapes the policy holds
        loaded.signatures["whole"](x=tf.constant(X[:3]))
    with (
        beforehand.load(tmp_path / "saved") as alone,
        pytest.raises(UnseenShapeError, match=r"left to TensorFlow when it was built .*Try: min_speedup=None"),
    ):
        alone(x=X)
    monkeypatch.setenv("TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION", "false")
    with pytest.raises(tf.errors.OpError, match=r"BH601: .*was left to TensorFlow for these shapes: it takes"):
        loaded.signatures["whole"](x=tf.constant(X))
    assert isinstance(beforehand.last_error(), EngineRunError)


def test_an_engine_that_sleeps_is_left_out_and_one_whose_segment_sleeps_in_tensorflow_is_used(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_native(monkeypatch)
    converter = convert(source, min_speedup=1.0)
    monkeypatch.setattr("beforehand.speed.settle_engines.SignatureJudge.find_slow", lambda *_: {})
    bad = converter.segments[0].name
    slow_engines(monkeypatch, lambda engine: 15 * SLOW_S if engine.segment == bad else 0.0)
    engines = converter.build(lambda: [X])
    assert {engine.segment for engine in engines} == {segment.name for segment in converter.segments} - {bad}
    assert all(engine.speed is not None and engine.speed.low > 1 for engine in engines)
    [left] = converter._used.list_left_native()
    assert left.segment_index == 0
    assert left.speed is not None
    assert left.speed.high < 1
    # Built again, which is to find it in the cache, it is timed anew.
    monkeypatch.undo()
    quiet_down(monkeypatch)
    slow_native(monkeypatch)
    monkeypatch.setattr("beforehand.speed.settle_engines.SignatureJudge.find_slow", lambda *_: {})
    [again] = converter.build(lambda: [X])
    assert again.segment == bad
    assert converter._used.list_left_native() == []


def test_a_signature_that_is_slower_as_a_whole_runs_natively_although_its_engine_alone_is_faster(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slow_native(monkeypatch)  # where a segment is timed alone

    class SlowBackend:
        def load(self, *args: Any, **named: Any) -> Any:
            return Slowed(find_backend("openvino").load(*args, **named), SLOW_S)

    monkeypatch.setattr(loaded_engine, "find_backend", lambda _: SlowBackend())  # in calls of the model
    converter = convert(source, "whole", min_speedup=1.0)
    with caplog.at_level(logging.INFO, "beforehand"):
        assert converter.build(lambda: [X]) == ()
    assert "with it the whole signature is slower: whole for x=4x16: it takes" in caplog.text
    [left] = converter._used.list_left_native()
    assert left.speed is not None
    assert left.speed.low > 1  # alone it won
    assert not left.speed.kept


def test_a_range_is_timed_at_both_its_ends_and_judged_whole(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[int, ...]] = set()
    right = LiveModel.make_native_call

    def note(self: LiveModel, index: int, inputs: Any) -> Any:
        seen.add(inputs[0].shape)
        return right(self, index, inputs)

    converter = convert(source, "whole", min_speedup=ANY)
    monkeypatch.setattr(LiveModel, "make_native_call", note)
    [engine] = converter.build(profiles=[{"x": ((2, 16), (3, 16), (8, 16))}])
    assert engine.shapes.is_range
    assert engine.speed is not None
    assert not engine.speed.not_timed
    assert {(2, 16), (8, 16)} <= seen


def test_engines_for_another_cpu_are_not_timed_and_stay(source: pathlib.Path) -> None:
    converter = convert(source, min_speedup=NONE, target="cpu-x86_64+avx2")
    engines = converter.build(shapes={"x": (4, 16)})
    assert engines
    assert all(engine.speed is not None and engine.speed.kept for engine in engines)
    assert all("it is for [openvino" in engine.speed.not_timed for engine in engines if engine.speed is not None)
    assert (
        f"0 of {len(engines)} engines timed against TensorFlow; not timed: it is for ["
        in converter.summary().speed_note
    )


def test_they_are_timed_without_being_compared_where_that_is_asked_for(source: pathlib.Path) -> None:
    converter = convert(source, min_speedup=ANY, compare_samples=0)
    for engine in converter.build(shapes={"x": (4, 16)}):
        assert engine.accuracy is None
        assert engine.speed is not None
        assert not engine.speed.not_timed


def test_an_engine_that_fails_while_it_is_timed_is_told_and_stays(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no such device")

    monkeypatch.setattr(time_engines, "open_engine", fail)
    converter = convert(source, "whole", min_speedup=NONE)
    monkeypatch.setattr("beforehand.speed.settle_engines.SignatureJudge.find_slow", lambda *_: {})
    [engine] = converter.build(lambda: [X])
    assert engine.speed == EngineSpeed(not_timed="it cannot be run here: RuntimeError: no such device")
    assert "could not be timed: it cannot be run here: RuntimeError: no such device" in caplog.text


def test_of_many_shapes_those_are_timed_for_which_there_is_time(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = time_engines.race_engines

    def take_long(*args: Any) -> Any:
        found = right(*args)
        time.sleep(time_engines.TOTAL_S)
        return found

    monkeypatch.setattr(time_engines, "TOTAL_S", 1.0)
    monkeypatch.setattr(time_engines, "race_engines", take_long)
    converter = convert(source, "whole", min_speedup=ANY)
    first, *others = converter.build(shapes=[{"x": (batch, 16)} for batch in (1, 2, 3)])
    assert first.speed is not None
    assert not first.speed.not_timed
    assert [engine.speed and engine.speed.not_timed for engine in others] == [
        "the 1 s for timing the engines of a build were used up"
    ] * 2


def test_a_build_that_is_cancelled_while_it_is_timed_ends_and_keeps_its_engines(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converter = convert(source, min_speedup=ANY)
    right = time_engines.race_engines

    def cancel(*args: Any) -> Any:
        converter.cancel()
        return right(*args)

    monkeypatch.setattr(time_engines, "race_engines", cancel)
    with pytest.raises(BuildCancelledError, match="BH403 the build was cancelled while its engines were timed"):
        converter.build(lambda: [X])
    assert len(converter.engines) == len(converter.segments)


def test_the_environment_sets_it_where_a_program_does_not(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEFOREHAND_MIN_SPEEDUP", "2.5")
    assert beforehand.Converter(source).options.min_speedup == 2.5
    assert beforehand.Converter(source, min_speedup=None).options.min_speedup is None
    monkeypatch.setenv("BEFOREHAND_MIN_SPEEDUP", "fast")
    with pytest.raises(OptionValueError, match="BH102 the environment variable BEFOREHAND_MIN_SPEEDUP is 'fast'"):
        beforehand.Converter(source)
    monkeypatch.delenv("BEFOREHAND_MIN_SPEEDUP")
    assert beforehand.Converter(source).options.min_speedup == 1.0


def test_variables_that_the_model_assigns_are_left_as_they_were(tmp_path: pathlib.Path) -> None:
    module = tf.Module()
    module.count = tf.Variable(0.0)
    module.weights = tf.Variable(tf.ones((16, 8)))

    @tf.function(input_signature=[tf.TensorSpec((None, 16), tf.float32, name="x")])
    def serve(x: tf.Tensor) -> Mapping[str, tf.Tensor]:
        count = module.count.assign_add(1.0)
        return {"y": tf.nn.relu(tf.matmul(x, module.weights)) * 2.0, "n": count}

    tf.saved_model.save(module, str(tmp_path / "source"), signatures={"serving_default": serve})
    converter = beforehand.Converter(tmp_path / "source", minimum_segment_size=1, progress="off", min_speedup=ANY)
    functions = converter.convert()
    assert converter.build(lambda: [X])
    assert "serving_default for x=4x16 takes" in converter.summary().speed_note
    assert functions["serving_default"](x=tf.constant(X))["n"].numpy() == 1.0


def test_what_lost_is_told_with_its_numbers() -> None:
    lost = (
        LostCandidate("INT8", 5100.0, 0.012, "0.9 times as fast as BF16 (0.8 to 1.1)"),
        LostCandidate("FP32", 0, None, "not compared: why"),
    )
    speed = EngineSpeed(4600.0, 20e3, 4.35, low=4.2, high=4.5, lost=lost)
    assert speed.describe() == "4.6 ms, TensorFlow 20 ms: 4.35 times as fast (4.2 to 4.5)"
    from beforehand.records import ShapeSet

    engine = Engine("TRTEngineOp_000_000", 0, ShapeSet(("x",), ((1, 3),)), "openvino", "1", "BF16", "cpu", ("a",), ("b",), "k", "f", 1, "0", 0.5, speed=speed)  # fmt: skip
    assert summarize_speed([engine]) == (
        "1 of 1 engines timed against TensorFlow; the least gain, TRTEngineOp_000_000 for x=1x3 in BF16, 4.6 ms, TensorFlow 20 "
        "ms: 4.35 times as fast (4.2 to 4.5); TRTEngineOp_000_000 for x=1x3 is in BF16, not INT8 (5.1 ms, off by 1.2e-02: 0.9 "
        "times as fast as BF16 (0.8 to 1.1)), FP32 (not compared: why)"
    )
