"""Tables and files of a source in another model: made anew, filled at every load, and by nothing that the source still holds."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from flat_models import Frozen, freeze, save

from beforehand.freeze.find_resources import find_initializers
from beforehand.runtime.tensorflow_private import KeptResource, find_op_def
from beforehand.saved_model.keep_resources import KeptResources
from beforehand.store import layout

v1 = tf.compat.v1
WORDS = ("one", "two", "three")
ASKED = np.array(["two", "unknown", "one"])
TEXT = [tf.TensorSpec([None], tf.string, name="words")]
UNKNOWN = 9
Make = Callable[[pathlib.Path], Any]


def make_static(folder: pathlib.Path, **more: Any) -> Any:
    del folder
    initializer = tf.lookup.KeyValueTensorInitializer(tf.constant(WORDS), tf.range(3, dtype=tf.int64))
    return tf.lookup.StaticHashTable(initializer, UNKNOWN, **more)


def make_of_file(folder: pathlib.Path) -> Any:
    file = folder / "words.txt"
    file.write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")
    index, path = tf.lookup.TextFileIndex, tf.saved_model.Asset(str(file)).asset_path
    initializer = tf.lookup.TextFileInitializer(path, tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER)
    return tf.lookup.StaticHashTable(initializer, UNKNOWN)


def make_mutable(folder: pathlib.Path, default: Any = UNKNOWN, **more: Any) -> Any:
    del folder
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, default, **more)
    values = np.arange(3).reshape([3] + [1] * np.ndim(default)) + np.zeros_like(default)
    table.insert(tf.constant(WORDS), tf.constant(values, tf.int64))
    return table


def make_dense(folder: pathlib.Path, default: Any = UNKNOWN, **more: Any) -> Any:
    del folder
    default = tf.constant(default, tf.int64)
    table = tf.lookup.experimental.DenseHashTable(tf.string, tf.int64, default, "empty", "deleted", 8, **more)
    values = np.arange(3).reshape([3] + [1] * np.ndim(default)) + np.zeros_like(default)
    table.insert(tf.constant(WORDS), tf.constant(values, tf.int64))
    return table


TABLES: dict[str, Make] = {
    "of tensors": make_static,
    "of tensors, anonymous": lambda folder: make_static(folder, experimental_is_anonymous=True),
    "of a file": make_of_file,
    "of the checkpoint": make_mutable,
    "of the checkpoint, anonymous": lambda folder: make_mutable(folder, experimental_is_anonymous=True),
    "of the checkpoint, dense": make_dense,
    "of the checkpoint, dense and anonymous": lambda folder: make_dense(folder, experimental_is_anonymous=True),
    "of vectors in the checkpoint": lambda folder: make_mutable(folder, [UNKNOWN, UNKNOWN]),
    "of vectors in the checkpoint, dense": lambda folder: make_dense(folder, [UNKNOWN, UNKNOWN]),
}


def freeze_table(folder: pathlib.Path, make: Make) -> Frozen:
    """A source with one table, used in two signatures; its file goes as soon as it is saved."""
    module = tf.Module()
    (folder / "gone").mkdir(parents=True)
    module.table = make(folder / "gone")

    def look_up(words: Any) -> Any:
        return {"ids": module.table.lookup(words)}

    save(folder / "source", module, TEXT, first=look_up, second=look_up)
    shutil.rmtree(folder / "gone")
    return freeze(folder / "source")


def keep(frozen: Frozen) -> KeptResources:
    initializers = find_initializers(frozen.source.meta_graph, frozen.keys.tables, find_op_def)
    folder = frozen.source.folder / layout.ASSETS
    return KeptResources(list(frozen.graphs.values()), initializers, folder, frozen.read)


def make_kept_model(frozen: Frozen, kept: KeptResources, default: Any) -> tf.Module:
    """A module whose function looks words up in the table that was kept."""
    module = tf.Module()
    module.kept = kept
    graph = frozen.graphs["first"]
    [resource] = graph.resources

    @tf.function(input_signature=TEXT)
    def look_up(words: Any) -> Any:
        handle = tf.identity(kept.find_values(graph)[f"{resource.node}:0"])
        return tf.raw_ops.LookupTableFindV2(table_handle=handle, keys=words, default_value=tf.constant(default))

    module.look_up = look_up
    return module


def answer(model: Any) -> list[Any]:
    found: list[Any] = model.look_up(tf.constant(ASKED)).numpy().tolist()
    return found


def answer_in_session(folder: pathlib.Path, feed: Sequence[str]) -> list[Any]:
    """As TF Serving loads and asks: one run fills, another asks."""
    with tf.Graph().as_default(), v1.Session() as session:
        meta_graph = v1.saved_model.load(session, ["serve"], str(folder))
        signature = meta_graph.signature_def["serving_default"]
        [given], [wanted] = signature.inputs.values(), signature.outputs.values()
        found: list[Any] = session.run(wanted.name, {given.name: feed}).tolist()
        return found


@pytest.mark.parametrize("kind", TABLES)
def test_a_kept_table_answers_at_once_and_after_each_load(tmp_path: pathlib.Path, kind: str) -> None:
    frozen = freeze_table(tmp_path, TABLES[kind])
    of_vectors = "of vectors" in kind
    default = np.int64([UNKNOWN, UNKNOWN] if of_vectors else UNKNOWN)
    expected = [[1, 1], [9, 9], [0, 0]] if of_vectors else [1, 9, 0]
    module = make_kept_model(frozen, keep(frozen), default)
    assert answer(module) == expected
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.look_up)
    shutil.rmtree(tmp_path / "source")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    assert answer(loaded) == expected
    tf.saved_model.save(loaded, str(tmp_path / "again"), signatures=loaded.look_up)
    for name in ("saved", "again"):
        shutil.move(tmp_path / name, tmp_path / f"moved_{name}")
        assert answer(tf.saved_model.load(str(tmp_path / f"moved_{name}"))) == expected
        assert answer_in_session(tmp_path / f"moved_{name}", list(ASKED)) == expected


def test_a_table_of_several_signatures_is_made_once(tmp_path: pathlib.Path) -> None:
    frozen = freeze_table(tmp_path, make_static)
    kept = keep(frozen)
    assert len(frozen.graphs) == 2
    assert len(kept.resources) == 1
    [resource] = kept.resources.values()
    for graph in frozen.graphs.values():
        [handle] = kept.find_values(graph).values()
        assert handle is resource.resource_handle


def test_a_file_of_several_signatures_is_kept_once_with_its_content(tmp_path: pathlib.Path) -> None:
    kept = keep(freeze_table(tmp_path, make_of_file))
    assert list(kept.assets) == ["words.txt"]
    path = pathlib.Path(kept.assets["words.txt"].asset_path.numpy().decode())
    assert path.read_text(encoding="utf-8").split() == list(WORDS)


@pytest.mark.parametrize("kind", ["of tensors", "of the checkpoint"])
def test_two_models_kept_of_one_source_share_no_table(tmp_path: pathlib.Path, kind: str) -> None:
    """A table of one name is one in a process: filled with other values, both models and the source would have those."""
    frozen = freeze_table(tmp_path, TABLES[kind])
    source = tf.saved_model.load(str(tmp_path / "source"))
    first, second = (make_kept_model(frozen, keep(frozen), np.int64(UNKNOWN)) for _ in range(2))
    for model in (first, second):
        assert answer(model) == [1, 9, 0]
    names = {
        node.attr["shared_name"].s
        for model in (first, second)
        for resource in model.kept.resources.values()
        for node in tf.function(resource._make).get_concrete_function().graph.as_graph_def().node
        if "HashTable" in node.op
    }
    assert len(names) == 2
    assert source.signatures["first"](words=tf.constant(ASKED))["ids"].numpy().tolist() == [1, 9, 0]


def test_a_file_that_the_graph_itself_reads_is_kept(tmp_path: pathlib.Path) -> None:
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "greeting.txt").write_text("good morning", encoding="utf-8")
    module = tf.Module()
    module.file = tf.saved_model.Asset(str(tmp_path / "gone" / "greeting.txt"))
    save(
        tmp_path / "source",
        module,
        TEXT,
        serving_default=lambda words: {"y": tf.strings.join([words, tf.io.read_file(module.file.asset_path)])},
    )
    shutil.rmtree(tmp_path / "gone")
    frozen = freeze(tmp_path / "source")
    [(node, file)] = frozen.graph.assets
    assert file == "greeting.txt"
    kept = keep(frozen)
    path = kept.find_values(frozen.graph)[f"{node}:0"]
    assert tf.io.read_file(path).numpy() == b"good morning"


def test_a_resource_that_nothing_fills_is_made_empty(tmp_path: pathlib.Path) -> None:
    frozen = freeze_table(tmp_path, make_mutable)
    kept = KeptResources(list(frozen.graphs.values()), {}, tmp_path, frozen.read)
    assert answer(make_kept_model(frozen, kept, np.int64(UNKNOWN))) == [UNKNOWN] * 3


def test_a_kept_resource_is_filled_once_when_made_and_once_at_each_load(tmp_path: pathlib.Path) -> None:
    """It counts how often it is filled: each time it holds one more number."""

    def make() -> Any:
        return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.int64, shared_name="counting_table")

    def fill(handle: Any) -> None:
        size = tf.raw_ops.LookupTableSizeV2(table_handle=handle)
        tf.raw_ops.LookupTableInsertV2(table_handle=handle, keys=[size], values=[size])

    module = tf.Module()
    module.table = KeptResource(make, fill)
    module.size = tf.function(
        lambda: tf.raw_ops.LookupTableSizeV2(table_handle=module.table.resource_handle), input_signature=[]
    )
    assert int(module.size()) == 1
    tf.saved_model.save(module, str(tmp_path))
    assert int(module.size()) == 1, "saving traces what fills it, and runs nothing"
    assert int(tf.saved_model.load(str(tmp_path)).size()) == 1


def test_a_kept_resource_can_be_made_in_a_graph_of_version_1() -> None:
    def make() -> Any:
        return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.int64)

    def fill(handle: Any) -> None:
        tf.raw_ops.LookupTableInsertV2(table_handle=handle, keys=[1], values=[2])

    with tf.Graph().as_default() as graph:
        KeptResource(make, fill)
        assert {"MutableHashTableV2", "LookupTableInsertV2"} <= {operation.type for operation in graph.get_operations()}
