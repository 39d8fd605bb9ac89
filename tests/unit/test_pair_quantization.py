"""QuantizeLinear and DequantizeLinear side by side again: layout changes of activations after, of weights before; same answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from beforehand.lower.pair_quantization import pair_quantization  # noqa: E402

RNG = np.random.default_rng(6)
KERNEL = RNG.normal(0, 0.3, (3, 3, 4, 5)).astype(np.float32)
CONSTANTS: dict[str, Any] = {
    "kernel": KERNEL, "k_scale": (np.abs(KERNEL).max(axis=(0, 1, 2)) / 127).astype(np.float32),
    "k_zero": np.zeros(5, np.int8), "x_scale": np.float32(0.02), "x_zero": np.uint8(113),
    "shape": np.array([3, 3, 2, 2, 5]), "back": np.array([3, 3, 4, 5]),
}  # fmt: skip
TURN = {"perm": [3, 2, 0, 1]}
LEFT, RIGHT = {"perm": [0, 3, 1, 2]}, {"perm": [0, 2, 3, 1]}


def quantize(name: str, what: str, to: str, **attributes: Any) -> Any:
    return ("QuantizeLinear", [name, f"{what}_scale", f"{what}_zero"], [to], attributes)


def dequantize(name: str, what: str, to: str, **attributes: Any) -> Any:
    return ("DequantizeLinear", [name, f"{what}_scale", f"{what}_zero"], [to], attributes)


ACTIVATION = [
    quantize("x", "x", "xq"), ("Transpose", ["xq"], ["xt"], LEFT), dequantize("xt", "x", "xd"),
]  # fmt: skip
PLAIN = [quantize("x", "x", "xq"), dequantize("xq", "x", "xp"), ("Transpose", ["xp"], ["xd"], LEFT)]
WEIGHTS = {
    "between": [
        quantize("kernel", "k", "kq", axis=3), ("Transpose", ["kq"], ["kt"], TURN), dequantize("kt", "k", "kd", axis=0),
    ],
    "after": [
        quantize("kernel", "k", "kq", axis=3), dequantize("kq", "k", "kt", axis=3), ("Transpose", ["kt"], ["kd"], TURN),
    ],
}  # fmt: skip
CONV: list[Any] = [("Conv", ["xd", "kd"], ["y"], {})]


def make(nodes: list[Any]) -> Any:
    used = {name for _, inputs, _, _ in nodes for name in inputs}
    graph = helper.make_graph(
        [helper.make_node(op, ins, outs, **attributes) for op, ins, outs, attributes in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6, 6, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in CONSTANTS.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: Any) -> Any:
    x = np.random.default_rng(1).uniform(-2, 2.5, (1, 6, 6, 4)).astype(np.float32)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


def list_ops(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("activation", [ACTIVATION, PLAIN], ids=["between", "paired"])
def test_pairs_stand_together_and_answers_stay(activation: list[Any], weights: str) -> None:
    model = make([*activation, *WEIGHTS[weights], *CONV])
    expected = run(model)
    assert pair_quantization(model.graph, frozenset()) == (activation is ACTIVATION) + 1
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            assert makers[node.input[0]].op_type == "QuantizeLinear"
    [conv] = [node for node in model.graph.node if node.op_type == "Conv"]
    assert [makers[name].op_type for name in conv.input] == ["Transpose", "DequantizeLinear"]
    assert makers[conv.input[1]].attribute[0].i == 0
    np.testing.assert_allclose(run(model), expected, rtol=1e-5, atol=1e-5)
    before = model.SerializeToString()
    assert pair_quantization(model.graph, frozenset()) == 0
    assert model.SerializeToString() == before


def test_what_has_no_known_axis_stays() -> None:
    weights = [
        quantize("kernel", "k", "kq", axis=3), dequantize("kq", "k", "kp", axis=3), ("Reshape", ["kp", "shape"], ["kr"], {}),
        ("Reshape", ["kr", "back"], ["kb"], {}), ("Transpose", ["kb"], ["kd"], TURN),
    ]  # fmt: skip
    model = make([*PLAIN, *weights, *CONV])
    before = model.SerializeToString()
    assert pair_quantization(model.graph, frozenset()) == 0
    assert model.SerializeToString() == before


def test_a_graph_without_quantisation_stays() -> None:
    model = make([("Transpose", ["x"], ["t"], LEFT), ("Transpose", ["t"], ["y"], RIGHT)])
    before = model.SerializeToString()
    assert pair_quantization(model.graph, frozenset()) == 0
    assert model.SerializeToString() == before
