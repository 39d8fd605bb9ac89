"""Reports of models that were really converted: written by `save()`, the same as `converter.report`, made anew by commands."""

from __future__ import annotations

import json
import logging
import pathlib
import shutil

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import tensorflow as tf

import beforehand
from beforehand.cli.main import main
from beforehand.errors import NotConvertedError
from beforehand.report import write_report
from beforehand.report.report_records import LOOP, NATIVE, SEGMENT
from beforehand.store import layout


class Mixed(tf.Module):
    """Text to numbers in TensorFlow, a network in an engine, and a loop that stays native with a segment in its body."""

    def __init__(self) -> None:
        super().__init__(name="mixed")
        rng = np.random.default_rng(0)
        self.weights = tf.Variable(rng.normal(0, 0.3, (8, 8)).astype(np.float32))

    @tf.function(
        input_signature=[tf.TensorSpec([None, 8], tf.float32, name="x"), tf.TensorSpec([None], tf.string, name="text")],
        autograph=False,
    )
    def serve(self, x: tf.Tensor, text: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.name_scope("encoder/dense_1"):
            hidden = tf.nn.relu(x @ self.weights) @ self.weights
        with tf.name_scope("count_words"):
            length = tf.cast(tf.strings.length(tf.strings.lower(text)), tf.float32)[:, tf.newaxis]
        with tf.name_scope("head"):
            return {"y": tf.nn.softmax(tf.tanh(hidden * length) @ self.weights)}


@pytest.fixture(scope="module")
def converter(tmp_path_factory: pytest.TempPathFactory) -> beforehand.Converter:
    folder = tmp_path_factory.mktemp("model")
    model = Mixed()
    tf.saved_model.save(model, str(folder / "the_source"), signatures={"serving_default": model.serve})
    made = beforehand.Converter(folder / "the_source", minimum_segment_size=1)
    made.convert()
    return made


@pytest.fixture(scope="module")
def saved(converter: beforehand.Converter, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    texts = np.array(["one", "three words here"])
    converter.build(lambda: iter([{"x": np.ones((2, 8), np.float32), "text": texts}]))
    folder = tmp_path_factory.mktemp("saved") / "converted"
    converter.save(folder)
    return folder


def test_what_is_saved_is_what_the_converter_reports(converter: beforehand.Converter, saved: pathlib.Path) -> None:
    data = json.loads(layout.find_asset(saved, layout.REPORT_DATA).read_text())
    told = converter.report.to_dict()
    differing = {"made", "created", "name", "commands"}
    assert {k: v for k, v in data.items() if k not in differing} == {
        k: v for k, v in json.loads(json.dumps(told)).items() if k not in differing
    }
    assert (data["name"], told["name"]) == ("converted", "the_source")
    assert data["notes"] == []
    assert layout.find_asset(saved, layout.REPORT_PAGE).read_text().startswith("<!DOCTYPE html>")


def test_the_blocks_hold_every_node_by_segment_and_by_layer(
    converter: beforehand.Converter, saved: pathlib.Path
) -> None:
    report = converter.report
    [graph] = report.graphs
    segments = {block.name: block for block in graph.blocks if block.kind == SEGMENT}
    assert set(segments) == {segment.name for segment in report.segments}
    native = [block for block in graph.blocks if block.kind in (NATIVE, LOOP)]
    assert (
        sum(block.nodes for block in native) == len(report.native_nodes) == sum(group.nodes for group in report.native)
    )
    layers = {name for block in graph.blocks for name, _ in block.layers}
    assert {"encoder/dense_1", "count_words", "head"} <= layers
    reads = {(graph.blocks[a].name, graph.blocks[b].kind) for a, b in graph.edges}
    assert ("x", SEGMENT) in reads
    assert ("text", NATIVE) in reads
    assert dict(report.machine)["cores"]
    assert report.engines
    assert report.engines[0].accuracy is not None


def test_the_command_in_the_report_converts_the_model_again(
    saved: pathlib.Path, converter: beforehand.Converter
) -> None:
    text = converter.report.commands[0].text
    assert text.startswith("beforehand convert the_source -o the_source --precision FP32 --backend openvino")


def test_no_folder_of_this_machine_is_in_the_report(saved: pathlib.Path) -> None:
    for name in (layout.REPORT_PAGE, layout.REPORT_DATA, layout.ORIGIN):
        text = layout.find_asset(saved, name).read_text()
        assert str(saved.parent) not in text
        assert str(pathlib.Path.home()) + "/" not in text


def test_engines_taken_out_by_the_command_are_gone_from_the_report(saved: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "slimmed")
    assert main(["slim", str(folder), "--no-engines"]) == 0
    data = json.loads(layout.find_asset(folder, layout.REPORT_DATA).read_text())
    assert data["engines"] == []
    assert data["name"] == "slimmed"
    assert "No engine is built" in layout.find_asset(folder, layout.REPORT_PAGE).read_text()


def test_a_copy_saved_by_tensorflow_is_reported_without_its_outline(
    saved: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    loaded = tf.saved_model.load(str(saved))
    tf.saved_model.save(loaded, str(tmp_path / "again"), signatures=loaded.signatures)
    report = write_report.read_report(tmp_path / "again")
    assert report.engines
    assert not report.graphs[0].has_edges


def test_a_model_is_saved_though_its_report_cannot_be_made(
    converter: beforehand.Converter, saved: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def fail(report: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(write_report, "render_page", fail)
    with caplog.at_level(logging.WARNING, "beforehand"):
        converter.save(tmp_path / "converted")
    assert "converted is saved without its report" in caplog.text
    assert layout.find_manifest(tmp_path / "converted").is_file()
    assert not layout.find_asset(tmp_path / "converted", layout.REPORT_PAGE).exists()


def test_before_convert_there_is_no_report(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NotConvertedError, match="BH111"):
        beforehand.Converter(tmp_path).report  # noqa: B018


def test_a_loop_is_a_block_and_its_body_a_graph_of_its_own(tmp_path: pathlib.Path) -> None:
    class Loop(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(np.random.default_rng(1).normal(0, 0.03, (1024, 1024)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 1024], tf.float32, name="x")], autograph=False)
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            def body(i: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                noise = tf.random.stateless_uniform(tf.shape(y), [7, i])
                return i + 1, tf.tanh(tf.nn.relu(y @ self.weights) * noise) @ self.weights

            return {"y": tf.while_loop(lambda i, y: i < 3, body, [0, x])[1]}

    module = Loop()
    tf.saved_model.save(module, str(tmp_path / "loop"), signatures={"serving_default": module.serve})
    converter = beforehand.Converter(tmp_path / "loop", minimum_segment_size=1)
    converter.convert()
    graphs = converter.report.graphs
    assert [block.kind for block in graphs[0].blocks].count(LOOP) == 1
    assert len(graphs) > 1
    assert graphs[1].title.startswith("serving_default, body 1 of ")
    assert any(block.kind == SEGMENT for graph in graphs[1:] for block in graph.blocks)
