"""One engine for a range of batch sizes: the same answers as TensorFlow's at every batch in it, and native outside."""

from __future__ import annotations

import json
import logging
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import life_cycle
import numpy as np
import pytest

import beforehand
from beforehand.errors import BuildError

Make = Callable[[str], life_cycle.MadeModel]
KEY = "serving_default"


def check_life_cycle(
    made: life_cycle.MadeModel, tmp_path: pathlib.Path, dims: dict[str, int], *, segments: int = 1
) -> list[dict[str, Any]]:
    """Build for batches 2 to 6, call all of them in the third process, twice each, and one outside."""
    ranged = {KEY: [{name: [[2, 6], dim] for name, dim in dims.items()}]}
    called = {KEY: [{name: [batch, dim] for name, dim in dims.items()} for batch in (6, 2, 3, 5, 4)]}
    outside = {KEY: {name: [7, dim] for name, dim in dims.items()}}

    converted = life_cycle.convert_model(made, tmp_path / "converted", ranged, api="own", form="shapes")
    checked = life_cycle.check_model(made, tmp_path / "converted", called, outside)

    result, stats = checked["signatures"][KEY], checked["built"]["stats"]
    assert result["calls"] == 10
    assert max(result["misfits"].values()) <= 0
    assert min(result["spreads"].values()) > 1e-3
    assert stats["signatures"][KEY] == {"engine_calls": 10 * segments, "native_calls": 0}
    assert [(engine["engine_calls"], engine["loads"]) for engine in stats["engines"]] == [(10, 1)] * segments
    assert len(checked["built"]["spy"]) == 10 * segments
    assert checked["built"]["warnings"] == []
    life_cycle.check_unseen_is_native(checked, segments=segments)
    engines: list[dict[str, Any]] = converted["engines"]
    return engines


def test_two_inputs_share_the_range_of_the_batch(made_model: Make, tmp_path: pathlib.Path) -> None:
    [engine] = check_life_cycle(made_model("mlp"), tmp_path, {"deep": 10, "wide": 6})
    assert engine["shapes"] == {"deep": [2, 10], "wide": [2, 6]}
    assert engine["max_shapes"] == {"deep": [6, 10], "wide": [6, 6]}


def test_the_range_of_a_segment_behind_a_native_node_is_measured_at_both_ends(
    made_model: Make, tmp_path: pathlib.Path
) -> None:
    """The second segment has twice the rows that the model was given."""
    first, second = check_life_cycle(made_model("mixed"), tmp_path, {"x": 6}, segments=2)
    assert (first["shapes"], first["max_shapes"]) == ({"x": [2, 6]}, {"x": [6, 6]})
    assert [*second["shapes"].values(), *second["max_shapes"].values()] == [[4, 8], [12, 8]]


def make_batch_arithmetic(folder: pathlib.Path) -> Any:
    """A model that computes with its batch size in all the ways that a range could get wrong."""
    import tensorflow as tf

    rng = np.random.default_rng(5)
    module = tf.Module()
    module.kernel = tf.Variable(rng.normal(0, 0.5, (12, 8)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 3, 4], tf.float32, name="x")])
    def call(x: Any) -> dict[str, Any]:
        batch = tf.shape(x)[0]
        hidden = tf.nn.relu(tf.matmul(tf.reshape(x, [batch, 12]), module.kernel))
        centred = hidden - tf.reduce_mean(hidden, axis=0, keepdims=True)  # across the batch
        split = tf.transpose(tf.reshape(centred, [-1, 2, 4]), [1, 0, 2])  # the batch is no longer first
        numbered = split * tf.cast(tf.reshape(tf.range(batch), [1, batch, 1]) + 1, tf.float32)
        pairs = tf.matmul(numbered, numbered, transpose_b=True)  # (2, batch, batch)
        tiled = tf.tile(tf.reduce_sum(hidden, axis=0, keepdims=True), [batch, 1]) / tf.cast(batch, tf.float32)
        joined = tf.concat([tf.reshape(tf.transpose(numbered, [1, 0, 2]), [batch, -1]), tiled], axis=1)
        return {"pairs": tf.nn.softmax(0.1 * pairs), "rows": tf.tanh(0.1 * joined), "last": tf.tanh(hidden[-1])}

    tf.saved_model.save(module, str(folder), signatures={KEY: call})
    return tf.saved_model.load(str(folder)).signatures[KEY]


def test_a_model_that_computes_with_its_batch_size_is_right_at_every_batch(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    original = make_batch_arithmetic(tmp_path / "source")
    converter = beforehand.Converter(tmp_path / "source")
    functions = converter.convert()
    assert len(converter.segments) == 1
    [engine] = converter.build(shapes={"x": ((1, 16), 3, 4)})
    assert engine.shapes.describe() == "x=1..16x3x4"
    rng = np.random.default_rng(1)
    batches = [*rng.permutation(np.arange(1, 17)), 16, 1, 16]
    for batch in batches:
        x = tf.constant(rng.normal(size=(batch, 3, 4)).astype(np.float32))
        want, have = original(x=x), functions[KEY](x=x)
        for name in want:
            assert have[name].shape == want[name].shape
            np.testing.assert_allclose(have[name], want[name], rtol=1e-3, atol=1e-4)
    stats = beforehand.stats(functions[KEY])
    assert stats["signatures"][KEY] == {"engine_calls": len(batches), "native_calls": 0}


def test_samples_give_a_range_when_asked_and_an_engine_each_when_not(tmp_path: pathlib.Path) -> None:
    make_batch_arithmetic(tmp_path / "source")
    converter = beforehand.Converter(tmp_path / "source")
    converter.convert()
    samples = [np.ones((batch, 3, 4), np.float32) for batch in (4, 2, 8)]
    [ranged] = converter.build(lambda: iter(samples), batch_range=True)
    assert ranged.shapes.describe() == "x=2..8x3x4"
    assert [engine.shapes.describe() for engine in converter.build(lambda: iter(samples))] == [
        "x=4x3x4", "x=2x3x4", "x=8x3x4",
    ]  # fmt: skip
    assert converter.build(samples, batch_range=True) == ()  # it is there already


def test_a_batch_that_is_a_constant_inside_the_model_is_refused_as_a_range(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.kernel = tf.Variable(np.random.default_rng(5).normal(size=(6, 3)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32, name="x")])
    def call(x: Any) -> dict[str, Any]:
        return {"y": tf.nn.softmax(tf.reshape(tf.nn.relu(tf.matmul(x, module.kernel)), [4, 3]))}

    tf.saved_model.save(module, str(tmp_path / "source"), signatures={KEY: call})
    converter = beforehand.Converter(tmp_path / "source")
    functions = converter.convert()
    with pytest.raises(
        BuildError, match=r"BH401 .*cannot have the range x=1\.\.8x6\. OpenVINO finds no shapes for x=1x6"
    ):
        converter.build(shapes={"x": ((1, 8), 6)})
    converter.build(shapes={"x": (4, 6)})
    x = tf.constant(np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32))
    np.testing.assert_allclose(functions[KEY](x=x)["y"], call(x)["y"], rtol=1e-3, atol=1e-4)
    assert beforehand.stats(functions[KEY])["signatures"][KEY] == {"engine_calls": 1, "native_calls": 0}


def test_several_large_engines_of_one_segment_are_offered_a_range(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.kernel = tf.Variable(np.random.default_rng(5).normal(0, 0.02, (3600, 3600)).astype(np.float32))  # 52 MB

    @tf.function(input_signature=[tf.TensorSpec([None, 3600], tf.float32, name="x")])
    def call(x: Any) -> dict[str, Any]:
        return {"y": tf.tanh(tf.nn.relu(tf.matmul(x, module.kernel)) + 1.0)}

    tf.saved_model.save(module, str(tmp_path / "source"), signatures={KEY: call})
    converter = beforehand.Converter(tmp_path / "source")
    converter.convert()
    with caplog.at_level(logging.INFO, "beforehand"):
        converter.build(shapes=[{"x": (1, 3600)}, {"x": (2, 3600)}])
    offers = [record.getMessage() for record in caplog.records if "batch_range" in record.getMessage()]
    [offer] = offers
    assert offer == (
        "2 engines of TRTEngineOp_000_000 that differ in the batch alone cost 104 MB on disk, as each holds all weights; "
        "one for x=1..2x3600 would cost 52 MB: build(..., batch_range=True), or --batch-range. "
        "A call then takes 0 to 22 % longer (as measured on four models)"
    )

    ranged = beforehand.Converter(tmp_path / "source")
    ranged.convert()
    [engine] = ranged.build(shapes={"x": ((1, 2), 3600)})
    sizes = [item.bytes for item in converter.engines]
    assert engine.bytes < 1.01 * min(sizes)  # as promised
    assert abs(engine.bytes / ranged.segments[0].weight_bytes - 1) < 0.01


def test_the_command_line_takes_a_range_and_inspect_shows_it(made_model: Make, tmp_path: pathlib.Path) -> None:
    source, out = made_model("mlp").folder, tmp_path / "out"
    for arguments in (
        ["--shapes=deep=1..8x10,wide=1..8x6"],
        ["--shapes=deep=8x10,wide=8x6", "--shapes=deep=1x10,wide=1x6"],
    ):
        more = [] if ".." in arguments[0] else ["--batch-range"]
        run_command("convert", source, "-o", out, *arguments, *more)
        found = json.loads(run_command("inspect", out, "--json"))
        [engine] = found["engines"]
        assert (engine["shapes"]["deep"], engine["max_shapes"]["deep"]) == ([1, 10], [8, 10])
        assert found["segments"][0]["engine_bytes"] == engine["bytes"]
    told = run_command("inspect", out)
    assert "=1..8x10" in told
    disk = found["disk"]
    assert sum(size for name, size in disk.items() if name != "total") == disk["total"]
    assert disk["total"] == sum(file.stat().st_size for file in out.rglob("*") if file.is_file())


def test_the_command_line_makes_buckets_and_ranges_in_any_dimension(made_model: Make, tmp_path: pathlib.Path) -> None:
    source, out = made_model("any_size").folder, tmp_path / "out"
    shapes = [f"--shapes=inp1=1x{size}x32x3" for size in (32, 64, 40, 96)]
    run_command("convert", source, "-o", out, *shapes, "--buckets=max_spread=2")
    found = [
        (e["shapes"]["inp1"], e["max_shapes"]) for e in json.loads(run_command("inspect", out, "--json"))["engines"]
    ]
    assert found == [([1, 32, 32, 3], {"inp1": [1, 64, 32, 3]}), ([1, 96, 32, 3], None)]
    run_command("convert", source, "-o", out, "--shapes=inp1=1..2x32..64x32x3")
    [engine] = json.loads(run_command("inspect", out, "--json"))["engines"]
    assert (engine["shapes"]["inp1"], engine["max_shapes"]["inp1"]) == ([1, 32, 32, 3], [2, 64, 32, 3])


def run_command(*argv: object) -> str:
    command = [sys.executable, "-m", "beforehand", *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
