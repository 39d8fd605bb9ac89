"""What a signature needs besides variables: which nodes are tables, what fills them, which files and large constants there are."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from flat_models import Frozen, freeze, save

from beforehand.errors import GraphError
from beforehand.freeze.find_resources import (
    LARGE_CONSTANT_BYTES,
    find_initializers,
    is_resource,
    list_assets,
    take_out_constants,
)
from beforehand.records import Initializer, Resource
from beforehand.runtime.tensorflow_private import find_op_def

v1 = tf.compat.v1
WORDS = ("one", "two", "three")
ASKED = np.array([b"two", b"unknown", b"one"])
TEXT = [tf.TensorSpec([None], tf.string, name="words")]
UNKNOWN = 9


def make_initializer(words: tuple[str, ...] = WORDS) -> Any:
    return tf.lookup.KeyValueTensorInitializer(tf.constant(words), tf.range(len(words), dtype=tf.int64))


def make_file_initializer(file: Any) -> Any:
    index = tf.lookup.TextFileIndex
    return tf.lookup.TextFileInitializer(file, tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER)


def write_words(folder: pathlib.Path) -> str:
    folder.mkdir(exist_ok=True)
    file = folder / "words.txt"
    file.write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")
    return str(file)


def freeze_tables(folder: pathlib.Path, function: Callable[[Any, Any], Any], *tables: Any) -> Frozen:
    """The flat graph of a signature `function(tables, words)`."""
    module = tf.Module()
    module.tables = list(tables)
    save(folder, module, TEXT, serving_default=lambda words: {"ids": function(module.tables, words)})
    return freeze(folder)


def find_fillers(frozen: Frozen) -> dict[str, Initializer]:
    return find_initializers(frozen.source.meta_graph, frozen.keys.tables, find_op_def)


def look_up(resource: Resource, initializer: Initializer, folder: pathlib.Path) -> list[int]:
    """What a table answers that was made and filled by the two graphs alone."""
    with tf.Graph().as_default(), v1.Session() as session:
        [handle] = tf.graph_util.import_graph_def(resource.create, return_elements=[f"{resource.node}:0"], name="made")
        given = {f"{name}:0": tf.constant(str(folder / "assets" / file)) for name, file in initializer.assets}
        given[f"{initializer.handle}:0"] = handle
        fillers = tf.graph_util.import_graph_def(initializer.graph, given, list(initializer.targets), name="filled")
        found = tf.raw_ops.LookupTableFindV2(
            table_handle=handle, keys=ASKED, default_value=tf.constant(UNKNOWN, tf.int64)
        )
        session.run(fillers)
        return list(session.run(found))


def test_a_table_is_made_and_filled_by_the_graphs_that_are_found(tmp_path: pathlib.Path) -> None:
    table = tf.lookup.StaticHashTable(make_initializer(), UNKNOWN)
    frozen = freeze_tables(tmp_path, lambda tables, words: tables[0].lookup(words), table)
    [resource] = frozen.graph.resources
    fillers = find_fillers(frozen)
    assert list(fillers) == [resource.identity]
    assert fillers[resource.identity].assets == ()
    assert look_up(resource, fillers[resource.identity], tmp_path) == [1, UNKNOWN, 0]


def test_a_table_of_a_file_is_filled_from_the_asset_of_that_name(tmp_path: pathlib.Path) -> None:
    path = tf.saved_model.Asset(write_words(tmp_path / "gone")).asset_path
    table = tf.lookup.StaticHashTable(make_file_initializer(path), UNKNOWN)
    frozen = freeze_tables(tmp_path / "model", lambda tables, words: tables[0].lookup(words), table)
    [resource] = frozen.graph.resources
    filler = find_fillers(frozen)[resource.identity]
    assert [file for _, file in filler.assets] == ["words.txt"]
    assert look_up(resource, filler, tmp_path / "model") == [1, UNKNOWN, 0]
    assert set(list_assets(frozen.source.meta_graph).values()) == {"words.txt"}


def test_two_tables_have_two_identities_and_fillers_of_their_own(tmp_path: pathlib.Path) -> None:
    tables = [tf.lookup.StaticHashTable(make_initializer(words), UNKNOWN) for words in (WORDS, tuple(reversed(WORDS)))]
    frozen = freeze_tables(tmp_path, lambda tables, words: tables[0].lookup(words) - tables[1].lookup(words), *tables)
    fillers = find_fillers(frozen)
    assert len({resource.identity for resource in frozen.graph.resources}) == 2
    answers = [look_up(resource, fillers[resource.identity], tmp_path) for resource in frozen.graph.resources]
    assert sorted(answers) == [[1, UNKNOWN, 0], [1, UNKNOWN, 2]]


def test_a_table_of_two_signatures_has_one_identity(tmp_path: pathlib.Path) -> None:
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(make_initializer(), UNKNOWN)
    save(
        tmp_path,
        module,
        TEXT,
        once=lambda words: {"ids": module.table.lookup(words)},
        twice=lambda words: {"ids": module.table.lookup(words) + module.table.lookup(tf.strings.lower(words))},
    )
    frozen = freeze(tmp_path)
    [once], [twice] = (frozen.graphs[key].resources for key in ("once", "twice"))
    assert once.identity == twice.identity
    assert list(find_fillers(frozen)) == [once.identity]


def save_version_1(folder: pathlib.Path, file: str, form: str) -> None:
    """A SavedModel whose two nodes of tables stand for one: they are of one file, and so of one shared name."""
    with tf.Graph().as_default(), v1.Session() as session:
        words = v1.placeholder(tf.string, [None])
        tables = [tf.lookup.StaticHashTable(make_file_initializer(file), UNKNOWN) for _ in range(2)]
        ids = tables[0].lookup(words) + tables[1].lookup(words)
        start = v1.tables_initializer()
        session.run(start)
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": v1.saved_model.predict_signature_def({"words": words}, {"ids": ids})},
            v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            **{form: start},
        )
        builder.save()


@pytest.mark.parametrize("form", ["main_op", "legacy_init_op"])
def test_nodes_of_version_1_with_one_shared_name_have_one_identity_and_one_filler(
    tmp_path: pathlib.Path, form: str
) -> None:
    save_version_1(tmp_path / "model", write_words(tmp_path / "gone"), form)
    frozen = freeze(tmp_path / "model")
    first, second = frozen.graph.resources
    assert first.node != second.node
    assert first.identity == second.identity
    fillers = find_fillers(frozen)
    assert list(fillers) == [first.identity]
    assert look_up(second, fillers[first.identity], tmp_path / "model") == [1, UNKNOWN, 0]


def test_the_collection_of_assets_of_version_1_is_read_where_the_field_is_empty(tmp_path: pathlib.Path) -> None:
    save_version_1(tmp_path / "model", write_words(tmp_path / "gone"), "main_op")
    meta_graph = freeze(tmp_path / "model").source.meta_graph
    expected = list_assets(meta_graph)
    assert set(expected.values()) == {"words.txt"}
    old = v1.MetaGraphDef()
    old.CopyFrom(meta_graph)
    del old.asset_file_def[:]
    for asset in meta_graph.asset_file_def:
        old.collection_def["saved_model_assets"].any_list.value.add().Pack(asset)
    assert list_assets(old) == expected


def make_dense_table() -> Any:
    return tf.lookup.experimental.DenseHashTable(tf.string, tf.int64, tf.constant(9, tf.int64), "empty", "deleted", 8)


@pytest.mark.parametrize(
    ("kind", "make"),
    {
        "named": lambda: tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, UNKNOWN),
        "anonymous": lambda: tf.lookup.experimental.MutableHashTable(
            tf.string, tf.int64, UNKNOWN, experimental_is_anonymous=True
        ),
        "dense": make_dense_table,
    }.items(),
)
def test_a_table_whose_content_is_in_the_checkpoint_has_the_keys_of_it(
    tmp_path: pathlib.Path, kind: str, make: Callable[[], Any]
) -> None:
    del kind
    table = make()
    table.insert(tf.constant(WORDS), tf.range(3, dtype=tf.int64))
    frozen = freeze_tables(tmp_path, lambda tables, words: tables[0].lookup(words), table)
    [resource] = frozen.graph.resources
    filler = find_fillers(frozen)[resource.identity]
    assert filler.targets == ()
    assert filler.checkpoint_keys is not None
    reader = tf.train.load_checkpoint(frozen.source.checkpoint)
    keys, values = (reader.get_tensor(key).reshape(-1).tolist() for key in filler.checkpoint_keys)
    found = {
        key: value for key, value in zip(keys, values, strict=True) if key != b"empty"
    }  # a dense table's free places
    assert found == {b"one": 0, b"two": 1, b"three": 2}


def test_an_anonymous_table_is_found_and_filled_like_any_other(tmp_path: pathlib.Path) -> None:
    table = tf.lookup.StaticHashTable(make_initializer(), UNKNOWN, experimental_is_anonymous=True)
    frozen = freeze_tables(tmp_path, lambda tables, words: tables[0].lookup(words), table)
    [resource] = frozen.graph.resources
    filler = find_fillers(frozen)[resource.identity]
    assert look_up(resource, filler, tmp_path) == [1, UNKNOWN, 0]


def test_a_table_filled_from_a_variable_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        words = v1.placeholder(tf.string, [None])
        numbers = v1.get_variable("numbers", initializer=np.arange(3, dtype=np.int64), use_resource=True)
        initializer = tf.lookup.KeyValueTensorInitializer(tf.constant(WORDS), numbers.read_value())
        ids = tf.lookup.StaticHashTable(initializer, UNKNOWN, name="odd_table").lookup(words)
        session.run(v1.global_variables_initializer())
        session.run(v1.tables_initializer())
        v1.saved_model.simple_save(
            session, str(tmp_path), {"words": words}, {"ids": ids}, legacy_init_op=v1.tables_initializer()
        )
    message = (
        r"^BH205 the table odd_table is initialised from numbers, a VarHandleOp\. Try: initialise tables from const"
    )
    with pytest.raises(GraphError, match=message):
        find_fillers(freeze(tmp_path))


def test_a_model_that_nothing_initialises_has_no_fillers(tmp_path: pathlib.Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None])
        v1.saved_model.simple_save(session, str(tmp_path), {"x": x}, {"y": x + 1.0})
    assert find_fillers(freeze(tmp_path)) == {}


@pytest.mark.parametrize(
    ("op", "expected"),
    [("HashTableV2", True), ("AnonymousHashTable", True), ("VarHandleOp", False), ("AddV2", False), ("NoSuch", False)],
)
def test_resources_are_what_has_a_state_and_is_no_variable(op: str, expected: bool) -> None:
    assert is_resource(v1.NodeDef(name="node", op=op), find_op_def) == expected


def make_constant(name: str, value: Any) -> Any:
    node = v1.NodeDef(name=name, op="Const")
    tensor = tf.make_tensor_proto(value)
    node.attr["dtype"].type = tensor.dtype
    node.attr["value"].tensor.CopyFrom(tensor)
    return node


def test_large_constants_become_placeholders_and_weights_with_their_values() -> None:
    large = np.arange(LARGE_CONSTANT_BYTES // 4, dtype=np.float32).reshape(2, -1)
    small = np.arange(LARGE_CONSTANT_BYTES // 8, dtype=np.float32)
    nodes = {"large": make_constant("large", large), "small": make_constant("small", small)}
    taken = take_out_constants(nodes)
    [(weight, tensor)] = taken.items()
    assert (weight.node, weight.dtype, weight.shape) == ("large", "float32", large.shape)
    np.testing.assert_array_equal(tf.make_ndarray(tensor), large)
    assert {name: node.op for name, node in nodes.items()} == {"large": "Placeholder", "small": "Const"}
    assert nodes["large"].attr["dtype"].type == tf.float32.as_datatype_enum
    assert [dim.size for dim in nodes["large"].attr["shape"].shape.dim] == list(large.shape)


def test_equal_constants_have_one_key_and_others_another() -> None:
    value = np.arange(LARGE_CONSTANT_BYTES, dtype=np.float32)
    values = {"a": value, "b": value, "values": value + 1, "shape": value.reshape(2, -1), "dtype": value.view(np.int32)}
    keys = {
        weight.node: weight.checkpoint_key
        for weight in take_out_constants({name: make_constant(name, value) for name, value in values.items()})
    }
    assert keys["a"] == keys["b"]
    assert len(set(keys.values())) == len(values) - 1


def test_a_large_constant_of_strings_stays() -> None:
    nodes = {"words": make_constant("words", np.full(LARGE_CONSTANT_BYTES, b"word"))}
    assert take_out_constants(nodes) == {}
    assert nodes["words"].op == "Const"
