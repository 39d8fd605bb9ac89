"""What engines are built of stays in the converted model, with no weight stored twice, and comes back byte by byte."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import beforehand
from beforehand.backends.describe_cpu import describe_this_cpu, list_targets
from beforehand.backends.registry import find_backend
from beforehand.build_engines.plan_engines import make_spec
from beforehand.errors import IntegrityError
from beforehand.records import Manifest, ShapeSet
from beforehand.store import layout
from beforehand.store.manifest import read_manifest
from beforehand.store.segment_sources import restore_onnx

RNG = np.random.default_rng()


class Mixed(tf.Module):
    """Weights of several dtypes, a large constant, a weight that both signatures read, and a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = tf.Variable(RNG.normal(size=(256, 256)).astype(np.float32) / 16)
        self.other = tf.Variable(RNG.normal(size=(256, 200)).astype(np.float32) / 16)
        self.mask = tf.Variable(RNG.random((200, 256)) > 0.5)
        self.table = tf.Variable(RNG.integers(0, 9, (17000,)).astype(np.int32))
        self.constant = RNG.normal(size=(256, 256)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, 256], tf.float32, "x")])
    def first(self, x: Any) -> dict[str, Any]:
        y = tf.nn.relu(x @ self.dense) @ tf.constant(self.constant)
        y = y @ self.other @ tf.cast(self.mask, tf.float32)
        return {"y": y + tf.cast(tf.gather(self.table, tf.range(256)), tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None, 256], tf.float32, "x")])
    def second(self, x: Any) -> dict[str, Any]:
        def step(i: Any, x: Any) -> Any:
            return i + 1, tf.tanh(x @ self.dense)

        return {"z": tf.while_loop(lambda i, x: i < 3, step, [0, x])[1] @ self.other}


@pytest.fixture(scope="module", params=["mixed", "image model"])
def saved(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[beforehand.Converter, pathlib.Path]:
    folder = tmp_path_factory.mktemp("sources")
    if request.param == "mixed":
        model = Mixed()
        tf.saved_model.save(model, str(folder / "source"), signatures={"first": model.first, "second": model.second})
        shapes, keys = {"x": (2, 256)}, ["first", "second"]
    else:
        keras = tf.keras.applications.MobileNetV2((64, 64, 3), weights=None, classes=10)
        keras.export(folder / "source", verbose=False)
        shapes, keys = {keras.inputs[0].name: (1, 64, 64, 3)}, ["serving_default"]
    converter = beforehand.Converter(folder / "source")
    converter.convert()
    for key in keys:
        converter.build(signature=key, shapes=shapes)
    converter.save(folder / "converted")
    return converter, folder / "converted"


def find_lowered(converter: beforehand.Converter) -> Any:
    return converter._check_converted("test")[1].lowered


def measure(folder: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def read(folder: pathlib.Path) -> Manifest:
    return read_manifest(layout.find_manifest(folder))


def test_every_segment_comes_back_byte_by_byte(saved: Any, tmp_path: pathlib.Path) -> None:
    converter, folder = saved
    manifest = read(folder)
    assert len(manifest.sources) == len(manifest.segments) > 0
    assert any(source.pieces for source in manifest.sources)
    for index, (source, lowered) in enumerate(zip(manifest.sources, find_lowered(converter), strict=True)):
        into = tmp_path / str(index)
        into.mkdir()
        made = restore_onnx(source, folder, into) / layout.ONNX_MODEL
        original = pathlib.Path(lowered.onnx_file)
        assert made.read_bytes() == original.read_bytes()
        weights = layout.ONNX_WEIGHTS
        assert (into / weights).read_bytes() == original.with_name(weights).read_bytes()
        assert (source.digest, source.input_names) == (lowered.digest, lowered.input_names)


def test_graphs_and_a_report_are_all_that_the_folder_holds_more(saved: Any) -> None:
    _, folder = saved
    manifest = read(folder)
    graphs = sum((folder / layout.ASSETS / source.onnx_file).stat().st_size for source in manifest.sources)
    engines = sum(engine.bytes for engine in manifest.engines)
    weights = sum(length for source in manifest.sources for *_, length in source.pieces)
    parts = ["saved_model.pb", "fingerprint.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
    report = [layout.find_asset(folder, name) for name in (layout.REPORT_PAGE, layout.REPORT_DATA, layout.ORIGIN)]
    ours = sum(file.stat().st_size for file in [layout.find_manifest(folder), *report])
    assert ours < 400_000
    assert measure(folder) == sum((folder / name).stat().st_size for name in parts) + ours + engines + graphs
    assert graphs < max(weights, 1 << 20) / 2


def test_a_specification_made_later_equals_the_one_of_the_conversion(saved: Any) -> None:
    converter, folder = saved
    manifest = read(folder)
    assert manifest.engines
    for engine in manifest.engines:
        spec = make_spec(manifest, engine.segment_index, engine.shapes, find_backend("openvino"))
        assert spec.key == engine.key
        facts = ("segment", "backend_version", "precision", "target", "input_names", "output_names")
        assert [getattr(spec, name) for name in facts] == [getattr(engine, name) for name in facts]
        assert spec.options == converter.options.to_key()
    other = ShapeSet(engine.shapes.names, tuple((7, *shape[1:]) for shape in engine.shapes.shapes))
    assert make_spec(manifest, engine.segment_index, other, find_backend("openvino")).key != engine.key
    lower = list_targets(describe_this_cpu())[-1]
    assert make_spec(manifest, engine.segment_index, engine.shapes, find_backend("openvino"), lower).target == lower
    named = make_spec(manifest, engine.segment_index, engine.shapes, find_backend("openvino"), engine.target)
    assert named.key == engine.key


def test_tensorflow_reads_the_folder_and_its_fingerprint_as_ever(saved: Any) -> None:
    _, folder = saved
    fingerprint = tf.saved_model.experimental.read_fingerprint(str(folder))
    assert fingerprint.checkpoint_hash
    assert set(tf.saved_model.load(str(folder)).signatures) == {item.key for item in read(folder).signatures}


def test_without_engines_the_sources_stay(saved: Any, tmp_path: pathlib.Path) -> None:
    converter, folder = saved
    converter.save(tmp_path / "bare", save_engines=False)
    assert read(tmp_path / "bare").engines == ()
    assert read(tmp_path / "bare").sources == read(folder).sources


@pytest.mark.parametrize("damage", ["weights", "truncated", "no checkpoint", "graph", "no graph", "path"])
def test_what_is_not_the_same_is_refused(damage: str, saved: Any, tmp_path: pathlib.Path) -> None:
    _, original = saved
    folder = pathlib.Path(shutil.copytree(original, tmp_path / "copy"))
    source = next(source for source in read(folder).sources if source.pieces)
    data, graph = folder / source.weights_files[0], folder / layout.ASSETS / source.onnx_file
    if damage == "weights":
        _, offset, length = source.pieces[-1]
        content = bytearray(data.read_bytes())
        content[offset + length - 1] ^= 1
        data.write_bytes(content)
    elif damage == "truncated":
        data.write_bytes(data.read_bytes()[: source.pieces[0][1] + 1])
    elif damage == "no checkpoint":
        data.unlink()
    elif damage == "graph":
        graph.write_bytes(graph.read_bytes() + b"\0")
    elif damage == "no graph":
        graph.unlink()
    else:
        source = dataclasses.replace(source, weights_files=("../converted/secret",))
    (tmp_path / "into").mkdir()
    with pytest.raises(IntegrityError, match=r"^BH503"):
        restore_onnx(source, folder, tmp_path / "into")


def test_of_several_shards_every_piece_is_found(saved: Any, tmp_path: pathlib.Path) -> None:
    from tensorflow.python.checkpoint.sharding import sharding_policies

    converter, _ = saved
    policy = sharding_policies.MaxShardSizePolicy(max_shard_size=100_000)
    options = tf.saved_model.SaveOptions(experimental_sharding_callback=policy)
    converter.save(tmp_path / "shards", options=options)
    manifest = read(tmp_path / "shards")
    assert max(len(source.weights_files) for source in manifest.sources) > 1
    for index, source in enumerate(manifest.sources):
        (tmp_path / str(index)).mkdir()
        restore_onnx(source, tmp_path / "shards", tmp_path / str(index))


def test_a_checkpoint_of_unknown_form_leaves_nothing_to_build_of_and_says_so(
    saved: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from beforehand.saved_model import keep_sources

    def refuse(file: pathlib.Path) -> None:
        raise ValueError("the index of the checkpoint is compressed")

    monkeypatch.setattr(keep_sources, "read_bundle_index", refuse)
    converter, folder = saved
    with caplog.at_level(logging.WARNING, "beforehand"):
        converter.save(tmp_path / "saved")
    assert "no engine can be built later" in caplog.text
    assert read(tmp_path / "saved").sources == ()
    assert not list((tmp_path / "saved" / layout.ASSETS).glob("*.onnx"))
    assert read(tmp_path / "saved").engines == read(folder).engines
