"""GELU written out, joined to one node: whoever wrote it, and not what only looks like it."""

from __future__ import annotations

import itertools
import math
import pathlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from beforehand.precision.cast_to_half import cast_to_half  # noqa: E402
from beforehand.precision.formats import FP16  # noqa: E402
from beforehand.precision.join_gelu import join_gelu  # noqa: E402
from beforehand.precision.onnx_graph import OnnxGraph  # noqa: E402
from beforehand.precision.prepare_model import prepare_model  # noqa: E402
from beforehand.precision.raise_opset import raise_opset  # noqa: E402

Node = tuple[str, list[str], str]
ROOT, SLOPE = math.sqrt(0.5), math.sqrt(2 / math.pi)
CONSTANTS = {
    "half": 0.5,
    "one": 1.0,
    "root": ROOT,
    "divisor": math.sqrt(2),
    "slope": SLOPE,
    "cube": 0.044715,
    "three": 3.0,
}

ERFS = {
    "keras": [
        ("Mul", ["half", "x"], "h"),
        ("Mul", ["x", "root"], "a"),
        ("Erf", ["a"], "e"),
        ("Add", ["one", "e"], "p"),
        ("Mul", ["h", "p"], "y"),
    ],
    "huggingface": [
        ("Div", ["x", "divisor"], "a"),
        ("Erf", ["a"], "e"),
        ("Add", ["e", "one"], "p"),
        ("Mul", ["half", "p"], "c"),
        ("Mul", ["x", "c"], "y"),
    ],
    "product first": [
        ("Div", ["x", "divisor"], "a"),
        ("Erf", ["a"], "e"),
        ("Add", ["e", "one"], "p"),
        ("Mul", ["x", "p"], "c"),
        ("Mul", ["c", "half"], "y"),
    ],
    "multiplied out": [
        ("Mul", ["x", "root"], "a"),
        ("Erf", ["a"], "e"),
        ("Mul", ["x", "e"], "xe"),
        ("Add", ["x", "xe"], "s"),
        ("Mul", ["s", "half"], "y"),
    ],
    "of the other side": [
        ("Neg", ["x"], "n"),
        ("Mul", ["n", "root"], "na"),
        ("Neg", ["na"], "a"),
        ("Erf", ["a"], "e"),
        ("Sub", ["e", "minus"], "p"),
        ("Mul", ["p", "half"], "c"),
        ("Mul", ["c", "x"], "y"),
    ],
}
TANHS = {
    "keras": [
        ("Mul", ["half", "x"], "h"),
        ("Pow", ["x", "three"], "x3"),
        ("Mul", ["cube", "x3"], "c3"),
        ("Add", ["x", "c3"], "i"),
        ("Mul", ["slope", "i"], "a"),
        ("Tanh", ["a"], "e"),
        ("Add", ["one", "e"], "p"),
        ("Mul", ["h", "p"], "y"),
    ],
    "squares": [
        ("Mul", ["x", "x"], "x2"),
        ("Mul", ["x2", "cube"], "c2"),
        ("Add", ["c2", "one"], "i"),
        ("Mul", ["x", "slope"], "sx"),
        ("Mul", ["sx", "i"], "a"),
        ("Tanh", ["a"], "e"),
        ("Add", ["e", "one"], "p"),
        ("Mul", ["p", "x"], "c"),
        ("Mul", ["c", "half"], "y"),
    ],
}
FORMS = {**{f"erf, {k}": v for k, v in ERFS.items()}, **{f"tanh, {k}": v for k, v in TANHS.items()}}


def make(
    folder: pathlib.Path, nodes: list[Node], *, outputs: tuple[str, ...] = ("y",), opset: int = 18,
    dtype: Any = np.float32, shape: tuple[int, ...] = (), **changed: float,
) -> str:  # fmt: skip
    """x goes into a first node, so that it is a value of the graph like any other; `shape` is that of the constants."""
    values = {**CONSTANTS, "minus": -1.0, "two": 2.0, **changed}
    used = {name for _, inputs, _ in nodes for name in inputs}
    constants = [
        numpy_helper.from_array(np.full(shape, value, dtype), name) for name, value in values.items() if name in used
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node("Relu", ["input"], ["given"]), helper.make_node("Neg", ["input"], ["x"])]
        + [helper.make_node(op, inputs, [output], name=f"n/{output}") for op, inputs, output in nodes],
        "g", [helper.make_tensor_value_info("input", kind, [None, 4])],
        [helper.make_tensor_value_info(name, kind, [None, 4]) for name in outputs], constants,
    )  # fmt: skip
    file = str(folder / "segment.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), file)
    return file


def join(file: str) -> tuple[int, Any]:
    """How many were joined, and the model then."""
    graph = OnnxGraph(file)
    count = join_gelu(graph)
    folder = pathlib.Path(file).parent / "out"
    folder.mkdir(exist_ok=True)
    model = onnx.load(str(graph.write(folder)))
    if count:
        onnx.checker.check_model(model, full_check=True)
    return count, model


def run(model: Any, x: Any) -> list[Any]:
    return list(ReferenceEvaluator(model).run(None, {"input": x}))


def draw(dtype: Any = np.float32) -> Any:
    return np.random.default_rng(3).normal(0, 3, (64, 4)).astype(dtype)


def list_ops(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("form", FORMS)
def test_gelu_written_out_is_joined(form: str, tmp_path: pathlib.Path) -> None:
    file = make(tmp_path, FORMS[form])
    count, joined = join(file)
    assert (count, list_ops(joined)) == (1, ["Neg", "Gelu"])
    gelu = joined.graph.node[-1]
    assert (gelu.name, [attribute.s for attribute in gelu.attribute]) == (
        "n/y",
        [b"tanh" if "tanh" in form else b"none"],
    )
    assert joined.opset_import[0].version == 20
    x = draw()
    np.testing.assert_allclose(run(joined, x)[0], run(onnx.load(file), x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_same_function_in_float64(form: str, tmp_path: pathlib.Path) -> None:
    """Of types that no segment has nothing is joined: the float32 model's result is put beside the formula."""
    assert join(make(tmp_path, FORMS[form], dtype=np.float64))[0] == 0
    x = draw()
    [written] = run(onnx.load(str(tmp_path / "segment.onnx")), x.astype(np.float64))
    _, joined = join(make(tmp_path, FORMS[form]))
    np.testing.assert_allclose(run(joined, x)[0], written, rtol=1e-5, atol=1e-6)


def test_onnxruntime_computes_the_same(tmp_path: pathlib.Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    for form, nodes in FORMS.items():
        file = make(tmp_path, nodes)
        _, joined = join(file)
        x = draw()
        both = [
            onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]
            for model in (file, joined.SerializeToString())
        ]
        np.testing.assert_allclose(both[1], both[0], rtol=1e-4, atol=1e-6, err_msg=form)


@settings(max_examples=40, deadline=None)
@given(form=st.sampled_from(sorted(FORMS)), swaps=st.lists(st.booleans(), min_size=9, max_size=9))
def test_any_order_of_operands(form: str, swaps: list[bool], tmp_path_factory: pytest.TempPathFactory) -> None:
    nodes = [
        (op, inputs[::-1] if swap and op in ("Add", "Mul") else inputs, output)
        for (op, inputs, output), swap in zip(FORMS[form], swaps, strict=False)
    ]
    count, joined = join(make(tmp_path_factory.mktemp("order"), nodes))
    assert (count, list_ops(joined)[-1]) == (1, "Gelu")


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_constants_rounded_to_the_type_of_the_graph_are_known(dtype: Any, tmp_path: pathlib.Path) -> None:
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    for form, nodes in FORMS.items():
        assert join(make(tmp_path, nodes, dtype=dtype))[0] == 1, form


@pytest.mark.parametrize(
    ("form", "changed"),
    [
        *(("erf, keras", {name: CONSTANTS[name] * 1.0001}) for name in ("half", "one", "root")),
        *(("tanh, keras", {name: CONSTANTS[name] * 1.0001}) for name in ("half", "one", "slope", "cube", "three")),
        ("erf, keras", {"root": 1.0}),
        ("erf, huggingface", {"divisor": 0.0}),
        ("erf, keras", {"root": -ROOT}),
        ("tanh, keras", {"three": 2.0}),
        ("tanh, keras", {"three": -3.0}),
        ("tanh, keras", {"cube": 0.0}),
        ("erf, keras", {"half": float("nan")}),
    ],
)
def test_other_constants_are_left(form: str, changed: dict[str, float], tmp_path: pathlib.Path) -> None:
    file = make(tmp_path, FORMS[form], **changed)
    count, model = join(file)
    assert (count, list_ops(model), model.opset_import[0].version) == (0, list_ops(onnx.load(file)), 18)


OTHER = {
    "another x in front": [("Mul", ["half", "given"], "h"), *ERFS["keras"][1:]],
    "one minus": [*ERFS["keras"][:3], ("Sub", ["one", "e"], "p"), ("Mul", ["h", "p"], "y")],
    "the other's argument": [(op.replace("Erf", "Tanh"), *rest) for op, *rest in ERFS["keras"]],
    "squared": [*ERFS["keras"][:4], ("Mul", ["p", "p"], "q"), ("Mul", ["h", "q"], "y")],
    "divided by it": [*ERFS["keras"][:4], ("Div", ["h", "p"], "y")],
    "half is missing": [*ERFS["huggingface"][:3], ("Mul", ["x", "p"], "y")],
}


@pytest.mark.parametrize("other", OTHER)
def test_what_is_no_gelu_is_left(other: str, tmp_path: pathlib.Path) -> None:
    assert join(make(tmp_path, OTHER[other]))[0] == 0


READ = [
    *((form, name) for form in ("erf, keras", "erf, multiplied out") for _, _, name in FORMS[form][:-1]),
    *(("tanh, keras", name) for _, _, name in FORMS["tanh, keras"][:-1]),
]


@pytest.mark.parametrize("how", ["an output", "a reader"])
@pytest.mark.parametrize(("form", "name"), READ)
def test_what_something_else_reads_a_part_of_is_left(form: str, name: str, how: str, tmp_path: pathlib.Path) -> None:
    reader = [("Relu", [name], "r")] if how == "a reader" else []
    file = make(tmp_path, [*FORMS[form], *reader], outputs=("y", "r" if reader else name))
    assert join(file)[0] == 0


def test_x_and_the_result_may_be_read_by_others(tmp_path: pathlib.Path) -> None:
    file = make(tmp_path, [*ERFS["keras"], ("Add", ["x", "y"], "z")], outputs=("z", "x", "y"))
    count, joined = join(file)
    assert (count, list_ops(joined)) == (1, ["Neg", "Gelu", "Add"])
    x = draw()
    for found, wanted in zip(run(joined, x), run(onnx.load(file), x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_one_after_the_other_are_joined_both(tmp_path: pathlib.Path) -> None:
    again = [
        (op, ["y" if name == "x" else f"{name}2" if name not in CONSTANTS else name for name in inputs], f"{output}2")
        for op, inputs, output in TANHS["keras"]
    ]
    file = make(tmp_path, [*ERFS["huggingface"], *again], outputs=("y2",))
    count, joined = join(file)
    assert (count, list_ops(joined)) == (2, ["Neg", "Gelu", "Gelu"])
    x = draw()
    np.testing.assert_allclose(run(joined, x)[0], run(onnx.load(file), x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "joined"), [((1,), 1), ((1, 1), 1), ((1, 1, 1), 0), ((4,), 0)])
def test_constants_that_change_the_shape_are_no_scalars(
    shape: tuple[int, ...], joined: int, tmp_path: pathlib.Path
) -> None:
    assert join(make(tmp_path, ERFS["keras"], shape=shape))[0] == joined


def test_where_a_node_means_another_thing_at_the_later_opset_nothing_is_joined(tmp_path: pathlib.Path) -> None:
    file = make(tmp_path, ERFS["keras"])
    model = onnx.load(file)
    model.graph.node.append(helper.make_node("GridSample", ["image", "grid"], ["sampled"], mode="bilinear"))
    model.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 3, last])
        for name, last in (("image", 4), ("grid", 2))
    )
    model.graph.output.append(helper.make_tensor_value_info("sampled", TensorProto.FLOAT, None))
    onnx.save(model, file)
    count, left = join(file)
    assert (count, left.opset_import[0].version, left.ir_version) == (0, 18, 8)
    body = helper.make_graph(
        [helper.make_node("GridSample", ["image", "grid"], ["s"])],
        "b",
        [],
        [helper.make_tensor_value_info("s", 1, None)],
    )
    model.graph.node[-1].CopyFrom(helper.make_node("If", ["yes"], ["sampled"], then_branch=body, else_branch=body))
    model.graph.input.append(helper.make_tensor_value_info("yes", TensorProto.BOOL, []))
    onnx.save(model, file)
    assert join(file)[0] == 0


def test_each_operation_that_the_opsets_changed_was_read(tmp_path: pathlib.Path) -> None:
    changed = set()
    for schema in onnx.defs.get_all_schemas():
        if schema.domain or not onnx.defs.has(schema.name, max_inclusive_version=18):
            continue
        if len({onnx.defs.get_schema(schema.name, version).since_version for version in (18, 20)}) == 2:
            changed.add(schema.name)
    refused = set()
    for name in changed:
        (tmp_path / name).mkdir()
        file = make(tmp_path / name, [(name, ["x"], "y")])
        if not raise_opset(OnnxGraph(file), 20):
            refused.add(name)
    assert "Cast" in changed
    assert refused == {"DFT", "GridSample"}
    assert not raise_opset(OnnxGraph(make(tmp_path, [("Relu", ["x"], "y")])), 21)
    assert not raise_opset(OnnxGraph(make(tmp_path, [("Relu", ["x"], "y")], opset=17)), 20)


def test_a_graph_of_a_later_opset_keeps_it(tmp_path: pathlib.Path) -> None:
    count, joined = join(make(tmp_path, ERFS["keras"], opset=21))
    assert (count, joined.opset_import[0].version) == (1, 21)


def test_it_computes_in_half_precision_after_a_product(tmp_path: pathlib.Path) -> None:
    constants = {"w": np.random.default_rng(2).normal(0, 0.5, (4, 4)).astype(np.float32)}
    file = make(tmp_path, ERFS["keras"])
    model = onnx.load(file)
    for node in model.graph.node:
        node.input[:] = ["z" if name == "x" else name for name in node.input]
    model.graph.node.insert(2, helper.make_node("MatMul", ["x", "w"], ["z"], name="n/z"))
    model.graph.initializer.append(numpy_helper.from_array(constants["w"], "w"))
    onnx.save(model, file)
    graph = OnnxGraph(file)
    assert join_gelu(graph) == 1
    cast_to_half(graph, FP16)
    (tmp_path / "half").mkdir()
    half = onnx.load(str(graph.write(tmp_path / "half")))
    assert list_ops(half) == ["Neg", "Cast", "MatMul", "Gelu", "Cast"]  # no cast between the two
    x = draw()
    np.testing.assert_allclose(run(half, x)[0], run(model, x)[0], rtol=5e-3, atol=5e-3)


def test_the_log_says_it(tmp_path: pathlib.Path) -> None:
    for place, (form, precision) in enumerate(itertools.product(("erf, keras", "tanh, squares"), ("FP32", "FP16"))):
        folder = tmp_path / str(place)
        folder.mkdir()
        told = prepare_model(make(tmp_path, FORMS[form]), precision, folder).describe()
        assert told.startswith("joined to LayerNormalization: 0, to Gelu: 1; nodes folded into convolutions: 0")
