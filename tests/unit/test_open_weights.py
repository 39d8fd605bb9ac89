"""Values of weights out of a checkpoint, by the keys that the restore op and the objects of a SavedModel tell."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from beforehand.errors import GraphError
from beforehand.freeze.freeze_signature import find_checkpoint_keys
from beforehand.records import Weight
from beforehand.runtime.tensorflow_private import find_op_def
from beforehand.saved_model.open_weights import open_weights
from beforehand.saved_model.read_object_keys import read_object_keys
from beforehand.saved_model.read_saved_model import read_saved_model

v1 = tf.compat.v1


def save_partitioned(folder: pathlib.Path, axis: int) -> dict[str, np.ndarray]:
    """A variable in three parts; returns each part's value by its node."""
    values = {}
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 5], name="x")
        partitioner = v1.fixed_size_partitioner(3, axis=axis)
        whole = v1.get_variable("w", [5, 7], partitioner=partitioner, use_resource=False)
        session.run(v1.global_variables_initializer())
        for part in whole:
            values[part.op.name] = session.run(part)
        y = x @ tf.concat(list(whole), axis=axis)
        v1.saved_model.simple_save(session, str(folder), {"x": x}, {"y": y})
    return values


@pytest.mark.parametrize("axis", [0, 1])
def test_each_part_of_a_partitioned_variable_has_its_own_key_and_value(tmp_path: pathlib.Path, axis: int) -> None:
    values = save_partitioned(tmp_path / "v1", axis)
    source = read_saved_model(tmp_path / "v1", ["serve"], None)

    keys = find_checkpoint_keys(source.meta_graph, find_op_def).variables
    read = open_weights(source)

    assert len({keys[node] for node in values}) == len(values) == 3
    for node, value in values.items():
        np.testing.assert_array_equal(read(Weight(node, keys[node], "float32", value.shape)), value)


def test_objects_tell_the_key_of_a_variable_that_a_function_captures(tmp_path: pathlib.Path) -> None:
    module = tf.Module()
    module.parts = {"a": tf.Variable([1.0, 2.0], name="same"), "b": tf.Variable([3.0, 4.0], name="same")}
    module.unused = tf.Variable(5.0)

    @tf.function(input_signature=[tf.TensorSpec([2], tf.float32, name="x")])
    def call(x):
        return {"y": x * module.parts["b"] - module.parts["a"]}

    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": call})
    source = read_saved_model(tmp_path / "model", ["serve"], None)

    by_objects = read_object_keys(source)
    by_restoring = find_checkpoint_keys(source.meta_graph, find_op_def).variables

    read = open_weights(source)
    assert sorted(read(Weight("", key, "float32", (2,))).tolist() for key in by_objects.values()) == [
        [1.0, 2.0],
        [3.0, 4.0],
    ]
    assert {node: by_restoring[node] for node in by_objects} == by_objects


def test_a_keras_3_model_saved_by_tensorflow_has_variables_that_its_objects_alone_know(tmp_path: pathlib.Path) -> None:
    """Should this fail, Keras has mended it; then there is nothing left to read off the objects."""
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones")])
    tf.saved_model.save(model, str(tmp_path / "model"))
    source = read_saved_model(tmp_path / "model", ["serve"], None)

    by_objects = read_object_keys(source)
    by_restoring = find_checkpoint_keys(source.meta_graph, find_op_def).variables

    assert len(by_objects) == 2
    assert not set(by_objects) & set(by_restoring)
    values = [open_weights(source)(Weight("", key, "float32", (-1,))) for key in by_objects.values()]
    assert sorted(value.reshape(-1).tolist() for value in values) == [[0.0] * 2, [1.0] * 6]


def test_a_model_without_variables_has_no_keys(tmp_path: pathlib.Path) -> None:
    call = tf.function(lambda x: {"y": x + 1.0}, input_signature=[tf.TensorSpec([2], tf.float32, name="x")])
    tf.saved_model.save(module := tf.Module(), str(tmp_path / "model"), signatures={"serving_default": call})
    del module
    assert read_object_keys(read_saved_model(tmp_path / "model", ["serve"], None)) == {}


@pytest.mark.parametrize("key", ["", "gone"])
def test_a_weight_that_the_checkpoint_does_not_have_is_named(tmp_path: pathlib.Path, key: str) -> None:
    save_partitioned(tmp_path / "v1", 0)
    read = open_weights(read_saved_model(tmp_path / "v1", ["serve"], None))
    with pytest.raises(GraphError, match=r"^BH205 the checkpoint of .* has no value for the variable scale") as raised:
        read(Weight("scale", key, "float32", ()))
    assert f"its key there would be {key!r}." in str(raised.value)


def test_a_source_whose_checkpoint_is_gone_says_which_weight_it_lacks(tmp_path: pathlib.Path) -> None:
    save_partitioned(tmp_path / "v1", 0)
    for file in (tmp_path / "v1" / "variables").iterdir():
        file.unlink()
    with pytest.raises(GraphError, match=r"^BH205 the checkpoint of .* has no value for the variable scale"):
        open_weights(read_saved_model(tmp_path / "v1", ["serve"], None))(Weight("scale", "w", "float32", (5, 7)))
