"""`beforehand explain`: text that people can read at two nodes and at twenty thousand, JSON, and exit codes."""

from __future__ import annotations

import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from beforehand.cli.format_explanation import format_explanation
from beforehand.cli.main import main
from beforehand.explanation.explanation import (
    Change,
    ExplainedBackend,
    ExplainedGraph,
    ExplainedSegment,
    Explanation,
    Layer,
    NativeNode,
    SkippedBackend,
)
from beforehand.segment import reasons

X = tf.TensorSpec([None, 8], tf.float32, name="x")


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
    module = tf.Module()
    module.w = tf.Variable(np.eye(8, dtype=np.float32))

    def call(x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.name_scope("head"):
            x = tf.nn.relu(tf.matmul(x, module.w) + 1.0)
        with tf.name_scope("special"):
            return {"y": tf.math.betainc(x, x, x)}

    module.call = tf.function(call, input_signature=[X], autograph=False)
    tf.saved_model.save(module, str(tmp_path / "source"), signatures=module.call)
    return tmp_path / "source"


def make_graph(layers: int, nodes: int, segments: int = 1) -> ExplainedGraph:
    """So many layers with so many native nodes each, and as much again in engines."""
    native = tuple(
        NativeNode(f"net/layer_{i}/op_{j}", f"Op{j % 9}", reasons.ALL[j % 12], "", f"net/layer_{i}", j)
        for i in range(layers)
        for j in range(nodes)
    )
    flops = sum(range(nodes))
    return ExplainedGraph(
        ("serving_default",),
        2 * layers * nodes,
        2 * layers * flops,
        tuple(ExplainedSegment(f"TRTEngineOp_000_{i:03d}", 7, 9, 0.5 / segments, (), ()) for i in range(segments)),
        native,
        tuple(Layer(f"net/layer_{i}", 2 * nodes, nodes, 2 * flops, flops) for i in range(layers)),
        tuple(
            Change(
                reasons.OP_UNSUPPORTED, f"Op{i}", 5, (f"Op{i}",), ("net/layer_0",), i % 2, 0.01, 2, "do it otherwise"
            )
            for i in range(20)
        ),
    )


def write(graph: ExplainedGraph, *, is_all: bool = False) -> list[str]:
    skipped = (SkippedBackend("tensorrt", "TensorRT is not installed", "pip install it"),)
    explanation = Explanation("net", "source", (ExplainedBackend("openvino", "1", (graph,)),), skipped)
    return "\n".join(format_explanation(explanation, is_all=is_all)).split("\n")


def test_twenty_thousand_native_nodes_are_a_screen_or_two_and_say_what_is_not_shown() -> None:
    lines = write(make_graph(324, 62, segments=20))
    assert len(lines) < 80
    text = "\n".join(lines)
    assert "in engines     20,088 of 40,176 nodes, 50.0% of the arithmetic, in 20 segments" in text
    assert "and 312 more; --all" in text  # layers
    assert lines.count("    and 12 more; --all") == 1  # segments
    assert lines.count("    and 2 more; --all") == 2  # changes that bring something, and those that do not
    assert max(map(len, lines)) < 160


def test_with_all_every_node_is_there_and_nothing_is_held_back() -> None:
    graph = make_graph(40, 25, segments=20)
    text = "\n".join(write(graph, is_all=True))
    assert all(f" {node.name} ({node.op}): {node.reason}" in text for node in graph.native)
    assert "--all" not in text


def test_a_small_model_is_told_in_full(source: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(source), "--backend", "openvino"]) == 0
    told = capsys.readouterr()
    assert "beforehand: explaining" in told.err
    lines = told.out.splitlines()
    assert len(lines) < 20
    assert re.search(r"in engines +3 of \d nodes, 9\d\.\d% of the arithmetic, in 1 segment", told.out)
    assert re.search(r"op unsupported +1 +Betainc 1x", told.out)
    assert re.search(r"special +\d of \d +\d\.\d% +", told.out)
    assert "would bring more into engines" in told.out
    assert "up to" in told.out


def test_its_json_is_that_of_the_function(source: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(source), "--backend", "openvino", "--json", "--minimum-segment-size", "9"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["version"] == 1
    assert data["backends"][0]["graphs"][0]["segments"] == []
    assert data["backends"][0]["graphs"][0]["reasons"]["segment too small"] == 5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--signature", "servin_default"], "did you mean `serving_default`?"),
        (["--signatur", "x"], "did you mean `--signature`?"),
        (["--backend", "tensorrt-rtxx"], "did you mean `tensorrt-rtx`?"),
        (["--minimum-segment-size", "0"], "BH102"),
        (["--tags", "train"], "it has: serve"),
    ],
)
def test_typing_errors_are_errors_of_usage(
    source: pathlib.Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["explain", str(source), *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_converted_model_says_where_to_ask_for_more(
    source: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    converted = tmp_path / "converted"
    assert main(["convert", str(source), "-o", str(converted)]) == 0
    capsys.readouterr()
    assert main(["explain", str(converted)]) == 0
    text = capsys.readouterr().out
    assert "a converted SavedModel" in text
    assert "beforehand explain SOURCE" in text
    assert "Betainc 1x" in text
    assert "would bring more into" not in text
