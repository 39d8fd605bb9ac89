"""Nodes and the functions that they need as a GraphDef: none more, under names that no other graph's functions have."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from beforehand.freeze.to_graph_def import to_graph_def


def make_node(name: str, op: str, *inputs: str, calls: tuple[str, ...] = (), branches: tuple[str, ...] = ()) -> Any:
    """A node that names functions in attributes of their own, and in a list of them."""
    node = tf.compat.v1.NodeDef(name=name, op=op, input=inputs)
    for index, function in enumerate(calls):
        node.attr[f"f{index}"].func.name = function
    for function in branches:
        node.attr["branches"].list.func.add(name=function)
    return node


def make_library(**functions: list[Any]) -> dict[str, Any]:
    library = {}
    for name, nodes in functions.items():
        library[name] = tf.compat.v1.GraphDef().library.function.add()
        library[name].signature.name = name
        library[name].node_def.extend(nodes)
    return library


def write(nodes: list[Any], library: dict[str, Any]) -> Any:
    return to_graph_def({node.name: node for node in nodes}, library, tf.compat.v1.GraphDef().versions)


def list_library(graph_def: Any) -> list[str]:
    """The names of functions, as they were before a hash was put behind them."""
    return [function.signature.name.rpartition("_")[0] for function in graph_def.library.function]


LIBRARY = make_library(
    one=[make_node("a", "StatelessIf", calls=("two", "three"))],
    two=[make_node("b", "NoOp")],
    three=[make_node("c", "five")],
    four=[make_node("d", "NoOp")],
    five=[make_node("e", "StatelessCase", branches=("six", "three"))],
    six=[make_node("f", "StatelessCase", branches=("six",))],
)


@pytest.mark.parametrize(
    ("node", "needed"),
    [
        (make_node("n", "NoOp"), []),
        (make_node("n", "StatelessWhile", calls=("two", "four")), ["four", "two"]),
        (make_node("n", "StatelessCase", branches=("four", "two")), ["four", "two"]),
        (make_node("n", "four"), ["four"]),
        (make_node("n", "StatelessIf", calls=("one", "one")), ["five", "one", "six", "three", "two"]),
        (make_node("n", "StatelessIf", calls=("elsewhere",)), []),
    ],
    ids=["none", "attributes", "list", "op", "through others", "not in the library"],
)
def test_the_functions_that_are_needed_are_kept_and_no_others(node: Any, needed: list[str]) -> None:
    assert list_library(write([node], LIBRARY)) == needed


def test_whoever_names_a_function_names_the_one_in_the_library() -> None:
    graph_def = write(
        [make_node("n", "StatelessIf", calls=("one", "elsewhere")), make_node("m", "five", "n:0")], LIBRARY
    )
    given = {f.signature.name.rpartition("_")[0]: f.signature.name for f in graph_def.library.function}
    inner = [node for function in graph_def.library.function for node in function.node_def]
    nodes = {node.name: node for node in (*graph_def.node, *inner)}
    assert nodes["n"].attr["f0"].func.name == given["one"]
    assert nodes["n"].attr["f1"].func.name == "elsewhere"
    assert nodes["m"].op == nodes["c"].op == given["five"]
    assert [nodes["a"].attr[f"f{index}"].func.name for index in (0, 1)] == [given["two"], given["three"]]
    assert [function.name for function in nodes["e"].attr["branches"].list.func] == [given["six"], given["three"]]
    assert nodes["a"].op == "StatelessIf"


def test_another_content_gives_other_names_and_the_same_content_the_same() -> None:
    call = make_node("n", "StatelessIf", calls=("two", "four"))
    changed = {**LIBRARY, **make_library(four=[make_node("d", "Const")])}
    first, again, other = (write([call], library) for library in (LIBRARY, LIBRARY, changed))
    assert first == again
    names = [{function.signature.name for function in graph_def.library.function} for graph_def in (first, other)]
    assert not names[0] & names[1]


def test_nothing_that_is_given_is_changed() -> None:
    call = make_node("n", "StatelessIf", calls=("one", "five"), branches=("two",))
    before = [item.SerializeToString(deterministic=True) for item in (call, *LIBRARY.values())]
    write([call], LIBRARY)
    assert [item.SerializeToString(deterministic=True) for item in (call, *LIBRARY.values())] == before


def test_nodes_come_in_an_order_in_which_each_is_there_when_it_is_read() -> None:
    nodes = [
        make_node("a", "Neg", "b:0"),
        make_node("b", "Add", "d:0", "c:0", "^e"),
        *(make_node(n, "X") for n in "edc"),
    ]
    orders = [[node.name for node in write(given, {}).node] for given in (nodes, nodes[::-1])]
    assert orders[0] == orders[1]
    assert orders[0][-2:] == ["b", "a"]
    assert sorted(orders[0]) == list("abcde")
