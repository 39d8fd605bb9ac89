"""`beforehand convert`, as a user runs it, on a tiny model; then `beforehand inspect` of what it wrote."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

MAKE_MODEL = """
import sys
import tensorflow as tf
module = tf.Module()
module.a, module.b = tf.Variable(tf.ones((4, 3))), tf.Variable(tf.ones((5, 3)))
@tf.function(input_signature=[tf.TensorSpec((None, 4), name="left"), tf.TensorSpec((None, 5), name="right")])
def serve(left, right):
    return {"y": tf.nn.relu(tf.matmul(left, module.a)) + tf.nn.relu(tf.matmul(right, module.b))}
@tf.function(input_signature=[tf.TensorSpec((None, 4), name="left")])
def score(left):
    return {"s": tf.nn.sigmoid(tf.matmul(left, module.a) * 2.0 + 1.0)}
tf.saved_model.save(module, sys.argv[1], signatures={"serving_default": serve, "score": score})
"""


def run_command(*argv: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "beforehand", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def inspect(folder: pathlib.Path) -> dict[str, Any]:
    done = run_command("inspect", folder, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def list_shapes(found: dict[str, Any]) -> list[tuple[str, dict[str, list[int]]]]:
    signatures = {segment["name"]: segment["signature"] for segment in found["segments"]}
    return [(signatures[engine["segment"]], engine["shapes"]) for engine in found["engines"]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A SavedModel with two signatures, of two inputs and of one."""
    folder = tmp_path_factory.mktemp("cli") / "model"
    subprocess.run([sys.executable, "-c", MAKE_MODEL, str(folder)], check=True, capture_output=True)
    return folder


def test_shapes_give_an_engine_each_and_the_steps_are_told(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    shapes = ["left=1x4", "right=1x5", "left=8x4,right=8x5"]
    done = run_command(
        "convert", source, "-o", out, "--signature", "serving_default", *[f"--shapes={text}" for text in shapes]
    )
    assert done.returncode == 0, done.stderr
    found = inspect(out)
    assert list(found["signatures"]) == ["serving_default"]
    assert list_shapes(found) == [
        ("serving_default", {"left": [batch, 4], "right": [batch, 5]}) for batch in (1, 8)
    ]  # fmt: skip
    for step in ("reading", "converting", "engine 1 of 2 TRTEngineOp_000_000 left=1x4", "engine 2 of 2", "saving to"):
        assert f"beforehand: {step}" in done.stderr
    assert "engines     2" in done.stdout
    assert f"tf.saved_model.load('{out}')" in done.stdout
    assert "Traceback" not in done.stderr


def test_shapes_go_to_every_signature_that_they_fit(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    done = run_command("convert", source, "-o", tmp_path / "out", "--shapes=left=2x4,right=2x5", "--shapes=left=3x4")
    assert done.returncode == 0, done.stderr
    assert list_shapes(inspect(tmp_path / "out")) == [
        ("serving_default", {"left": [2, 4], "right": [2, 5]}),
        ("score", {"left": [3, 4]}),
    ]


def test_samples_in_a_file_give_their_shapes(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "sample.npz"
    np.savez(file, right=np.zeros((3, 5), np.float32), left=np.zeros((3, 4), np.float32))
    done = run_command("convert", source, "-o", tmp_path / "out", "--samples", file)
    assert done.returncode == 0, done.stderr
    assert list_shapes(inspect(tmp_path / "out")) == [("serving_default", {"left": [3, 4], "right": [3, 5]})]
    assert "NO ENGINE" in done.stdout  # of the signature `score`, for which there were no samples


def test_without_shapes_nothing_is_built_and_that_is_said(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    done = run_command("convert", source, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "is saved without engines: build() was not called" in done.stderr
    assert "neither --shapes nor --samples" in done.stdout
    found = inspect(tmp_path / "out")
    assert found["engines"] == []
    assert [segment["engines"] for segment in found["segments"]] == [0, 0]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--shapes", "lefd=1x4,right=1x5"], "did you mean `left`?"),
        (["--shapes", "left=1x7,right=1x5"], "BH122"),
        (["--signature", "serve"], "BH203"),
        (["--tags", "train"], "BH202"),
    ],
)
def test_a_users_error_leaves_nothing_behind_and_no_traceback(
    argv: list[str], words: str, source: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    done = run_command("convert", source, "-o", tmp_path / "out", *argv)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_source_is_never_replaced(source: pathlib.Path) -> None:
    done = run_command("convert", source, "-o", source)
    assert done.returncode == 2
    assert "BH501" in done.stderr
    assert "beforehand: converting" not in done.stderr


def test_how_engines_are_built_is_told_by_options_and_shown_as_asked(
    source: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    settings = ["--progress=json", "--workers=2", "--timeout=10min", "--max-memory=8GB", "--on-failure=stop"]
    done = run_command("convert", source, "-o", tmp_path / "out", "--shapes=left=4x4,right=4x5", *settings)
    assert done.returncode == 0, done.stderr
    assert "beforehand: " not in done.stderr
    # TensorFlow's C++ writes lines of its own.
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    kinds = [line["kind"] for line in told if line["kind"] not in ("phase", "heartbeat")]
    assert list(dict.fromkeys(kinds)) == ["log", "plan", "started", "finished"]
    assert any(line.get("message", "").startswith("saving to ") for line in told)


def test_a_deadline_that_is_too_short_is_told_as_the_cause(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    done = run_command("convert", source, "-o", tmp_path / "out", "--shapes=left=5x4,right=5x5", "--timeout=0.01s")
    assert done.returncode == 2
    assert "a larger timeout_s" in done.stderr
    assert "FAILED after" in done.stderr


def test_a_command_whose_messages_nobody_reads_ends_well(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "beforehand", "convert", str(source), "-o", str(tmp_path / "out")]
    with subprocess.Popen(
        [*command, "--shapes=left=6x4,right=6x5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as done:
        assert done.stdout is not None
        assert done.stderr is not None
        assert done.stderr.readline()
        done.stderr.close()
        assert "engines     1" in done.stdout.read()
    assert done.returncode == 0
    assert len(list_shapes(inspect(tmp_path / "out"))) == 1
