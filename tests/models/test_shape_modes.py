"""The modes of the drop-in, and profiles and buckets: what is accepted runs in engines, all else natively, all of it right."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import life_cycle
import numpy as np
import pytest

import beforehand
from beforehand import trt_convert as trt
from beforehand.errors import BuildError, NoSamplesError, OptionValueError, SampleError

Make = Callable[[str], life_cycle.MadeModel]
KEY = "serving_default"


def describe_engines(converted: dict[str, Any]) -> list[str]:
    """Of each engine, the last part of its segment's name and its range."""
    return [
        f"{engine['segment'][-3:]} "
        + ", ".join(
            "x".join(
                str(a) if a == b else f"{a}..{b}"
                for a, b in zip(low, (engine["max_shapes"] or engine["shapes"])[name], strict=True)
            )
            for name, low in engine["shapes"].items()
        )
        for engine in converted["engines"]
    ]


def check_served(
    made: life_cycle.MadeModel,
    folder: pathlib.Path,
    served: Sequence[Any],
    outside: Any,
    *,
    segments: int = 1,
) -> dict[str, Any]:
    """A fresh process: engines answer what is `served`, TensorFlow what is not, and both are right."""
    checked = life_cycle.check_model(made, folder, {KEY: served}, {KEY: outside})
    result, stats = checked["signatures"][KEY], checked["built"]["stats"]
    assert max(result["misfits"].values()) <= 0
    assert min(result["spreads"].values()) > 1e-3
    assert stats["signatures"][KEY] == {"engine_calls": 2 * len(served) * segments, "native_calls": 0}
    assert len(checked["built"]["spy"]) == 2 * len(served) * segments
    assert checked["built"]["warnings"] == []
    life_cycle.check_unseen_is_native(checked, segments=segments)
    return checked


def test_static_mode_serves_every_batch_up_to_the_one_built_for(made_model: Make, tmp_path: pathlib.Path) -> None:
    made = made_model("mlp")
    built, served = (
        [{"deep": [n, 10], "wide": [n, 6]} for n in batches] for batches in ((2, 1, 5, 4), (1, 2, 3, 4, 5))
    )

    converted = life_cycle.convert_model(made, tmp_path / "converted", {KEY: built})
    checked = check_served(made, tmp_path / "converted", served, {"deep": [6, 10], "wide": [6, 6]})

    # In the order of the segment's own inputs. The batches 1 and 4 are served by the engines of 2 and 5.
    assert sorted(describe_engines(converted)) in (
        [["000 1..2x10, 1..2x6", "000 1..5x10, 1..5x6"], ["000 1..2x6, 1..2x10", "000 1..5x6, 1..5x10"]]
    )
    assert [engine["one_batch"] for engine in read_engines(tmp_path / "converted")] == [True, True]
    assert [s["engine_calls"] for s in checked["built"]["stats"]["engines"]] == [4, 6]


def read_engines(folder: pathlib.Path) -> list[dict[str, Any]]:
    import json

    engines: list[dict[str, Any]] = json.loads((folder / "assets/beforehand.json").read_text())["engines"]
    return engines


@pytest.mark.parametrize(
    ("strategy", "engines", "served", "outside"),
    [
        ("Range", ["1..4x32..64x32..48x3"], [(1, 32, 48), (4, 64, 32), (3, 40, 41)], (5, 32, 32)),
        ("Optimal", ["1x32x32x3", "4x64x48x3"], [(1, 32, 32), (4, 64, 48)], (2, 32, 32)),
        (
            "range+optimal",
            ["1x32x32x3", "4x64x48x3", "1..4x32..64x32..48x3"],
            [(1, 32, 32), (4, 64, 48), (2, 50, 33)],
            (4, 64, 49),
        ),
        (
            "ImplicitBatchModeCompatible",
            ["1x32x32x3", "1..4x64x48x3"],
            [(1, 32, 32), (4, 64, 48), (3, 64, 48)],
            (2, 32, 32),
        ),
    ],
)
def test_dynamic_mode_serves_what_tf_trt_s_strategy_accepts(
    made_model: Make, tmp_path: pathlib.Path, strategy: str, engines: list[str], served: Any, outside: Any
) -> None:
    made = made_model("any_size")
    built = [{"inp1": [*shape, 3]} for shape in ((1, 32, 32), (4, 64, 48), (1, 32, 32))]

    options = {"use_dynamic_shape": True, "dynamic_shape_profile_strategy": strategy}
    converted = life_cycle.convert_model(made, tmp_path / "converted", {KEY: built}, **options)
    check_served(made, tmp_path / "converted", [{"inp1": [*shape, 3]} for shape in served], {"inp1": [*outside, 3]})

    assert [text.removeprefix("000 ") for text in describe_engines(converted)] == engines


def test_a_strategy_is_applied_to_the_shapes_that_come_to_each_segment(
    made_model: Make, tmp_path: pathlib.Path
) -> None:
    """The second segment lies behind a native node, and has twice the rows that the model was given."""
    made = made_model("mixed")
    built = [{"x": [batch, 6]} for batch in (2, 5)]

    converted = life_cycle.convert_model(made, tmp_path / "converted", {KEY: built}, use_dynamic_shape=True)
    check_served(made, tmp_path / "converted", [{"x": [n, 6]} for n in (5, 2, 3, 4)], {"x": [1, 6]}, segments=2)

    assert sorted(describe_engines(converted)) == ["000 2..5x6", "001 4..10x8"]


# In one process.


def make_fixed_batch(folder: pathlib.Path) -> Any:
    """A model that takes the batch 4 only, although its signature says that it takes any."""
    import tensorflow as tf

    module = tf.Module()
    module.kernel = tf.Variable(np.random.default_rng(5).normal(size=(6, 3)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32, name="x")])
    def call(x: Any) -> dict[str, Any]:
        return {"y": tf.nn.softmax(tf.reshape(tf.nn.relu(tf.matmul(x, module.kernel)), [4, 3]))}

    tf.saved_model.save(module, str(folder), signatures={KEY: call})
    return call


@pytest.mark.parametrize(
    ("options", "level"),
    [
        ({}, logging.INFO),
        ({"use_dynamic_shape": True, "dynamic_shape_profile_strategy": "ImplicitBatchModeCompatible"}, logging.INFO),
    ],
)
def test_a_batch_that_is_a_constant_inside_the_model_is_built_as_it_is(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, options: Any, level: int
) -> None:
    import tensorflow as tf

    original = make_fixed_batch(tmp_path / "source")
    converter = trt.TrtGraphConverterV2(str(tmp_path / "source"), **options)
    function = converter.convert()
    with caplog.at_level(logging.INFO, "beforehand"):
        converter.build(lambda: iter([[np.ones((4, 6), np.float32)]] * 2))

    [told] = [record for record in caplog.records if "has no engine for the range x=1..4x6" in record.getMessage()]
    assert told.levelno == level
    assert "OpenVINO finds no shapes for x=1x6" in told.getMessage()
    assert [record for record in caplog.records if record.levelno > level] == []
    assert [engine.shapes.describe() for engine in converter._converter.engines] == ["x=4x6"]
    x = tf.constant(np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32))
    np.testing.assert_allclose(function(x=x)["y"], original(x=x)["y"], rtol=1e-3, atol=1e-4)
    assert beforehand.stats(function)["signatures"][KEY] == {"engine_calls": 1, "native_calls": 0}

    converter.build(lambda: iter([[np.ones((4, 6), np.float32)]]))
    assert len(converter._converter.engines) == 1


def make_any(folder: pathlib.Path) -> Any:
    """Two inputs; the first has two dimensions of any size."""
    import tensorflow as tf

    rng = np.random.default_rng(5)
    module = tf.Module()
    module.kernel = tf.Variable(rng.normal(0, 0.5, (3, 8)).astype(np.float32))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 3], tf.float32, name="x"),
            tf.TensorSpec([None, 8], tf.float32, name="rows"),
        ]
    )
    def call(x: Any, rows: Any) -> dict[str, Any]:
        hidden = tf.nn.relu(tf.einsum("abc,cd->abd", x, module.kernel))
        return {"y": tf.tanh(tf.matmul(tf.reduce_mean(hidden, axis=1), rows, transpose_b=True) * 0.1)}

    tf.saved_model.save(module, str(folder), signatures={KEY: call})
    return tf.saved_model.load(str(folder)).signatures[KEY]


def check_calls(function: Any, original: Any, requests: Sequence[Any]) -> list[bool]:
    """Whether an engine answered each request; every answer is TensorFlow's."""
    import tensorflow as tf

    rng = np.random.default_rng(3)
    answered = []
    for shape, rows in requests:
        inputs = {
            "x": tf.constant(rng.normal(size=(*shape, 3)).astype(np.float32)),
            "rows": tf.constant(rng.normal(size=(rows, 8)).astype(np.float32)),
        }
        before = beforehand.stats(function)["signatures"][KEY]["engine_calls"]
        np.testing.assert_allclose(function(**inputs)["y"], original(**inputs)["y"], rtol=1e-3, atol=1e-4)
        answered.append(beforehand.stats(function)["signatures"][KEY]["engine_calls"] > before)
    return answered


def test_profiles_by_name_serve_every_shape_between_their_ends(tmp_path: pathlib.Path) -> None:
    original = make_any(tmp_path / "source")
    converter = beforehand.Converter(tmp_path / "source")
    function = converter.convert()[KEY]
    several = [
        {"x": ((1, 8, 3), (2, 16, 3), (4, 16, 3)), "rows": {"min": (1, 8), "max": (5, 8)}},
        {"x": ((7, 7, 3),) * 3, "rows": ((2, 8),) * 3},
    ]
    ranged, exact = converter.build(profiles=several)

    assert (ranged.shapes.describe(), exact.shapes.describe()) in (
        ("x=1..4x8..16x3, rows=1..5x8", "x=7x7x3, rows=2x8"),
        ("rows=1..5x8, x=1..4x8..16x3", "rows=2x8, x=7x7x3"),
    )
    assert dict(zip(ranged.shapes.names, ranged.shapes.opt_shapes, strict=True)) == {"x": (2, 16, 3), "rows": (5, 8)}
    requests = [
        ((1, 8), 1),
        ((3, 11), 4),
        ((4, 16), 5),
        ((7, 7), 2),
        ((5, 8), 1),
        ((1, 7), 1),
        ((1, 8), 6),
        ((7, 7), 3),
    ]
    assert check_calls(function, original, requests) == [True] * 4 + [False] * 4
    assert converter.build(profiles=several[0]) == ()


def test_ranges_in_any_dimension_may_be_named_as_shapes(tmp_path: pathlib.Path) -> None:
    original = make_any(tmp_path / "source")
    converter = beforehand.Converter(tmp_path / "source")
    function = converter.convert()[KEY]
    converter.build(shapes={"x": (1, (8, 64), 3), "rows": ((1, 4), 8)})
    requests = [((1, 8), 4), ((1, 33), 1), ((1, 64), 2), ((2, 8), 1), ((1, 65), 1)]
    assert check_calls(function, original, requests) == [True] * 3 + [False] * 2


def test_buckets_cover_the_lengths_of_samples(tmp_path: pathlib.Path) -> None:
    original = make_any(tmp_path / "source")
    converter = beforehand.Converter(tmp_path / "source", use_dynamic_shape=True)  # whose rule they replace
    function = converter.convert()[KEY]
    lengths = (8, 12, 16, 40, 64, 70, 200)
    samples = [{"x": np.ones((1, n, 3), np.float32), "rows": np.ones((2, 8), np.float32)} for n in lengths]
    built = converter.build(lambda: iter(samples), buckets={"max_spread": 2})

    found = [dict(zip(e.shapes.names, e.shapes.describe().split(", "), strict=True))["x"] for e in built]
    assert found == ["x=1x8..16x3", "x=1x40..70x3", "x=1x200x3"]
    requests = [((1, n), 2) for n in (*lengths, 13, 20, 199)]
    assert check_calls(function, original, requests) == [True] * 8 + [False] * 2
    assert converter.build(lambda: iter(samples[::-1]), buckets={"max_spread": 2}) == ()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"profiles": [], "shapes": None}, NoSamplesError, "BH121 profiles has no profile"),
        ({"profiles": [{"x": ((1, 8, 3),) * 3}]}, SampleError, "it has no 'rows'"),
        ({"profiles": [{"x": ((1, 8, 3),) * 3, "rows": ((1, 8),) * 3, "y": 1}]}, SampleError, "there is no input 'y'"),
        ({"profiles": [7]}, SampleError, "profile 1 is 7, no mapping"),
        (
            {"profiles": [{"x": ((1, 8, 3), (1, 9, 3), (1, 7, 3)), "rows": ((1, 8),) * 3}]},
            SampleError,
            "profile 1 does not fit the input `x`: min (1, 8, 3), opt (1, 9, 3), max (1, 7, 3). dimension 1 is 8, 9, 7, which",
        ),
        (
            {"profiles": [{"x": ((1, 8, 2), (1, 8, 3), (1, 8, 3)), "rows": ((1, 8),) * 3}]},
            SampleError,
            "dimension 2 is 3 in the model, and 2 to 3 in the profile",
        ),
        ({"profiles": {"x": ((0, 8, 3),) * 3, "rows": ((1, 8),) * 3}}, SampleError, "dimension 0 begins at 0"),
        ({"profiles": {"x": ((1, 8),) * 3, "rows": ((1, 8),) * 3}}, SampleError, "has 3 dimensions, the profile 2"),
        (
            {"profiles": {"x": ((1, 8, 3), (1, 8), (1, 8, 3)), "rows": ((1, 8),) * 3}},
            SampleError,
            "ranks are 3, 2 and 3",
        ),
        ({"profiles": {"x": ((1, 8, 3),) * 2, "rows": ((1, 8),) * 3}}, SampleError, "that is not min, opt and max"),
        ({"profiles": {"x": {"min": (1, 8, 3)}, "rows": ((1, 8),) * 3}}, SampleError, "its keys are 'min'"),
        ({"profiles": {}, "buckets": {"max_spread": 2}}, OptionValueError, "build() was given profiles and buckets"),
        ({"profiles": {}, "shapes": {}}, OptionValueError, "build() was given shapes and profiles"),
        (
            {"shapes": {}, "buckets": {"max_spread": 2}, "batch_range": True},
            OptionValueError,
            "buckets and batch_range",
        ),
        (
            {"shapes": {"x": (1, 8, 3), "rows": (1, 8)}, "buckets": {"spread": 2}},
            OptionValueError,
            "it names one limit",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_built(
    any_converter: beforehand.Converter, arguments: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        any_converter.build(**arguments)
    assert words in str(caught.value)
    assert any_converter.engines == ()


@pytest.fixture(scope="module")
def any_converter(tmp_path_factory: pytest.TempPathFactory) -> beforehand.Converter:
    folder = tmp_path_factory.mktemp("any") / "source"
    make_any(folder)
    converter = beforehand.Converter(folder)
    converter.convert()
    return converter


def test_a_range_that_the_user_named_and_the_model_cannot_have_is_an_error(tmp_path: pathlib.Path) -> None:
    make_fixed_batch(tmp_path / "source")
    converter = beforehand.Converter(tmp_path / "source", serve_smaller_batches=True)
    converter.convert()
    with pytest.raises(BuildError, match=r"cannot have the range x=1\.\.4x6") as caught:
        converter.build(profiles={"x": ((1, 6), (4, 6), (4, 6))})
    assert caught.value.cause == "range"
    [engine] = converter.build(shapes={"x": (4, 6)})
    assert engine.shapes.describe() == "x=4x6"


def test_a_strategy_whose_range_the_model_cannot_have_warns_and_builds_the_shapes_seen(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the batch 4 there is an engine; that of 8, which this model has not, is an error as it was before."""
    make_fixed_batch(tmp_path / "source")
    converter = trt.TrtGraphConverterV2(str(tmp_path / "source"), use_dynamic_shape=True)
    converter.convert()
    samples = [np.ones((batch, 6), np.float32) for batch in (4, 8)]
    with pytest.raises(BuildError, match="for x=8x6 was not built"):
        converter.build(lambda: iter(samples))
    [told] = [record for record in caplog.records if "has no engine for the range x=4..8x6" in record.getMessage()]
    assert told.levelno == logging.WARNING
    assert [engine.shapes.describe() for engine in converter._converter.engines] == ["x=4x6"]
