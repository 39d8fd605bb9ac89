"""Passes before a strongly typed builder: the same results in float32, near ones in half precision, the same interface always."""

from __future__ import annotations

import pathlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from beforehand.precision.cast_to_half import cast_to_half  # noqa: E402
from beforehand.precision.choose_half import KEPT, LARGE, RANGE  # noqa: E402
from beforehand.precision.fold_constants import fold_constants  # noqa: E402
from beforehand.precision.fold_into_conv import fold_into_conv  # noqa: E402
from beforehand.precision.fold_pads import fold_pads  # noqa: E402
from beforehand.precision.formats import BF16, FP16  # noqa: E402
from beforehand.precision.join_layer_norm import join_layer_norm  # noqa: E402
from beforehand.precision.onnx_graph import OnnxGraph  # noqa: E402
from beforehand.precision.prepare_model import prepare_model  # noqa: E402
from beforehand.precision.widen_softmax import widen_softmax  # noqa: E402

CHANNELS = 6
Arrays = dict[str, "np.ndarray[Any, Any]"]


def save(folder: pathlib.Path, nodes: list[Any], constants: Arrays, inputs: dict[str, Any], outputs: list[str]) -> str:
    """Large constants in a second file, as the lowering writes them."""
    graph = helper.make_graph(
        [helper.make_node(op, ins, outs, name=f"n/{outs[0]}", **attributes) for op, ins, outs, attributes in nodes],
        "g",
        [helper.make_tensor_value_info(name, *form) for name, form in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    file = str(folder / "segment.onnx")
    onnx.save(model, file, save_as_external_data=True, location="segment.weights", size_threshold=100)
    return file


def write(model: OnnxGraph, folder: pathlib.Path) -> Any:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    file = model.write(out)
    return onnx.load(str(file))


def run(model: Any, **feeds: Any) -> list[Any]:
    return list(ReferenceEvaluator(model).run(None, feeds))


def count(model: Any) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


# ------------------------------------------------------------------------------------------------ layer normalisation

MOMENTS = [
    ("ReduceMean", ["x", "axes"], ["m"], {}),
    ("Sub", ["x", "m"], ["d"], {}),
    ("Mul", ["d", "d"], ["s"], {}),
    ("ReduceMean", ["s", "axes"], ["v"], {}),
    ("Add", ["v", "epsilon"], ["e"], {}),
    ("Sqrt", ["e"], ["root"], {}),
]
# What TensorFlow, Keras 3, and models from PyTorch make of them.
FORMS = {
    "tensorflow": [
        ("Reciprocal", ["root"], ["r"], {}),
        ("Mul", ["r", "g"], ["rg"], {}),
        ("Mul", ["x", "rg"], ["a"], {}),
        ("Mul", ["m", "rg"], ["c"], {}),
        ("Sub", ["b", "c"], ["o"], {}),
        ("Add", ["a", "o"], ["y"], {}),
    ],
    "keras": [
        ("Reciprocal", ["root"], ["r"], {}),
        ("Mul", ["r", "g"], ["rg"], {}),
        ("Mul", ["x", "rg"], ["a"], {}),
        ("Neg", ["m"], ["n"], {}),
        ("Mul", ["n", "rg"], ["c"], {}),
        ("Add", ["c", "b"], ["o"], {}),
        ("Add", ["a", "o"], ["y"], {}),
    ],
    "divided": [
        ("Div", ["d", "root"], ["q"], {}),
        ("Mul", ["q", "g"], ["a"], {}),
        ("Add", ["b", "a"], ["y"], {}),
    ],
    "no bias": [("Div", ["d", "root"], ["q"], {}), ("Mul", ["g", "q"], ["y"], {})],
    "centred again": [
        ("Sub", ["x", "m"], ["d2"], {}),
        ("Reciprocal", ["root"], ["r"], {}),
        ("Mul", ["d2", "r"], ["q"], {}),
        ("Mul", ["q", "g"], ["a"], {}),
        ("Add", ["a", "b"], ["y"], {}),
    ],
}  # fmt: skip


def make_norm(folder: pathlib.Path, form: list[Any], axis: int = -1, outputs: tuple[str, ...] = ("y",)) -> OnnxGraph:
    rng = np.random.default_rng(5)
    constants = {
        "axes": np.array([axis]), "epsilon": np.array(1e-3, np.float32),
        "g": rng.normal(size=(1, 1, CHANNELS)).astype(np.float32), "b": rng.normal(size=CHANNELS).astype(np.float32),
    }  # fmt: skip
    used = {name for _, inputs, _, _ in [*MOMENTS, *form] for name in inputs}
    constants = {name: value for name, value in constants.items() if name in used}
    inputs = {"x": (TensorProto.FLOAT, [None, None, CHANNELS])}
    return OnnxGraph(save(folder, [*MOMENTS, *form], constants, inputs, list(outputs)))


def draw(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(9).normal(2, 3, size=shape).astype(np.float32)


@pytest.mark.parametrize("axis", [-1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_a_norm_written_out_is_joined(form: str, axis: int, tmp_path: pathlib.Path) -> None:
    model = make_norm(tmp_path, FORMS[form], axis)
    x = draw(2, 5, CHANNELS)
    expected = run(onnx.load(str(tmp_path / "segment.onnx")), x=x)
    assert join_layer_norm(model) == 1
    joined = write(model, tmp_path)
    assert count(joined) == {"LayerNormalization": 1}
    np.testing.assert_allclose(run(joined, x=x)[0], expected[0], rtol=2e-5, atol=2e-5)


def test_what_else_reads_the_statistics_still_does(tmp_path: pathlib.Path) -> None:
    model = make_norm(tmp_path, FORMS["divided"], outputs=("y", "v", "q"))
    x = draw(2, 5, CHANNELS)
    expected = run(onnx.load(str(tmp_path / "segment.onnx")), x=x)
    assert join_layer_norm(model) == 1  # q has no scale that says how long it is: it stays as it was
    for found, wanted in zip(run(write(model, tmp_path), x=x), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    "form",
    [
        [("Add", ["d", "root"], ["q"], {}), ("Mul", ["q", "g"], ["y"], {})],
        [("Div", ["x", "root"], ["q"], {}), ("Mul", ["q", "g"], ["y"], {})],
        [("Div", ["d", "root"], ["q"], {}), ("Mul", ["q", "q"], ["p"], {}), ("Mul", ["p", "g"], ["y"], {})],
    ],
)
def test_what_is_no_norm_is_left(form: list[Any], tmp_path: pathlib.Path) -> None:
    model = make_norm(tmp_path, form)
    assert join_layer_norm(model) == 0


def test_a_norm_over_another_dimension_is_left(tmp_path: pathlib.Path) -> None:
    assert join_layer_norm(make_norm(tmp_path, FORMS["keras"], 1)) == 0


# -------------------------------------------------------------------------------------------------------- convolutions


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["Mul", "Add"]), st.booleans(), st.integers(1, 4)), max_size=4),
    biased=st.booleans(),
)
def test_scales_and_shifts_go_into_the_convolution(
    steps: list[Any], biased: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("conv")
    rng = np.random.default_rng(len(steps))
    constants = {"w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32)}
    if biased:
        constants["bias"] = rng.normal(size=4).astype(np.float32)
    nodes: list[Any] = [("Conv", ["x", "w", *(["bias"] if biased else [])], ["y0"], {})]
    for index, (op, swapped, rank) in enumerate(steps):
        shape = ([1, 4, 1, 1], [4, 1, 1], [1, 1], [])[rank - 1]
        constants[f"k{index}"] = rng.normal(size=shape).astype(np.float32)
        pair = [f"y{index}", f"k{index}"]
        nodes.append((op, pair[::-1] if swapped else pair, [f"y{index + 1}"], {}))
    nodes.append(("Relu", [f"y{len(steps)}"], ["out"], {}))
    model = OnnxGraph(save(folder, nodes, constants, {"x": (TensorProto.FLOAT, [None, 3, 5, 5])}, ["out"]))
    x = draw(2, 3, 5, 5)
    expected = run(onnx.load(str(folder / "segment.onnx")), x=x)[0]
    assert fold_into_conv(model) == len(steps)
    folded = write(model, folder)
    assert count(folded) == {"Conv": 1, "Relu": 1}
    np.testing.assert_allclose(run(folded, x=x)[0], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 1, 3, 1), (2, 1, 1, 1), (1, 4, 3, 3)])
def test_what_is_not_one_value_a_channel_is_left(shape: tuple[int, ...], tmp_path: pathlib.Path) -> None:
    constants = {"w": np.ones((4, 3, 3, 3), np.float32), "k": np.ones(shape, np.float32)}
    nodes = [("Conv", ["x", "w"], ["c"], {}), ("Mul", ["c", "k"], ["y"], {})]
    model = OnnxGraph(save(tmp_path, nodes, constants, {"x": (TensorProto.FLOAT, [None, 3, 5, 5])}, ["y"]))
    assert fold_into_conv(model) == 0


def test_a_convolution_that_is_read_twice_is_left(tmp_path: pathlib.Path) -> None:
    constants = {"w": np.ones((4, 3, 3, 3), np.float32), "k": np.full((1, 4, 1, 1), 2, np.float32)}
    nodes = [("Conv", ["x", "w"], ["c"], {}), ("Mul", ["c", "k"], ["m"], {}), ("Add", ["c", "m"], ["y"], {})]
    model = OnnxGraph(save(tmp_path, nodes, constants, {"x": (TensorProto.FLOAT, [None, 3, 5, 5])}, ["y"]))
    assert fold_into_conv(model) == 0


@settings(max_examples=20, deadline=None)
@given(
    amounts=st.lists(st.integers(0, 2), min_size=4, max_size=4), own=st.lists(st.integers(0, 1), min_size=4, max_size=4)
)
def test_zeros_around_an_image_go_into_the_convolution(
    amounts: list[int], own: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("pad")
    pads = np.array([0, 0, *amounts[:2], 0, 0, *amounts[2:]])
    constants = {"w": draw(4, 3, 3, 3), "pads": pads, "zero": np.array(0, np.float32)}
    nodes = [("Pad", ["x", "pads", "zero"], ["p"], {}), ("Conv", ["p", "w"], ["y"], {"pads": own, "strides": [2, 1]})]
    model = OnnxGraph(save(folder, nodes, constants, {"x": (TensorProto.FLOAT, [None, 3, 5, 6])}, ["y"]))
    x = draw(2, 3, 5, 6)
    expected = run(onnx.load(str(folder / "segment.onnx")), x=x)[0]
    assert fold_pads(model) == 1
    np.testing.assert_allclose(run(write(model, folder), x=x)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("pads", "value", "attributes"),
    [
        ([0, 0, 1, 1, 0, 0, 1, 1], 1.0, {}),
        ([0, 1, 1, 1, 0, 0, 1, 1], 0.0, {}),
        ([0, 0, -1, 1, 0, 0, 1, 1], 0.0, {}),
        ([0, 0, 1, 1, 0, 0, 1, 1], 0.0, {"mode": "reflect"}),
    ],
    ids=["ones", "channels", "crop", "reflected"],
)
def test_other_pads_are_left(pads: list[int], value: float, attributes: dict[str, Any], tmp_path: pathlib.Path) -> None:
    constants = {"w": draw(4, 4, 3, 3), "pads": np.array(pads), "value": np.array(value, np.float32)}
    nodes = [("Pad", ["x", "pads", "value"], ["p"], attributes), ("Conv", ["p", "w"], ["y"], {})]
    model = OnnxGraph(save(tmp_path, nodes, constants, {"x": (TensorProto.FLOAT, [None, None, 5, 6])}, ["y"]))
    assert fold_pads(model) == 0


def test_weights_are_turned_once(tmp_path: pathlib.Path) -> None:
    constants = {"w": draw(3, 3, 2, 4), "shape": np.array([4, -1]), "flat": draw(2, 2, 5), "again": np.array([0, 10])}
    nodes = [
        ("Transpose", ["w"], ["t"], {"perm": [3, 2, 0, 1]}),
        ("Conv", ["x", "t"], ["c"], {}),
        ("Transpose", ["flat"], ["reversed"], {}),
        ("Reshape", ["reversed", "shape"], ["square"], {}),
        ("ReduceMean", ["c"], ["mean"], {"keepdims": 0}),
        ("Mul", ["square", "mean"], ["y"], {}),
    ]  # fmt: skip
    del constants["again"]
    model = OnnxGraph(save(tmp_path, nodes, constants, {"x": (TensorProto.FLOAT, [None, 2, 5, 6])}, ["y"]))
    x = draw(2, 2, 5, 6)
    expected = run(onnx.load(str(tmp_path / "segment.onnx")), x=x)[0]
    assert fold_constants(model) == 3
    folded = write(model, tmp_path)
    assert count(folded) == {"Conv": 1, "ReduceMean": 1, "Mul": 1}
    np.testing.assert_allclose(run(folded, x=x)[0], expected, rtol=1e-5)


def test_gates_of_recurrent_layers_are_ordered_once_and_not_rounded(tmp_path: pathlib.Path) -> None:
    units = 4
    rng = np.random.default_rng(4)
    constants = {
        "kernel": rng.normal(size=(4 * units, 3)).astype(np.float32), "biases": rng.normal(size=(2, 4 * units)).astype(np.float32),
        "again": rng.normal(size=(1, 4 * units, units)).astype(np.float32), "zeros": np.zeros(4 * units, np.float32),
        "order": np.concatenate([np.arange(units) + units * gate for gate in (0, 3, 1, 2)]), "first": np.array([0]),
        "row": np.array(1),
    }  # fmt: skip
    nodes = [
        ("Gather", ["kernel", "order"], ["w"], {"axis": 0}),
        ("Unsqueeze", ["w", "first"], ["w1"], {}),
        ("Gather", ["biases", "row"], ["bias"], {}),
        ("Gather", ["bias", "order"], ["b"], {"axis": 0}),
        ("Concat", ["b", "zeros"], ["b2"], {"axis": 0}),
        ("Unsqueeze", ["b2", "first"], ["b1"], {}),
        ("LSTM", ["x", "w1", "again", "b1"], ["y"], {"hidden_size": units}),
    ]
    file = save(tmp_path, nodes, constants, {"x": (TensorProto.FLOAT, [5, 2, 3])}, ["y"])
    x = draw(5, 2, 3)
    expected = run(onnx.load(file), x=x)[0]
    (tmp_path / "prepared").mkdir()
    prepared = onnx.load(str(prepare_model(file, "FP16", tmp_path / "prepared").file))
    assert count(prepared) == {"LSTM": 1}
    np.testing.assert_allclose(run(prepared, x=x)[0], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("places", [[0, 0], [[0, 1]]], ids=["twice", "of rank 2"])
def test_rows_that_are_repeated_or_put_in_other_forms_are_left(places: Any, tmp_path: pathlib.Path) -> None:
    nodes = [("Gather", ["w", "places"], ["g"], {}), ("Add", ["x", "g"], ["y"], {})]
    constants = {"w": draw(3, 4), "places": np.array(places)}
    model = OnnxGraph(save(tmp_path, nodes, constants, {"x": (TensorProto.FLOAT, [None, 4])}, ["y"]))
    assert fold_constants(model) == 0


def test_a_constant_that_is_an_output_keeps_its_name(tmp_path: pathlib.Path) -> None:
    nodes = [("Transpose", ["w"], ["t"], {}), ("MatMul", ["x", "t"], ["y"], {})]
    model = OnnxGraph(save(tmp_path, nodes, {"w": draw(4, 3)}, {"x": (TensorProto.FLOAT, [None, 3])}, ["y", "t"]))
    assert fold_constants(model) == 1
    y, t = run(write(model, tmp_path), x=draw(2, 3))
    np.testing.assert_array_equal(t, draw(4, 3).T)
    np.testing.assert_allclose(y, draw(2, 3) @ draw(4, 3).T, rtol=1e-5)


# ------------------------------------------------------------------------------------------------------ half precision


def types_of(model: Any) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    found = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.input, *inferred.output)}
    return {**found, **{t.name: t.data_type for t in inferred.initializer}}


def computes_in(model: Any, op: str) -> set[int]:
    """The element types that nodes of this op give."""
    types = types_of(model)
    return {types[node.output[0]] for node in model.graph.node if node.op_type == op}


def make_masked(folder: pathlib.Path, fill: float) -> OnnxGraph:
    """Attention of one head, with a mask that is added: small enough for half precision, or not."""
    rng = np.random.default_rng(2)
    constants = {
        "q": rng.normal(size=(8, 8)).astype(np.float32), "k": rng.normal(size=(8, 8)).astype(np.float32),
        "one": np.array(1, np.float32), "fill": np.array(fill, np.float32),
    }  # fmt: skip
    nodes = [
        ("MatMul", ["x", "q"], ["xq"], {}),
        ("MatMul", ["x", "k"], ["xk"], {}),
        ("Transpose", ["xk"], ["t"], {"perm": [0, 2, 1]}),
        ("MatMul", ["xq", "t"], ["scores"], {}),
        ("Cast", ["mask"], ["m"], {"to": TensorProto.FLOAT}),
        ("Sub", ["one", "m"], ["hidden"], {}),
        ("Mul", ["hidden", "fill"], ["bias"], {}),
        ("Add", ["scores", "bias"], ["masked"], {}),
        ("Softmax", ["masked"], ["p"], {}),
        ("MatMul", ["p", "x"], ["y"], {}),
    ]
    inputs = {"x": (TensorProto.FLOAT, [None, None, 8]), "mask": (TensorProto.INT32, [None, 1, None])}
    return OnnxGraph(save(folder, nodes, constants, inputs, ["y"]))


@pytest.mark.parametrize("fill", [-1e4, -4.2e6, -3e38])
def test_attention_in_half_precision_is_near_with_any_mask(fill: float, tmp_path: pathlib.Path) -> None:
    model = make_masked(tmp_path, fill)
    x, mask = draw(2, 5, 8) / 3, np.array([[[1, 1, 1, 0, 0]], [[0, 0, 0, 0, 1]]], np.int32)
    expected = run(onnx.load(str(tmp_path / "segment.onnx")), x=x, mask=mask)[0]
    choice = cast_to_half(model, FP16)
    half = write(model, tmp_path)
    [found] = run(half, x=x, mask=mask)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-2)
    assert np.isfinite(found).all()
    assert computes_in(half, "MatMul") == {TensorProto.FLOAT16}
    assert computes_in(half, "Softmax") == {TensorProto.FLOAT}
    assert (RANGE in choice.reasons.values()) == (fill < -65504)
    assert (LARGE in choice.reasons.values()) == (fill < -65504)
    types = types_of(half)
    assert [types[name] for name in ("x", "mask", "y")] == [TensorProto.FLOAT, TensorProto.INT32, TensorProto.FLOAT]


def test_a_value_crosses_the_border_once(tmp_path: pathlib.Path) -> None:
    model = make_masked(tmp_path, -1e4)
    cast_to_half(model, FP16)
    casts = [node.input[0] for node in write(model, tmp_path).graph.node if node.op_type == "Cast"]
    assert sorted(casts) == sorted(set(casts))
    assert set(casts) == {"x", "mask", "p", "bias", "masked__half", "y__half"}


@pytest.mark.parametrize(
    ("scale", "kept"),
    [(1.0, False), (1e6, True), (1e-9, True), (0.0, False)],
    ids=["plain", "too large", "flushed", "zero"],
)
def test_weights_that_half_precision_cannot_hold_stay_in_float32(
    scale: float, kept: bool, tmp_path: pathlib.Path
) -> None:
    constants = {"w": draw(8, 4) * np.float32(scale)}
    model = OnnxGraph(
        save(tmp_path, [("MatMul", ["x", "w"], ["y"], {})], constants, {"x": (TensorProto.FLOAT, [None, 8])}, ["y"])
    )
    cast_to_half(model, FP16)
    half = write(model, tmp_path)
    assert computes_in(half, "MatMul") == {TensorProto.FLOAT if kept else TensorProto.FLOAT16}
    np.testing.assert_allclose(run(half, x=draw(2, 8))[0], draw(2, 8) @ constants["w"], rtol=2e-2, atol=2e-2 * scale)


def test_bfloat16_holds_what_float16_does_not(tmp_path: pathlib.Path) -> None:
    constants = {"w": draw(8, 4) * np.float32(1e6)}
    model = OnnxGraph(
        save(tmp_path, [("MatMul", ["x", "w"], ["y"], {})], constants, {"x": (TensorProto.FLOAT, [None, 8])}, ["y"])
    )
    cast_to_half(model, BF16)
    half = write(model, tmp_path)
    assert computes_in(half, "MatMul") == {TensorProto.BFLOAT16}


def test_sums_of_squares_roots_and_unknown_operations_stay_in_float32(tmp_path: pathlib.Path) -> None:
    nodes = [
        ("MatMul", ["x", "w"], ["a"], {}),
        ("Mul", ["a", "a"], ["s"], {}),
        ("ReduceSum", ["s"], ["t"], {"keepdims": 1}),
        ("Sqrt", ["t"], ["r"], {}),
        ("Div", ["a", "r"], ["y"], {}),
    ]
    model = OnnxGraph(save(tmp_path, nodes, {"w": draw(8, 4)}, {"x": (TensorProto.FLOAT, [None, 8])}, ["y"]))
    x = draw(3, 8) * 200  # its squares overflow in half precision
    expected = run(onnx.load(str(tmp_path / "segment.onnx")), x=x)[0]
    cast_to_half(model, FP16)
    half = write(model, tmp_path)
    for op in ("Mul", "ReduceSum", "Sqrt", "Div"):
        assert computes_in(half, op) == {TensorProto.FLOAT}, op
    np.testing.assert_allclose(run(half, x=x)[0], expected, atol=1e-2)


@pytest.mark.parametrize("half", [FP16, BF16], ids=["FP16", "BF16"])
def test_a_node_that_is_kept_stays_in_float32_and_its_neighbours_do_not(half: Any, tmp_path: pathlib.Path) -> None:
    constants = {f"w{i}": draw(8, 8) for i in range(3)}
    nodes = [("MatMul", [f"v{i}" if i else "x", f"w{i}"], [f"v{i + 1}" if i < 2 else "y"], {}) for i in range(3)]
    file = save(tmp_path, nodes, constants, {"x": (TensorProto.FLOAT, [4, 8])}, ["y"])
    model = OnnxGraph(file)
    choice = cast_to_half(model, half, frozenset(["n/v2"]))
    assert choice.half == (True, False, True)
    assert choice.reasons == {1: KEPT}
    x = draw(4, 8)
    whole, kept = (run(onnx.load(str(prepare_model(file, "FP16", _make(tmp_path, name), names).file)), x=x)[0]
                   for name, names in (("whole", ()), ("kept", ("n/v1", "n/v2", "n/y"))))  # fmt: skip
    exact = x @ constants["w0"] @ constants["w1"] @ constants["w2"]
    assert np.abs(kept - exact).max() < 1e-5 * np.abs(exact).max() < np.abs(whole - exact).max()


def _make(folder: pathlib.Path, name: str) -> pathlib.Path:
    (folder / name).mkdir()
    return folder / name


def test_bodies_of_branches_read_float32_and_so_do_outputs(tmp_path: pathlib.Path) -> None:
    def branch(name: str, op: str) -> Any:
        value = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["a"], [f"{name}_y"])], name, [], [value])

    nodes = [
        ("MatMul", ["x", "w"], ["a"], {}),
        ("If", ["yes"], ["b"], {"then_branch": branch("then", "Relu"), "else_branch": branch("else", "Neg")}),
        ("MatMul", ["b", "v"], ["y"], {}),
    ]
    inputs = {"x": (TensorProto.FLOAT, [None, 8]), "yes": (TensorProto.BOOL, [])}
    model = OnnxGraph(save(tmp_path, nodes, {"w": draw(8, 4), "v": draw(4, 4)}, inputs, ["y", "a"]))
    x = draw(3, 8)
    for yes in (True, False):
        expected = run(onnx.load(str(tmp_path / "segment.onnx")), x=x, yes=np.array(yes))
        if yes:
            cast_to_half(model, FP16)
        half = write(model, tmp_path)
        assert computes_in(half, "MatMul") == {TensorProto.FLOAT16}
        for found, wanted in zip(run(half, x=x, yes=np.array(yes)), expected, strict=True):
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=0.3)


@given(st.lists(st.floats(width=32, allow_nan=True), min_size=1, max_size=50))
def test_bfloat16_is_rounded_to_nearest_even(values: list[float]) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array(values, np.float32)
    found = (BF16.convert(array).astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        np.testing.assert_array_equal(found, array.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_the_log_says_what_computes_in_what_and_why(tmp_path: pathlib.Path) -> None:
    make_masked(tmp_path, -4.2e6)
    (tmp_path / "prepared").mkdir()
    told = prepare_model(str(tmp_path / "segment.onnx"), "FP16", tmp_path / "prepared").describe()
    assert "in half precision: MatMul 4, Transpose 1" in told
    assert "Mul (a constant is out of the range) 1" in told
    assert "Softmax (operation) 1" in told


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_a_softmax_of_the_models_own_float16_is_summed_in_float32(
    op: str, precision: str, tmp_path: pathlib.Path
) -> None:
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["p"], name="n/p", axis=-1), helper.make_node("Abs", ["p"], ["y"], name="n/y")],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, 70_000])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1, 70_000]) for name in ("y", "p")],
    )  # fmt: skip
    file = str(tmp_path / "segment.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), file)
    (tmp_path / "prepared").mkdir()
    prepared = onnx.load(str(prepare_model(file, precision, tmp_path / "prepared").file))
    onnx.checker.check_model(prepared, full_check=True)
    assert computes_in(prepared, op) == {TensorProto.FLOAT}
    x = np.zeros((1, 70_000), np.float16)
    for place, found in enumerate(run(prepared, x=x)):
        assert found.dtype == np.float16
        wanted = {"Softmax": (1 / 70_000, 1 / 70_000), "LogSoftmax": (np.log(70_000), -np.log(70_000))}[op]
        assert found.max() == pytest.approx(wanted[place], rel=2e-2)
    half = OnnxGraph(file)
    assert (widen_softmax(half), widen_softmax(half)) == (1, 0)


def test_the_log_does_not_call_float32_what_has_other_types(tmp_path: pathlib.Path) -> None:
    nodes = [
        ("Cast", ["x"], ["h"], {"to": TensorProto.FLOAT16}),
        ("Relu", ["h"], ["r"], {}),
        ("Cast", ["r"], ["y"], {"to": 1}),
    ]
    file = save(tmp_path, nodes, {}, {"x": (TensorProto.FLOAT, [None, 4])}, ["y"])
    (tmp_path / "prepared").mkdir()
    told = prepare_model(file, "FP16", tmp_path / "prepared").describe()
    assert "in float32: Cast (operation) 1" in told
    assert "Relu" not in told
