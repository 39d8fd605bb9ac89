"""Which layer a node belongs to: by its name, else by the nearest node that has one."""

from __future__ import annotations

import time

from beforehand.graph.name_layers import name_layers


def test_the_scopes_of_functions_are_no_layers() -> None:
    readers = {"StatefulPartitionedCall_1/PartitionedCall/model/dense/MatMul": (), "model/dense/Relu__12": ()}
    assert set(name_layers(readers).values()) == {"model/dense"}


def test_a_node_without_a_scope_belongs_to_the_nearest_that_reads_it_not_to_the_first() -> None:
    readers = {"MatMul": ("Relu",), "Relu": ("far/Add", "Tanh"), "Tanh": ("near/Add",), "far/Add": (), "near/Add": ()}
    assert name_layers(readers) == {
        "MatMul": "far", "Relu": "far", "Tanh": "near", "far/Add": "far", "near/Add": "near",
    }  # fmt: skip


def test_failing_that_it_belongs_where_its_input_comes_from_and_else_to_itself() -> None:
    readers = {
        "model/x/Add": ("Softmax",),
        "Softmax": ("Identity",),
        "Identity": (),
        "StatefulPartitionedCall/Print": (),
    }
    layers = name_layers(readers)
    assert layers["Softmax"] == layers["Identity"] == "model/x"
    assert layers["StatefulPartitionedCall/Print"] == "Print"


def test_a_graph_of_a_hundred_thousand_nodes_without_scopes_takes_a_moment() -> None:
    readers = {f"n{i}": (f"n{i + 1}",) for i in range(100_000)} | {"n100000": ()}
    start = time.perf_counter()
    assert name_layers(readers)["n7"] == "n7"
    assert time.perf_counter() - start < 5
