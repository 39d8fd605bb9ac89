"""Engines that half precision makes wrong, healed: by real engines, and how many builds that takes by made-up ones."""

from __future__ import annotations

import dataclasses
import json
import logging
import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

import beforehand
from beforehand import pipeline
from beforehand.accuracy.check_metric import make_metric_budget
from beforehand.accuracy.heal import Healer, Tools
from beforehand.accuracy.list_parts import list_parts
from beforehand.backends.openvino import OpenVinoBackend
from beforehand.build_engines.build_all import BuildHooks
from beforehand.build_engines.follow_healed import find_uncompared
from beforehand.build_engines.plan_engines import make_spec
from beforehand.errors import AccuracyError, OptionValueError, PrecisionError
from beforehand.records import Accuracy, Engine, OutputAccuracy, PartSearch, ShapeSet
from beforehand.store.layout import find_manifest
from beforehand.store.manifest import decode_engine, encode_engine, read_manifest

WIDTH = 64
SAMPLES = [np.random.default_rng(seed).normal(size=(8, WIDTH)).astype(np.float32) for seed in (1, 2)]


def need(precision: str) -> None:
    """Skip where this CPU has no such arithmetic."""
    try:
        found = OpenVinoBackend().resolve_precision(precision, OpenVinoBackend().describe_target(""))
    except PrecisionError as error:
        pytest.skip(str(error))
    if found != precision:
        pytest.skip(f"{precision} runs in {found} here")


def save(folder: pathlib.Path, kind: str) -> pathlib.Path:
    """Six layers; between the third and the fourth one that overflows in float16, or two that cancel each other."""
    rng = np.random.default_rng(0)
    module = tf.Module()
    module.weights = [tf.Variable(rng.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)).astype(np.float32)) for _ in range(7)]

    def apply(name: str, place: int, x: tf.Tensor) -> tf.Tensor:
        with tf.name_scope(name):
            return tf.matmul(x, module.weights[place])

    def spoil(x: tf.Tensor) -> tf.Tensor:
        if kind == "overflow":
            wide = apply("wide", 6, x) * 1e6
            with tf.name_scope("norm"):
                return wide / tf.reduce_max(tf.abs(wide), axis=1, keepdims=True)
        first = apply("first", 6, x)
        with tf.name_scope("second"):
            second = tf.matmul(x, module.weights[6] * 1.01)
        with tf.name_scope("cancel"):
            return tf.nn.tanh((second - first) * 100.0)

    @tf.function(input_signature=[tf.TensorSpec((None, WIDTH), tf.float32, name="x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        for place in range(6):
            x = tf.nn.tanh(apply(f"dense_{place}", place, x))
            x = spoil(x) if place == 2 else x
        return {"y": x}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return save(tmp_path_factory.mktemp("overflow"), "overflow")


@pytest.fixture(scope="module")
def cancelling(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return save(tmp_path_factory.mktemp("cancel"), "cancel")


def convert(source: pathlib.Path, **options: Any) -> beforehand.Converter:
    converter = beforehand.Converter(source, progress="off", **options)
    converter.convert()
    return converter


def rebuild(converter: beforehand.Converter, engine: Engine, parts: tuple[str, ...]) -> Engine:
    """The engine with these parts put back and no others, compared."""
    from beforehand.accuracy.check_build import BuildChecker
    from beforehand.accuracy.keep_samples import KeptSamples

    assert converter._converted is not None
    _, conversion, segments, live = converter._converted
    request = pipeline.BuildRequest(conversion, segments, converter.options, converter._backend, lambda *_: [], ())
    nodes = list_parts(conversion.lowered[engine.segment_index].onnx_file)
    names = [name for part in parts for name in nodes[part]]
    built = pipeline.rebuild_kept(request, engine, names, converter._work, BuildHooks(), converter._cancel)
    assert built is not None
    kept = KeptSamples(2)
    for sample in SAMPLES:
        kept.add({"x": sample})
    checker = BuildChecker(live, conversion.signatures[0], segments, kept, converter._work, converter.options)
    return dataclasses.replace(built, accuracy=checker.compare(built))


def check_minimal(converter: beforehand.Converter, engine: Engine, limit: float) -> None:
    assert engine.accuracy is not None
    put_back = engine.accuracy.put_back
    assert put_back
    for part in put_back:
        without = rebuild(converter, engine, tuple(other for other in put_back if other != part)).accuracy
        assert without is not None
        assert without.lost or without.max_rel > limit, f"{part} is not needed"


def test_an_overflow_in_float16_is_caught_and_healed_and_saved(
    overflowing: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    need("FP16")
    converter = convert(overflowing, precision_mode="FP16")
    [engine] = converter.build(lambda: SAMPLES)
    assert engine.precision == "FP16"
    assert engine.accuracy is not None
    assert engine.accuracy.lost == 0
    assert engine.accuracy.max_rel < 0.02
    assert set(engine.accuracy.put_back) <= {"wide", "norm", "mul"}
    [told] = [record.getMessage() for record in caplog.records if "The budget holds with" in record.getMessage()]
    assert "values are NaN, infinite or missing where TensorFlow's are not" in told
    assert "none of which can be spared" in told
    assert told.endswith(", ".join(engine.accuracy.put_back))
    check_minimal(converter, engine, float("inf"))
    assert f"with {', '.join(engine.accuracy.put_back)} in a higher precision" in converter.summary().accuracy_note
    # A second build has nothing to do: the engine that it would build is known to be wrong.
    assert converter.build(lambda: SAMPLES) == ()
    assert converter.engines == (engine,)
    converter.save(tmp_path / "saved")
    assert beforehand.add_target(tmp_path / "saved") == ()  # nor what a saved model is built again of
    manifest = read_manifest(find_manifest(tmp_path / "saved"))
    unseen = make_spec(manifest, 0, ShapeSet(("x",), ((3, WIDTH),)), OpenVinoBackend())
    assert unseen.kept == engine.kept
    with beforehand.load(tmp_path / "saved") as alone:
        found = alone(x=SAMPLES[0])["y"]
    expected = tf.saved_model.load(str(overflowing)).signatures["serving_default"](x=tf.constant(SAMPLES[0]))["y"]
    assert np.abs(found - expected.numpy()).max() < 0.02


def test_what_was_healed_in_one_half_precision_is_not_built_in_the_other_without_a_word(
    overflowing: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """FP16 is BF16 on a CPU that has that alone."""
    need("FP16")
    backend, here = OpenVinoBackend(), OpenVinoBackend().describe_target("")
    lower = f"{here.partition('+')[0]}+avx512_bf16"
    try:
        backend.describe_target(lower)
    except OptionValueError as error:
        pytest.skip(str(error))
    converter = convert(overflowing, precision_mode="FP16")
    [healed] = converter.build(lambda: SAMPLES)
    converter.save(tmp_path / "saved")
    caplog.clear()
    [added] = beforehand.add_target(tmp_path / "saved", lower, progress="off")
    assert (added.precision, added.target, added.kept) == ("BF16", lower, healed.kept)
    reason = f"it runs in BF16; at the conversion engines of {added.segment} were compared in FP16"
    told = [record.getMessage() for record in caplog.records if "is not compared" in record.getMessage()]
    assert len(told) == 1
    assert reason in told[0]
    assert "What was put back to a higher precision there is put back in it." in told[0]
    assert "precision_mode='BF16'" in told[0]
    manifest = read_manifest(find_manifest(tmp_path / "saved"))
    assert {e.target: e.accuracy and e.accuracy.not_compared for e in manifest.engines} == {here: "", lower: reason}
    # The other way round: what was compared in BF16 is built in it where both are to be had.
    other = dataclasses.replace(
        manifest, engines=tuple(dataclasses.replace(e, precision="BF16") for e in manifest.engines)
    )
    spec = make_spec(other, 0, healed.shapes, backend, target="")
    assert (spec.precision, spec.kept, find_uncompared(spec, other)) == ("BF16", healed.kept, "")
    # Where nothing was put back, each target has its own precision.
    plain = dataclasses.replace(other, engines=tuple(dataclasses.replace(e, kept=()) for e in other.engines))
    assert make_spec(plain, 0, healed.shapes, backend, target="").precision == "FP16"


def test_a_cancellation_in_bfloat16_is_healed_with_as_little_as_can_be(
    cancelling: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    need("BF16")
    plain = convert(cancelling, precision_mode="BF16")
    [engine] = plain.build(lambda: SAMPLES)
    assert engine.accuracy is not None
    assert engine.accuracy.max_rel > 0.1  # nothing lost, and no budget: a warning
    converter = convert(cancelling, precision_mode="BF16", max_error=0.05)
    [healed] = converter.build(lambda: SAMPLES)
    assert healed.accuracy is not None
    assert healed.precision == "BF16"
    assert healed.accuracy.max_rel <= 0.05
    search = healed.accuracy.search
    assert search is not None
    assert search.is_minimal
    assert len(healed.accuracy.put_back) < search.parts
    assert search.rebuilds <= converter.options.max_rebuilds
    assert {"first", "second"} <= set(healed.accuracy.put_back)
    check_minimal(converter, healed, 0.05)
    converter.save(tmp_path / "saved")
    with beforehand.load(tmp_path / "saved") as alone:  # the precision of single nodes is in the engine's file
        found = alone(x=SAMPLES[0])["y"]
    expected = (
        tf.saved_model.load(str(cancelling)).signatures["serving_default"](x=tf.constant(SAMPLES[0]))["y"].numpy()
    )
    assert np.abs(found - expected).max() <= 0.05 * np.abs(expected).max()


def test_what_no_rebuild_may_heal_stays_native_or_is_an_error(cancelling: pathlib.Path, tmp_path: pathlib.Path) -> None:
    need("BF16")
    converter = convert(cancelling, precision_mode="BF16", max_error=0.05, max_rebuilds=0)
    assert converter.build(lambda: SAMPLES) == ()
    assert "left in TensorFlow" in converter.summary().accuracy_note
    converter.save(tmp_path / "saved")
    [left] = read_manifest(find_manifest(tmp_path / "saved")).left_native
    assert left.shapes == ShapeSet(("x",), ((8, WIDTH),))
    assert "of the largest magnitude of an output" in left.reason
    strict = convert(cancelling, precision_mode="BF16", max_error=1e-9, max_rebuilds=3, on_inaccurate="error")
    with pytest.raises(AccuracyError, match="BH404"):
        strict.build(lambda: SAMPLES)
    assert strict.engines == ()


def measure_agreement(source: pathlib.Path) -> Any:
    """A metric: minus the mean error against the model that is given first, which is TensorFlow's."""
    expected: list[Any] = []

    def metric(model: Any) -> float:
        found = [model(x=sample)["y"] for sample in SAMPLES]
        if not expected:
            expected.extend(found)
        return -float(np.mean([np.abs(a - b).mean() for a, b in zip(found, expected, strict=True)]))

    return metric


def test_a_metric_that_drops_too_far_is_healed(cancelling: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    need("BF16")
    converter = convert(cancelling, precision_mode="BF16")
    with caplog.at_level(logging.INFO, "beforehand"):
        [engine] = converter.build(lambda: SAMPLES, metric=measure_agreement(cancelling), max_drop=0.005)
    assert converter.engines == (engine,)
    assert engine.accuracy is not None
    assert {"first", "second"} <= set(engine.accuracy.put_back)
    assert engine.accuracy.search is not None
    assert engine.accuracy.search.is_minimal
    assert "the metric is kept with" in caplog.text
    model = converter._converted[3].make_model(converter.signatures[0])  # type: ignore[index]
    assert converter._converted[3]._runtime.list_stats()["engines"][0]["engine_calls"] == 0  # type: ignore[index]
    answer = model({"x": SAMPLES[0]})["y"]
    native = converter._converted[3].make_model(converter.signatures[0], native=True)(SAMPLES[0])["y"]  # type: ignore[index]
    assert 0 < np.abs(answer - native).mean() <= 0.005
    assert converter.build(lambda: SAMPLES) == ()


def test_a_metric_within_its_budget_changes_nothing_and_one_that_nothing_helps_leaves_all_native(
    cancelling: pathlib.Path,
) -> None:
    need("BF16")
    converter = convert(cancelling, precision_mode="BF16")
    [engine] = converter.build(lambda: SAMPLES, metric=lambda model: model(SAMPLES[0])["y"].shape[0], max_drop=0)
    assert engine.kept == ()
    calls: list[int] = []

    def worse_each_time(model: Any) -> float:
        calls.append(1)
        return -float(len(calls))

    other = convert(cancelling, precision_mode="BF16")
    assert other.build(lambda: SAMPLES, metric=worse_each_time, max_drop=0) == ()
    assert other.engines == ()
    assert "the metric is -1 by TensorFlow and -2 converted, and may drop by 0" in other.summary().accuracy_note


@pytest.mark.parametrize(
    ("metric", "max_drop"), [(len, None), (None, 0.1), (len, -1), (3, 0.1), (len, float("nan")), (len, "0.1")]
)
def test_a_metric_without_its_budget_is_refused(metric: Any, max_drop: Any) -> None:
    with pytest.raises(OptionValueError, match=r"BH102 metric is .* and max_drop is"):
        make_metric_budget(metric, max_drop)
    assert make_metric_budget(None, None) is None


# Made-up engines: the error is what the parts in low precision add up to.


def make_engine(key: str, kept: tuple[str, ...] = ()) -> Engine:
    return Engine(
        "s",
        0,
        ShapeSet(("x",), ((1,),)),
        "fake",
        "1",
        "BF16",
        "cpu",
        ("x",),
        ("y",),
        key,
        f"{key}.fake",
        1,
        "",
        0.0,
        kept=kept,
    )


class Made:
    """Tools over made-up errors of parts; what was built and what was discarded."""

    def __init__(self, errors: dict[str, float]) -> None:
        self.errors = errors
        self.built: list[tuple[str, ...]] = []
        self.discarded: list[str] = []
        self.tools = Tools(
            self.rebuild, self.compare, lambda engine: {part: (f"{part}/op",) for part in errors}, self.discard
        )

    def rebuild(self, engine: Engine, nodes: tuple[str, ...] | None) -> Engine:
        nodes = tuple(f"{part}/op" for part in self.errors) if nodes is None else nodes
        self.built.append(nodes)
        return make_engine("+".join(nodes), nodes)

    def compare(self, engine: Engine) -> Accuracy:
        error = sum(error for part, error in self.errors.items() if f"{part}/op" not in engine.kept)
        return Accuracy((OutputAccuracy("y", error, error, error, 1.0),), 1)

    def discard(self, engine: Engine) -> None:
        self.discarded.append(engine.key)


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=30), st.floats(0.05, 0.95), st.integers(1, 40))
def test_no_more_engines_are_built_than_allowed_and_those_not_used_are_discarded(
    errors: list[float], share: float, most: int
) -> None:
    made = Made({f"p{place}": error for place, error in enumerate(errors)})
    budget = share * sum(errors)
    healed = Healer(made.tools, budget, most).heal(make_engine("planned"), "too far off")
    assert len(made.built) == len(set(made.built)) <= most
    if most >= 1 and (len(errors) > most // 2 or len(errors) == 1):
        assert healed is not None  # all of them were tried, if nothing else
    used = [] if healed is None else [healed.key]
    assert sorted([*made.discarded, *used]) == sorted("+".join(nodes) for nodes in made.built)
    if healed is not None:
        assert healed.accuracy is not None
        assert healed.accuracy.max_rel <= budget
        assert tuple(f"{part}/op" for part in healed.accuracy.put_back) == healed.kept


def test_the_most_sensitive_part_is_tried_first_and_what_helped_helps_the_next_engine() -> None:
    made = Made({f"p{place}": 0.9 if place == 7 else 0.01 for place in range(8)})
    healer = Healer(made.tools, 0.2, 20)
    first = healer.heal(make_engine("one"), "too far off")
    assert first is not None
    assert first.kept == ("p7/op",)
    assert len(made.built) == 10  # each alone, all, and the first of the order
    made.built.clear()
    second = healer.heal(make_engine("two"), "too far off")
    assert second is not None
    assert second.kept == ("p7/op",)
    assert made.built == [("p7/op",)]


def test_an_error_that_comes_from_everywhere_is_told_not_to_be_minimal() -> None:
    made = Made({f"p{place}": 0.1 for place in range(60)})
    healed = Healer(made.tools, 1.0, 20).heal(make_engine("planned"), "too far off")
    assert healed is not None
    assert healed.accuracy is not None
    assert healed.accuracy.search == PartSearch(60, 20, is_minimal=False)
    assert "(perhaps more than are needed: 20 rebuilds did not tell)" in healed.accuracy.describe()
    written = decode_engine(json.loads(json.dumps(encode_engine(healed))))
    assert written.accuracy == healed.accuracy
    old = encode_engine(healed)
    del old["accuracy"]["search"]
    assert decode_engine(old).accuracy == dataclasses.replace(healed.accuracy, search=None)


def test_an_engine_in_float32_has_nothing_to_be_put_back() -> None:
    made = Made({"p": 1.0})
    engine = dataclasses.replace(make_engine("one"), precision="FP32")
    assert Healer(made.tools, 0.1, 20).heal(engine, "too far off") is None
    assert made.built == []
