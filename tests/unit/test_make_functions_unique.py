"""Each loop and branch with functions of its own: the same answers, every function called once, and owners told."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from beforehand.graph.control_flow import list_references
from beforehand.lower.make_functions_unique import find_owners, make_functions_unique
from beforehand.runtime.tensorflow_private import add_functions

X = np.array([1.0, -2.0], np.float32)


def loop(x: Any) -> Any:
    return tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 2.0), [0, x])[1]


def nested(x: Any) -> Any:
    def body(i: Any, v: Any) -> Any:
        return i + 1, tf.cond(v[0] > 4.0, lambda: v - 3.0, lambda: loop(v))

    return tf.while_loop(lambda i, v: i < 3, body, [0, x])[1]


def cases(x: Any) -> Any:
    return tf.switch_case(tf.cast(x[0], tf.int32), [lambda: x, lambda: x + 1.0, lambda: loop(x)])


GRAPHS = {function.__name__: function for function in (loop, nested, cases)}


def make_graph_def(function: Callable[[Any], Any]) -> tuple[Any, str]:
    spec = tf.TensorSpec([2], tf.float32, "x")
    graph = tf.function(function, autograph=False).get_concrete_function(spec).graph
    return graph.as_graph_def(), graph.outputs[0].name


def share_functions(function: Callable[[Any], Any]) -> tuple[Any, str]:
    """The graph with its control flow three times: three nodes that call the very same functions."""
    graph_def, output = make_graph_def(function)
    name = output.partition(":")[0]
    copies = list(graph_def.node)
    for index in (1, 2):
        for node in copies:
            if node.name != "x":
                added = graph_def.node.add()
                added.CopyFrom(node)
                added.name = f"copy_{index}/{node.name}"
                del added.input[:]
                added.input.extend(tensor if tensor == "x" else f"copy_{index}/{tensor}" for tensor in node.input)
    total = graph_def.node.add(name="total", op="AddN", input=[name, f"copy_1/{name}", f"copy_2/{name}"])
    total.attr["N"].i, total.attr["T"].type = 3, tf.float32.as_datatype_enum
    return graph_def, "total:0"


def run(graph_def: Any, output: str) -> Any:
    add_functions(graph_def)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        tf.graph_util.import_graph_def(graph_def, name="")
        return session.run(output, {"x:0": X})


def count_calls(graph_def: Any) -> collections.Counter[str]:
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    return collections.Counter(
        reference.name for nodes in bodies for node in nodes for reference in list_references(node)
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_every_function_is_called_once_and_the_answer_stays(name: str) -> None:
    graph_def, output = share_functions(GRAPHS[name])
    assert max(count_calls(graph_def).values()) == 3
    expected = run(graph_def, output)
    make_functions_unique(graph_def)
    calls = count_calls(graph_def)
    assert set(calls.values()) == {1}
    assert sorted(calls) == sorted(function.signature.name for function in graph_def.library.function)
    np.testing.assert_array_equal(run(graph_def, output), expected)


def test_a_function_that_two_others_call_is_copied_for_each() -> None:
    """Both branches run the same loop: one change of its body by the one would be a change for the other."""
    inner = tf.function(loop, autograph=False)
    graph_def, output = make_graph_def(lambda x: tf.cond(x[0] > 0, lambda: inner(x) + 1.0, lambda: inner(x) - 1.0))
    expected = run(graph_def, output)
    shared = [name for name, count in count_calls(graph_def).items() if count > 1]
    assert shared
    make_functions_unique(graph_def)
    assert set(count_calls(graph_def).values()) == {1}
    np.testing.assert_array_equal(run(graph_def, output), expected)


def test_functions_that_nobody_calls_go() -> None:
    graph_def, _ = make_graph_def(loop)
    idle = graph_def.library.function.add()
    idle.CopyFrom(graph_def.library.function[0])
    idle.signature.name = "idle"
    make_functions_unique(graph_def)
    names = [function.signature.name for function in graph_def.library.function]
    assert len(names) == 2
    assert not [name for name in names if name.startswith("idle")]


def test_equal_graphs_get_equal_names() -> None:
    first, _ = share_functions(nested)
    second = tf.compat.v1.GraphDef()
    second.CopyFrom(first)
    for graph_def in (first, second):
        make_functions_unique(graph_def)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_a_graph_without_control_flow_keeps_its_nodes() -> None:
    graph_def, _ = make_graph_def(lambda x: x + 1.0)
    before = tf.compat.v1.GraphDef()
    before.CopyFrom(graph_def)
    make_functions_unique(graph_def)
    assert list(graph_def.node) == list(before.node)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_owner_of_a_node_however_deep_is_the_node_of_the_graph(name: str) -> None:
    graph_def, _ = make_graph_def(GRAPHS[name])
    make_functions_unique(graph_def)
    owners = find_owners(graph_def)
    [owner] = [node.name for node in graph_def.node if list(list_references(node))]
    inner = [
        (function.signature.name, node.name) for function in graph_def.library.function for node in function.node_def
    ]
    assert inner
    for function, node in inner:
        assert owners[node] == owner
        assert owners[f"{function}_{node}"] == owner


def test_two_loops_own_what_is_in_their_own_bodies() -> None:
    graph_def, _ = share_functions(loop)
    make_functions_unique(graph_def)
    owners = find_owners(graph_def)
    loops = [node for node in graph_def.node if "While" in node.op]
    assert len(loops) == 3
    library = {function.signature.name: function for function in graph_def.library.function}
    for node in loops:
        for reference in list_references(node):
            for inner in library[reference.name].node_def:
                assert owners[f"{reference.name}_{inner.name}"] == node.name
