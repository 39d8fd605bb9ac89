"""What OpenVINO really says of models that it cannot read, and which nodes it blames."""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import numpy as np
import pytest

from beforehand.backends.openvino_errors import explain_refusal
from beforehand.backends.protocol import Refusal
from beforehand.backends.registry import find_backend

onnx = pytest.importorskip("onnx")
FLOAT = 1


def check(folder: pathlib.Path, nodes: list[Any], constants: dict[str, Any], *, rank: int = 2) -> Refusal | None:
    """The answer of the backend for nodes between `x` and `y`."""
    made = [onnx.helper.make_node(*item[:3], **item[3]) for item in nodes]
    values = [onnx.helper.make_tensor_value_info(name, FLOAT, [None] + [4] * (rank - 1)) for name in "xy"]
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = onnx.helper.make_graph(made, "g", values[:1], values[1:], initializers)
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("ai.onnx.contrib", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "segment.onnx")
    return find_backend("openvino").check_model(str(folder / "segment.onnx"))


def test_a_model_that_it_can_read_is_not_refused(tmp_path: pathlib.Path) -> None:
    assert check(tmp_path, [("Relu", ["x"], ["y"], {"name": "relu"})], {}) is None


def test_ops_without_a_rule_are_named_by_type_and_found_in_the_model(tmp_path: pathlib.Path) -> None:
    refused = check(
        tmp_path,
        [
            ("Foo", ["x"], ["a"], {"name": "scope/foo__1", "domain": "ai.onnx.contrib"}),
            ("Relu", ["a"], ["b"], {"name": "scope/relu"}),
            ("Bernoulli", ["b"], ["y"], {"name": "scope/toss"}),
        ],
        {},
    )
    assert refused == Refusal(
        "OpenVINO has no conversion rule for Bernoulli-18, ai.onnx.contrib.Foo", ("scope/foo__1", "scope/toss")
    )


def test_a_node_that_is_not_valid_is_named_by_its_output(tmp_path: pathlib.Path) -> None:
    nodes = [("Relu", ["x"], ["v1"], {"name": "relu"}), ("MatMul", ["v1", "w"], ["y"], {"name": "dense/MatMul"})]
    refused = check(tmp_path, nodes, {"w": np.ones((5, 4), np.float32)})
    assert refused is not None
    assert refused.nodes == ("dense/MatMul",)
    assert refused.reason.startswith("OpenVINO: Incompatible MatMul matrix dimension. First input dimension=4")
    assert "src/" not in refused.reason


def test_a_text_that_is_not_understood_is_told_without_nodes(tmp_path: pathlib.Path) -> None:
    assert explain_refusal("something new\n", str(tmp_path / "none")) == Refusal("OpenVINO: something new")
    assert len(explain_refusal("long " * 1000, str(tmp_path / "none")).reason) == 300


def test_without_onnx_a_refusal_is_told_without_nodes(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    refused = explain_refusal("-- No conversion rule found for operations: Det-18\n", str(tmp_path / "segment.onnx"))
    assert refused == Refusal("OpenVINO has no conversion rule for Det-18")
