"""A signature as a flat graph: what becomes of its variables, its control edges, and how equal graphs are known."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from beforehand.freeze.freeze_signature import find_checkpoint_keys, freeze_signature
from beforehand.freeze.hash_graph import hash_graph
from beforehand.records import FlatGraph
from beforehand.runtime.tensorflow_private import find_op_def
from beforehand.saved_model.read_saved_model import Source, read_saved_model

VECTOR = tf.TensorSpec([None, 3], tf.float32, name="x")


@dataclasses.dataclass(frozen=True)
class Frozen:
    source: Source
    graphs: dict[str, FlatGraph]

    @property
    def graph(self) -> FlatGraph:
        return self.graphs["serving_default"]

    def list_ops(self) -> list[str]:
        return [node.op for node in self.graph.graph_def.node]


def freeze(folder: pathlib.Path) -> Frozen:
    source = read_saved_model(folder, ["serve"], None)
    keys = find_checkpoint_keys(source.meta_graph, find_op_def)
    graphs = {
        item.signature.key: freeze_signature(
            source.meta_graph, item.signature, item.input_tensors, item.output_tensors, keys, find_op_def
        )
        for item in source.signatures
    }
    return Frozen(source, graphs)


def save_and_freeze(folder: pathlib.Path, module: tf.Module, **functions: Callable[..., Any]) -> Frozen:
    signatures = {
        key: tf.function(function, input_signature=[VECTOR], autograph=False) for key, function in functions.items()
    }
    module.functions = list(signatures.values())
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return freeze(folder)


def list_before(graph: FlatGraph, name: str) -> set[str]:
    nodes = {node.name: node for node in graph.graph_def.node}
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for tensor in nodes[waiting.pop()].input:
            other = tensor.lstrip("^").partition(":")[0]
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen


def test_a_variable_that_is_only_read_becomes_a_placeholder_with_its_checkpoint_key(tmp_path: pathlib.Path) -> None:
    module = tf.Module()
    module.kernel = tf.Variable(np.arange(6, dtype=np.float32).reshape(3, 2))
    inner = tf.function(lambda x: x @ module.kernel, autograph=False)

    frozen = save_and_freeze(tmp_path, module, serving_default=lambda x: {"y": inner(x) + inner(x)})

    [weight] = frozen.graph.weights
    assert (weight.dtype, weight.shape) == ("float32", (3, 2))
    assert frozen.graph.variables == ()
    value = tf.train.load_checkpoint(frozen.source.checkpoint).get_tensor(weight.checkpoint_key)
    np.testing.assert_array_equal(value, module.kernel.numpy())
    assert not {"VarHandleOp", "ReadVariableOp", "PartitionedCall", "StatefulPartitionedCall"} & set(frozen.list_ops())
    [node] = [node for node in frozen.graph.graph_def.node if node.name == weight.node]
    assert node.op == "Placeholder"


def test_nothing_is_left_that_the_outputs_do_not_need(tmp_path: pathlib.Path) -> None:
    module = tf.Module()
    module.used, module.idle = tf.Variable([1.0, 2.0, 3.0]), tf.Variable([4.0, 5.0, 6.0])

    def function(x: Any) -> Any:
        tf.sqrt(module.idle + x)
        return {"y": x * module.used}

    frozen = save_and_freeze(tmp_path, module, serving_default=function)
    assert len(frozen.graph.weights) == 1
    assert "Sqrt" not in frozen.list_ops()


def test_a_gather_from_a_variable_becomes_a_gather_from_its_value(tmp_path: pathlib.Path) -> None:
    module = tf.Module()
    module.table = tf.Variable(np.arange(8, dtype=np.float32).reshape(4, 2))

    def function(x: Any) -> Any:
        return {"y": tf.nn.embedding_lookup(module.table, tf.cast(x, tf.int32))}

    frozen = save_and_freeze(tmp_path, module, serving_default=function)
    assert "ResourceGather" not in frozen.list_ops()
    [gather] = [node for node in frozen.graph.graph_def.node if node.op == "GatherV2"]
    [weight] = frozen.graph.weights
    assert gather.input[0] == f"{weight.node}:0"
    x, table = np.array([[0, 3, 1]], np.float32), module.table.numpy()
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(frozen.graph.graph_def, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            feeds = {frozen.graph.input_tensors[0]: x, f"{weight.node}:0": table}
            found = session.run(frozen.graph.output_tensors[0], feeds)
    np.testing.assert_array_equal(found, table[[[0, 3, 1]]])


def test_a_variable_that_the_signature_assigns_stays_a_variable(tmp_path: pathlib.Path) -> None:
    module = tf.Module()
    module.count, module.scale = tf.Variable(0.0), tf.Variable(2.0)

    def function(x: Any) -> Any:
        module.count.assign_add(1.0)
        return {"y": x * module.scale + module.count}

    frozen = save_and_freeze(tmp_path, module, serving_default=function)
    [assigned], [read] = frozen.graph.variables, frozen.graph.weights
    checkpoint = tf.train.load_checkpoint(frozen.source.checkpoint)
    assert checkpoint.get_tensor(assigned.checkpoint_key) == 0.0
    assert checkpoint.get_tensor(read.checkpoint_key) == 2.0
    assert frozen.list_ops().count("AssignAddVariableOp") == 1
    assert frozen.list_ops().count("VarHandleOp") == 1


def test_an_effect_is_kept_and_comes_before_what_waited_for_it(tmp_path: pathlib.Path) -> None:
    module = tf.Module()
    module.count = tf.Variable(0.0)
    bump = tf.function(lambda: module.count.assign_add(1.0), autograph=False)

    def function(x: Any) -> Any:
        bump()
        return {"y": tf.add(x, module.count.read_value(), name="after")}

    graph = save_and_freeze(tmp_path, module, serving_default=function).graph
    [assign] = [node.name for node in graph.graph_def.node if node.op == "AssignAddVariableOp"]
    [after] = [node.name for node in graph.graph_def.node if node.name.rpartition("/")[2] == "after"]
    assert assign in list_before(graph, after)


def test_an_effect_that_no_output_reads_is_kept_too(tmp_path: pathlib.Path) -> None:
    module = tf.Module()
    module.count = tf.Variable(0.0)

    def function(x: Any) -> Any:
        module.count.assign_add(1.0)
        return {"y": x * 2.0}

    frozen = save_and_freeze(tmp_path, module, serving_default=function)
    assert "AssignAddVariableOp" in frozen.list_ops()


def test_control_edges_without_an_effect_behind_them_are_dropped(tmp_path: pathlib.Path) -> None:
    module = tf.Module()
    module.scale = tf.Variable(2.0)

    def function(x: Any) -> Any:
        with tf.control_dependencies([tf.sqrt(x, name="idle"), module.scale.read_value()]):
            return {"y": tf.multiply(x, 3.0)}

    frozen = save_and_freeze(tmp_path, module, serving_default=function)
    assert not [t for node in frozen.graph.graph_def.node for t in node.input if t.startswith("^")]
    assert "Sqrt" not in frozen.list_ops()


def test_nodes_come_in_topological_order(tmp_path: pathlib.Path) -> None:
    frozen = save_and_freeze(tmp_path, tf.Module(), serving_default=lambda x: {"y": tf.exp(x) * tf.sin(x + 1.0)})
    seen: set[str] = set()
    for node in frozen.graph.graph_def.node:
        assert {tensor.lstrip("^").partition(":")[0] for tensor in node.input} <= seen
        seen.add(node.name)


def test_functional_control_flow_brings_its_functions_along_and_no_others(tmp_path: pathlib.Path) -> None:
    def function(x: Any) -> Any:
        return {"y": tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 2.0), [0, x])[1]}

    frozen = save_and_freeze(tmp_path, tf.Module(), serving_default=function, other=lambda x: {"z": x + 1.0})
    names = {item.signature.name for item in frozen.graph.graph_def.library.function}
    [loop] = [node for node in frozen.graph.graph_def.node if node.op in ("While", "StatelessWhile")]
    assert {loop.attr["cond"].func.name, loop.attr["body"].func.name} == names
    with tf.Graph().as_default():
        tf.graph_util.import_graph_def(frozen.graph.graph_def, name="")


def test_a_loop_of_tensorflow_1_is_frozen(tmp_path: pathlib.Path) -> None:
    """Enter, Merge, Switch, NextIteration: the one kind of graph that has cycles."""
    v1 = tf.compat.v1
    was_v2 = v1.control_flow_v2_enabled()
    v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
            x = v1.placeholder(tf.float32, [None, 3], name="x")
            _, y = v1.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 2.0), [0, x])
            v1.saved_model.simple_save(session, str(tmp_path / "v1"), {"x": x}, {"y": tf.identity(y, name="y")})
    finally:
        if was_v2:
            v1.enable_control_flow_v2()
    frozen = freeze(tmp_path / "v1")
    assert "NextIteration" in frozen.list_ops()
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(frozen.graph.graph_def, name="")
        with v1.Session(graph=graph) as session:
            given = np.ones((1, 3), np.float32)
            found = session.run(frozen.graph.output_tensors[0], {frozen.graph.input_tensors[0]: given})
    np.testing.assert_array_equal(found, 8 * given)


def test_serve_and_serving_default_of_keras_are_one_graph(tmp_path: pathlib.Path) -> None:
    import keras

    inputs = keras.Input((3,), name="x")
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(4, activation="relu")(inputs))
    keras.Model(inputs, keras.layers.Dense(2)(hidden)).export(str(tmp_path / "keras"), verbose=False)

    graphs = freeze(tmp_path / "keras").graphs

    assert sorted(graphs) == ["serve", "serving_default"]
    assert hash_graph(graphs["serve"]) == hash_graph(graphs["serving_default"])


def test_graphs_that_compute_something_else_have_other_hashes(tmp_path: pathlib.Path) -> None:
    module = tf.Module()
    module.one, module.two = tf.Variable([1.0, 1.0, 1.0]), tf.Variable([1.0, 1.0, 1.0])
    functions = {
        "serving_default": lambda x: {"y": x * module.one + 1.0},
        "same": lambda x: {"y": tf.add(tf.multiply(x, module.one, name="named"), 1.0)},
        "other_constant": lambda x: {"y": x * module.one + 2.0},
        "other_op": lambda x: {"y": x * module.one - 1.0},
        "other_variable": lambda x: {"y": x * module.two + 1.0},
        "other_output_name": lambda x: {"z": x * module.one + 1.0},
        "other_order": lambda x: {"y": 1.0 + x * module.one},
        "other_attribute": lambda x: {"y": tf.matmul(x, x, transpose_a=True)},
        "other_attribute_value": lambda x: {"y": tf.matmul(x, x, transpose_b=True)},
    }
    graphs = save_and_freeze(tmp_path, module, **functions).graphs
    hashes = {key: hash_graph(graph) for key, graph in graphs.items()}
    assert hashes.pop("same") == hashes["serving_default"]
    assert len(set(hashes.values())) == len(hashes)


def test_an_input_that_is_no_placeholder_becomes_one(tmp_path: pathlib.Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        x = tf.identity(v1.placeholder(tf.float32, [None, 3]), name="not_a_placeholder")
        keep = v1.placeholder_with_default(0.5, [], name="keep")
        v1.saved_model.simple_save(session, str(tmp_path / "v1"), {"x": x, "keep": keep}, {"y": x * keep})
    frozen = freeze(tmp_path / "v1")
    assert sorted(frozen.list_ops()) == ["Mul", "Placeholder", "Placeholder"]
    assert sorted(frozen.graph.input_tensors) == ["keep:0", "not_a_placeholder:0"]


def test_an_input_that_is_one_of_several_outputs_becomes_a_placeholder_of_its_own(tmp_path: pathlib.Path) -> None:
    """An estimator's signature names what its parser of examples gives."""
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        x, z = tf.split(v1.placeholder(tf.float32, [4, 3]), 2, name="halves")
        v1.saved_model.simple_save(session, str(tmp_path / "v1"), {"x": x, "z": z}, {"y": x - z, "x_again": x})
    frozen = freeze(tmp_path / "v1")
    assert sorted(frozen.graph.input_tensors) == ["halves/x:0", "halves/z:0"]
    assert frozen.list_ops().count("Split") == 0
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(frozen.graph.graph_def, name="")
        fed = {"halves/x:0": np.full([2, 3], 5.0), "halves/z:0": np.full([2, 3], 2.0)}
        with v1.Session(graph=graph) as session:
            given = dict(
                zip([s.name for s in frozen.graph.signature.outputs], frozen.graph.output_tensors, strict=True)
            )
            results = session.run(given, fed)
    np.testing.assert_array_equal(results["y"], np.full([2, 3], 3.0))
    np.testing.assert_array_equal(results["x_again"], np.full([2, 3], 5.0))


def test_a_read_that_waits_for_an_effect_becomes_a_placeholder_like_any_other(tmp_path: pathlib.Path) -> None:
    """The variable is never assigned, so when it is read does not matter; the effect itself is kept."""
    module = tf.Module()
    module.count, module.scale = tf.Variable(0.0), tf.Variable(2.0)

    def function(x: Any) -> Any:
        with tf.control_dependencies([module.count.assign_add(1.0)]):
            return {"y": tf.sqrt(x * module.scale.read_value())}

    frozen = save_and_freeze(tmp_path, module, serving_default=function)
    assert [weight.shape for weight in frozen.graph.weights] == [()]
    assert "ReadVariableOp" not in frozen.list_ops()
    assert frozen.list_ops().count("AssignAddVariableOp") == 1
    with tf.Graph().as_default():
        tf.graph_util.import_graph_def(frozen.graph.graph_def, name="")


def test_a_read_within_a_call_that_waits_for_an_effect_becomes_a_placeholder_too(tmp_path: pathlib.Path) -> None:
    module = tf.Module()
    module.scale = tf.Variable(2.0)
    inner = tf.function(lambda x: x * module.scale, autograph=False)

    def function(x: Any) -> Any:
        tf.raw_ops.Assert(condition=tf.reduce_all(x < 9.0), data=["too large"])
        return {"y": inner(x)}

    frozen = save_and_freeze(tmp_path, module, serving_default=function)
    assert "ReadVariableOp" not in frozen.list_ops()
    assert "Assert" in frozen.list_ops()
    with tf.Graph().as_default():
        tf.graph_util.import_graph_def(frozen.graph.graph_def, name="")
