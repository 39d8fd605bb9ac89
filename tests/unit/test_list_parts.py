"""Which nodes are one part: those of a layer, and what translating made of it without giving it a name."""

from __future__ import annotations

import pathlib
from typing import Any

import onnx
from onnx import TensorProto, helper

from beforehand.accuracy.list_parts import list_parts


def save(folder: pathlib.Path, nodes: list[tuple[str, list[str], list[str], str]]) -> str:
    made = [helper.make_node(op, ins, outs, name=name, **_attributes(op)) for op, ins, outs, name in nodes]
    graph = helper.make_graph(
        made, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info(nodes[-1][2][0], TensorProto.FLOAT, None)],
        [helper.make_tensor("w", TensorProto.FLOAT, [4, 4], [0.0] * 16)],
    )  # fmt: skip
    file = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), file)
    return str(file)


def _attributes(op: str) -> dict[str, Any]:
    return {"to": TensorProto.INT64} if op == "Cast" else {}


def test_nodes_are_grouped_by_scope_in_the_order_in_which_they_compute(tmp_path: pathlib.Path) -> None:
    file = save(
        tmp_path,
        [
            ("MatMul", ["x", "w"], ["a"], "StatefulPartitionedCall/model/dense_1/MatMul"),
            ("Relu", ["a"], ["b"], "StatefulPartitionedCall/model/dense_1/Relu__3"),
            ("MatMul", ["b", "w"], ["c"], "PartitionedCall_1/model/dense_2/MatMul"),
            ("Relu", ["c"], ["y"], "PartitionedCall_1/model/dense_2/Relu"),
        ],
    )
    assert list_parts(file) == {
        "model/dense_1": (
            "StatefulPartitionedCall/model/dense_1/MatMul",
            "StatefulPartitionedCall/model/dense_1/Relu__3",
        ),
        "model/dense_2": ("PartitionedCall_1/model/dense_2/MatMul", "PartitionedCall_1/model/dense_2/Relu"),
    }


def test_nodes_without_a_scope_belong_where_their_result_goes_else_where_they_come_from(tmp_path: pathlib.Path) -> None:
    file = save(
        tmp_path,
        [
            ("MatMul", ["x", "w"], ["a"], "MatMul"),
            ("Relu", ["a"], ["b"], "Relu__2"),
            ("Add", ["b", "b"], ["c"], "model/query/Add"),
            ("Tanh", ["c"], ["y"], "Tanh"),
        ],
    )
    assert list_parts(file) == {"model/query": ("MatMul", "Relu__2", "model/query/Add", "Tanh")}


def test_where_nothing_has_a_scope_each_node_is_a_part_and_whole_numbers_are_none(tmp_path: pathlib.Path) -> None:
    file = save(
        tmp_path,
        [
            ("MatMul", ["x", "w"], ["a"], "MatMul"),
            ("Shape", ["a"], ["s"], "Shape"),
            ("Reshape", ["a", "s"], ["b"], "Reshape"),
            ("Relu", ["b"], ["y"], "Relu_1"),
        ],
    )
    assert list_parts(file) == {"MatMul": ("MatMul",), "Reshape": ("Reshape",), "Relu_1": ("Relu_1",)}
