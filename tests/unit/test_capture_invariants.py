"""ONNX loops without what they hand on unchanged: the same results, and every graph still valid."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest

from beforehand.lower.capture_invariants import capture_invariants

FLOAT, INT, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
node = onnx.helper.make_node


def value(name: str, dtype: int = FLOAT, shape: Any = (3,)) -> Any:
    return onnx.helper.make_tensor_value_info(name, dtype, shape)


def make_body(nodes: list[Any], outputs: list[str], scans: tuple[str, ...] = ()) -> Any:
    """A body that carries `w` and `v`; it goes on for as long as it is asked to."""
    inputs = [value("i", INT, ()), value("go", BOOL, ()), value("w_in"), value("v_in")]
    nodes = [node("Identity", ["go"], ["go_on"]), *nodes]
    results = [value("go_on", BOOL, ()), *(value(name) for name in (*outputs, *scans))]
    return onnx.helper.make_graph(nodes, "body", inputs, results)


def make_model(body: Any, loop_outputs: list[str], nodes: list[Any], outputs: list[Any]) -> Any:
    constants = [onnx.numpy_helper.from_array(np.int64(3), "trips"), onnx.numpy_helper.from_array(np.True_, "yes")]
    loop = node("Loop", ["trips", "yes", "w", "v"], loop_outputs, body=body)
    graph = onnx.helper.make_graph([loop, *nodes], "g", [value("w"), value("v")], outputs, constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)


STEP = node("Add", ["v_in", "w_in"], ["v_next"])
PRODUCT = node("Mul", ["w_out", "v_out"], ["y"])
CASES = {
    "one invariant": make_model(make_body([STEP], ["w_in", "v_next"]), ["w_out", "v_out"], [PRODUCT], [value("y")]),
    "an invariant that is an output of the graph": make_model(
        make_body([STEP], ["w_in", "v_next"]), ["w_out", "v_out"], [], [value("w_out"), value("v_out")]
    ),
    "an invariant that another output takes": make_model(
        make_body([], ["w_in", "w_in"]), ["w_out", "v_out"], [PRODUCT], [value("y")]
    ),
    "all are invariant, and one is collected": make_model(
        make_body([STEP], ["w_in", "v_in"], ("v_next",)),
        ["w_out", "v_out", "all"],
        [node("Add", ["all", "w_out"], ["y"])],
        [value("y", FLOAT, (3, 3))],
    ),
    "an invariant that is collected": make_model(
        make_body([STEP], ["w_in", "v_next"], ("w_in",)),
        ["w_out", "v_out", "all"],
        [node("Add", ["all", "v_out"], ["y"])],
        [value("y", FLOAT, (3, 3))],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_loop_without_its_invariants_gives_the_same(name: str) -> None:
    model = CASES[name]
    onnx.checker.check_model(model, full_check=True)
    rng = np.random.default_rng(5)
    feeds = {key: rng.normal(size=3).astype(np.float32) for key in ("w", "v")}
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    capture_invariants(changed.graph)
    onnx.checker.check_model(changed, full_check=True)
    [loop] = [item for item in changed.graph.node if item.op_type == "Loop"]
    [body] = [attribute.g for attribute in loop.attribute]
    kept = {item.name for item in body.input} & {item.name for item in body.output}
    assert not kept, "OpenVINO refuses an input that is an output"
    assert len(loop.input) < 4
    made = {item.name for item in body.input} | {output for inner in body.node for output in inner.output}
    assert {item.name for item in body.output} <= made, "an output of the body that nobody makes"
    results = [onnx.reference.ReferenceEvaluator(item).run(None, feeds) for item in (model, changed)]
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
