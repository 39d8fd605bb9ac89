"""`beforehand verify`, in fresh processes: what is right is told so, and of what is wrong the segment in which it begins."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import life_cycle
import numpy as np
import pytest
from make_targets import copy_edited

import beforehand
from beforehand.store import layout

BATCHES = (2, 5)


def make_source(folder: pathlib.Path, changed: str = "") -> pathlib.Path:
    """x (?, 16) -> y (?, 8), three segments with a native op between each two; the weights named are others."""
    import tensorflow as tf

    rng = np.random.default_rng(1)
    weights = {name: rng.normal(0, 0.3, shape) for name, shape in (("a", (16, 32)), ("b", (32, 32)), ("c", (32, 8)))}
    module = tf.Module()
    for name, value in weights.items():
        setattr(module, name, tf.Variable((value * (1.5 if name in changed else 1)).astype(np.float32)))

    @tf.function(input_signature=[tf.TensorSpec([None, 16], tf.float32, name="x")])
    def call(x: Any) -> dict[str, Any]:
        y = tf.nn.relu(tf.matmul(x, module.a)) + 0.1
        y = tf.nn.relu(tf.matmul(tf.math.cumulative_logsumexp(y, axis=1), module.b)) + 0.1
        return {"y": tf.tanh(tf.matmul(tf.math.cumulative_logsumexp(y, axis=1), module.c) * 0.01) + 0.1}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": call})
    return folder


def convert(source: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    converter = beforehand.Converter(source, progress="off")
    converter.convert()
    converter.build(shapes=[{"x": (batch, 16)} for batch in BATCHES])
    converter.save(folder)
    assert len(converter.segments) == 3
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_source(tmp_path_factory.mktemp("verify") / "source")


@pytest.fixture(scope="module")
def converted(source: pathlib.Path) -> pathlib.Path:
    return convert(source, source.with_name("converted"))


@pytest.fixture(scope="module")
def other(source: pathlib.Path) -> pathlib.Path:
    """The same with other weights in its second and third segment."""
    return convert(make_source(source.with_name("other_source"), "bc"), source.with_name("other"))


def run_verify(*arguments: Any, **environment: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON (empty if there is none) and what was told on stderr."""
    process = life_cycle.run_python("-m", "beforehand", "verify", *arguments, "--json", **environment)
    return process.returncode, json.loads(process.stdout or "{}"), process.stderr


def put_engines(
    folder: pathlib.Path, other: pathlib.Path, segments: tuple[int, ...]
) -> Callable[[dict[str, Any]], None]:
    """An edit of the manifest in `folder` that makes the engines of these segments those of `other`, and copies their files."""
    engines = json.loads(layout.find_manifest(other).read_text())["engines"]

    def edit(data: dict[str, Any]) -> None:
        for place, (old, new) in enumerate(zip(data["engines"], engines, strict=True)):
            assert (old["segment_index"], old["shapes"]) == (new["segment_index"], new["shapes"])
            if old["segment_index"] in segments:
                shutil.copyfile(other / layout.ASSETS / new["file"], folder / layout.ASSETS / new["file"])
                data["engines"][place] = new

    return edit


def test_what_is_right_is_verified_in_float64(source: pathlib.Path, converted: pathlib.Path) -> None:
    code, found, _ = run_verify(converted, "--against", source)
    assert code == 0
    assert (found["version"], found["reference"], found["first_drift"]) == (1, "float64", None)
    assert found["ok"] is found["same_graph"] is True
    assert [row["shapes"] for row in found["rows"]] == [{"x": [batch, 16]} for batch in BATCHES]
    names = [f"TRTEngineOp_000_00{index}" for index in range(3)]
    for row in found["rows"]:
        # Rounding in float32 is there, so the reference is no float32.
        assert row["engines"] == names
        assert 1e-9 < row["max_rel"] < 1e-5 < row["tolerance"]
        assert row["ok"]
    # In the order in which they run.
    assert [row["segment"] for row in found["segments"]] == 2 * names
    assert not found["not_verified"]


def test_without_a_source_the_graph_within_is_the_reference(converted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(converted, copy)
    code, found, _ = run_verify(copy, "--keep")
    assert code == 0
    assert found["same_graph"] is None
    assert all(1e-9 < row["max_rel"] < 1e-5 for row in found["rows"])
    assert json.loads((copy / layout.ASSETS / layout.VERIFICATION).read_text()) == found


@pytest.mark.parametrize(("segments", "first"), [((1,), 1), ((2, 1), 1), ((2,), 2)])
def test_of_engines_that_are_of_other_weights_the_first_is_named(
    source: pathlib.Path,
    converted: pathlib.Path,
    other: pathlib.Path,
    tmp_path: pathlib.Path,
    segments: tuple[int, ...],
    first: int,
) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(converted, wrong)
    manifest = layout.find_manifest(wrong)
    data = json.loads(manifest.read_text())
    put_engines(wrong, other, segments)(data)
    manifest.write_text(json.dumps(data))
    code, found, _ = run_verify(wrong, "--against", source)
    assert code == 1
    assert not any(row["ok"] for row in found["rows"])
    drift = found["first_drift"]
    assert drift["segment"] == f"TRTEngineOp_000_00{first}"
    assert drift["tensor"] == f"TRTEngineOp_000_00{first}_native_segment:0"
    assert drift["error"] > 0.01
    # Those after it are told by themselves: given what is right, they are right or wrong on their own.
    wrong_ones = {row["segment"] for row in found["segments"] if not row["ok"]}
    assert wrong_ones == {f"TRTEngineOp_000_00{index}" for index in segments}
    assert found["same_graph"] is True


def test_a_conversion_of_another_version_of_the_source_is_told_as_that(
    converted: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    code, found, _ = run_verify(converted, "--against", make_source(tmp_path / "newer", "c"))
    assert code == 1
    assert found["first_drift"] is None
    assert found["same_graph"] is False
    assert "converted from another version of the source" in found["notes"][0]


def test_an_engine_that_does_not_answer_is_an_error_and_not_called_verified(
    converted: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(converted, copy)
    engine = json.loads(layout.find_manifest(copy).read_text())["engines"][0]
    file = copy / layout.ASSETS / engine["file"]
    file.write_bytes(file.read_bytes()[:-1])
    code, found, _ = run_verify(copy)
    assert code == 1
    [row] = [row for row in found["rows"] if row["ok"] is False]
    assert row["shapes"] == dict(engine["shapes"])
    assert row["told"] == f"the engines of {engine['segment']} did not answer, though they serve these shapes"
    assert [item["engine"] for item in found["not_verified"]] == [engine["file"]]
    assert found["first_drift"] is None


def test_shapes_that_tensorflow_answers_are_not_verified(converted: pathlib.Path) -> None:
    code, found, _ = run_verify(converted, "--shapes", "x=3x16")
    assert code == 1
    [row] = found["rows"]
    assert (row["ok"], row["engines"], len(row["native"])) == (None, [], 3)
    assert row["told"] == "answered by TensorFlow: no engine serves these shapes"
    assert "no engine ran: nothing was verified" in found["notes"]
    code, found, _ = run_verify(converted, BEFOREHAND_DISABLE="1")
    assert code != 0


def test_samples_of_a_script_are_used_and_a_tolerance_of_ones_own(
    converted: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    script = tmp_path / "draw.py"
    script.write_text(
        "import numpy as np\n\n\ndef samples():\n    for seed in range(3):\n"
        "        yield {'x': np.random.default_rng(seed).normal(size=(5, 16)).astype('float32')}\n"
    )
    code, found, _ = run_verify(converted, "--samples", script, "--max-samples", "3")
    [row] = found["rows"]
    assert (code, row["samples"], row["is_drawn"]) == (0, 3, False)
    code, found, _ = run_verify(converted, "--samples", script, "--tolerance", "1e-12")
    assert code == 1
    assert found["first_drift"]["segment"] == "TRTEngineOp_000_000"


def test_what_was_never_converted_is_an_error_of_the_user(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    code, found, told = run_verify(source)
    assert (code, found) == (2, {})
    assert "BH502" in told
    assert "Traceback" not in told
    assert run_verify(tmp_path / "nothing")[0] == 2


def test_engines_for_other_machines_are_named_with_the_reason(converted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def make_foreign(data: dict[str, Any]) -> None:
        data["engines"][0]["target"] = "cpu-x86_64+other"

    code, found, _ = run_verify(copy_edited(converted, tmp_path / "copy", make_foreign))
    assert code == 0
    [item] = found["not_verified"]
    assert "cpu-x86_64+other" in item["why"]
    assert any(row["native"] for row in found["rows"])


@pytest.mark.parametrize("model", ["cond", "string_lookup", "while"])
def test_models_with_loops_branches_and_tables_are_verified(
    model: str, made_model: Callable[[str], life_cycle.MadeModel], tmp_path: pathlib.Path
) -> None:
    from draw_inputs import draw_inputs
    from expect_structures import STRUCTURES

    made = made_model(model)
    [(key, shapes)] = STRUCTURES[model].built.items()
    drawn = [draw_inputs(made.inputs, item, np.random.default_rng(100), made.folder.parent) for item in shapes]
    converter = beforehand.Converter(made.folder, progress="off", **STRUCTURES[model].options)
    converter.convert()
    converter.build(lambda: drawn, signature=key)
    converter.save(tmp_path / "out")
    found = beforehand.verify(tmp_path / "out", against=made.folder, samples=drawn, signatures=[key])
    assert found.ok
    assert found.reference == "float64"
    assert found.same_graph
    assert {row.segment for row in found.segments} == {engine.segment for engine in converter.engines}
