"""Small ONNX models as segments, and engines built of them, without TensorFlow."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np

from beforehand.backends.registry import find_backend
from beforehand.build_engines.build_engine import build_engine
from beforehand.build_engines.plan_engines import make_key
from beforehand.records import Engine, EngineSpec, Shape, ShapeSet
from beforehand.store.hashing import hash_file

BACKEND = "tensorrt-rtx"
CHANNELS = 8


def write_conv_net(folder: pathlib.Path) -> Any:
    """Two convolutions, a mean over the image, a matrix product and a softmax, of batches of any size; the model."""
    import onnx
    from onnx import helper

    rng = np.random.default_rng(3)

    def constant(name: str, *shape: int) -> Any:
        return onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32) / 4, name)

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="model/conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="model/relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="model/conv2", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["c2"], ["pooled"], name="model/pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="model/flat"),
        helper.make_node("MatMul", ["flat", "w3"], ["logits"], name="model/dense"),
        helper.make_node("Softmax", ["logits"], ["y"], name="model/softmax"),
    ]
    weights = [
        constant("w1", CHANNELS, 3, 3, 3),
        constant("w2", CHANNELS, CHANNELS, 3, 3),
        constant("w3", CHANNELS, 10),
    ]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 3, 32, 32])
    outputs = [
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 10]),
        helper.make_tensor_value_info("flat", onnx.TensorProto.FLOAT, [None, CHANNELS]),
    ]
    return save(folder, helper.make_graph(nodes, "g", [x], outputs, weights))


def write_encoder(folder: pathlib.Path, width: int = 128, heads: int = 4) -> Any:
    """A layer of a transformer, its normalisations written out as TensorFlow does, of batches and lengths of any size."""
    import onnx
    from onnx import helper

    rng = np.random.default_rng(4)
    constants: dict[str, np.ndarray[Any, Any]] = {
        "axes": np.array([2]), "epsilon": np.array(1e-6, np.float32), "scale": np.array(0.25, np.float32),
        "split": np.array([0, 0, heads, width // heads]), "merge": np.array([0, 0, width]),
    }  # fmt: skip
    for name, shape in {**dict.fromkeys("qkvo", (width, width)), "up": (width, 256), "down": (256, width)}.items():
        constants[name] = (rng.normal(size=shape) / shape[0] ** 0.5).astype(np.float32)
    for name in ("g1", "b1", "g2", "b2"):
        constants[name] = rng.normal(size=width).astype(np.float32)
    nodes: list[Any] = []

    def add(op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output], name=f"model/{output}", **attributes))
        return output

    def normalise(x: str, name: str, scale: str, bias: str) -> str:
        mean = add("ReduceMean", [x, "axes"], f"{name}_mean")
        centred = add("Sub", [x, mean], f"{name}_centred")
        squares = add("Mul", [centred, centred], f"{name}_squares")
        variance = add("Add", [add("ReduceMean", [squares, "axes"], f"{name}_var"), "epsilon"], f"{name}_eps")
        root = add("Reciprocal", [add("Sqrt", [variance], f"{name}_sqrt")], f"{name}_root")
        factor = add("Mul", [root, scale], f"{name}_factor")
        shift = add("Sub", [bias, add("Mul", [mean, factor], f"{name}_shifted")], f"{name}_shift")
        return add("Add", [add("Mul", [x, factor], f"{name}_scaled"), shift], name)

    split = {}
    for name in "qkv":
        made = add("Reshape", [add("MatMul", ["x", name], f"{name}_m"), "split"], f"{name}_r")
        split[name] = add("Transpose", [made], f"{name}_t", perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3])
    scores = add("Mul", [add("MatMul", [split["q"], split["k"]], "scores"), "scale"], "scaled")
    context = add("MatMul", [add("Softmax", [scores], "p", axis=-1), split["v"]], "context")
    merged = add("Reshape", [add("Transpose", [context], "turned", perm=[0, 2, 1, 3]), "merge"], "merged")
    attended = normalise(add("Add", ["x", add("MatMul", [merged, "o"], "projected")], "sum1"), "norm1", "g1", "b1")
    hidden = add("Relu", [add("MatMul", [attended, "up"], "wide")], "hidden")
    normalise(add("Add", [attended, add("MatMul", [hidden, "down"], "narrow")], "sum2"), "y", "g2", "b2")
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, None, width]) for name in "xy")
    return save(folder, helper.make_graph(nodes, "g", [x], [y], weights))


def write_sums(folder: pathlib.Path) -> Any:
    """Two means over an image, and a softmax over 70,000 equal values between two products, all after a product."""
    import onnx
    from onnx import helper

    many = 70_000
    constants = {
        "w": np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1), "axes": np.array([2, 3]),
        "same": np.full((8, many), 1e-3, np.float32), "ones": np.ones((many, 4), np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="model/conv"),
        helper.make_node("ReduceMean", ["c", "axes"], ["mean"], name="model/mean", keepdims=0),
        helper.make_node("GlobalAveragePool", ["c"], ["pooled"], name="model/pooled"),
        helper.make_node("MatMul", ["mean", "same"], ["logits"], name="model/logits"),
        helper.make_node("Softmax", ["logits"], ["p"], name="model/softmax", axis=-1),
        helper.make_node("MatMul", ["p", "ones"], ["spread"], name="model/spread"),
    ]
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 8, 64, 64])
    forms = {"mean": [None, 8], "pooled": [None, 8, 1, 1], "spread": [None, 4]}
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, form) for name, form in forms.items()]
    return save(folder, helper.make_graph(nodes, "g", [x], outputs, weights))


def write_counted(folder: pathlib.Path) -> Any:
    """Outputs whose size comes of the values: how many rows begin with a positive number; the model.

    Of what gives such outputs, TensorRT-RTX 1.4.0.76 builds these: Range, Slice, TopK and ConstantOfShape whose ends are computed.
    NonZero and NonMaxSuppression have no runners there, Unique and Compress no importer.
    """
    import onnx
    from onnx import helper

    nodes = [
        helper.make_node("Gather", ["x", "zero"], ["first"], name="model/first", axis=1),
        helper.make_node("Greater", ["first", "nothing"], ["positive"], name="model/positive"),
        helper.make_node("Cast", ["positive"], ["ones"], name="model/ones", to=onnx.TensorProto.INT64),
        helper.make_node("ReduceSum", ["ones"], ["count"], name="model/count", keepdims=0),
        helper.make_node("Unsqueeze", ["count", "axis"], ["end"], name="model/end"),
        helper.make_node("Range", ["zero", "count", "one"], ["places"], name="model/places"),
        helper.make_node("Relu", ["x"], ["r"], name="model/relu"),
        helper.make_node("Slice", ["r", "axis", "end", "axis"], ["rows"], name="model/rows"),
        helper.make_node("ConstantOfShape", ["end"], ["zeros"], name="model/zeros"),
        helper.make_node("Unsqueeze", ["zeros", "next"], ["column"], name="model/column"),
        helper.make_node("Add", ["column", "bias"], ["filled"], name="model/filled"),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array(value, dtype), name)
        for name, value, dtype in (
            ("zero", 0, np.int64), ("one", 1, np.int64), ("axis", [0], np.int64), ("next", [1], np.int64),
            ("nothing", 0, np.float32), ("bias", [1, 2, 3], np.float32),
        )
    ]  # fmt: skip
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, CHANNELS])
    outputs = [
        helper.make_tensor_value_info("places", onnx.TensorProto.INT64, [None]),
        helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, [None, CHANNELS]),
        helper.make_tensor_value_info("filled", onnx.TensorProto.FLOAT, [None, 3]),
    ]
    return save(folder, helper.make_graph(nodes, "g", [x], outputs, constants))


def save(folder: pathlib.Path, graph: Any) -> Any:
    import onnx

    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "segment.onnx")
    return model


def build(folder: pathlib.Path, model: Any, low: Shape, high: Shape = (), **changed: Any) -> Engine:
    """Build the model in `folder` for its one input."""
    file = folder / "segment.onnx"
    backend = find_backend(BACKEND)
    spec = EngineSpec(
        "TRTEngineOp_000_000", 0, str(file), ("x",), tuple(value.name for value in model.graph.output),
        ShapeSet(("x",), (low,), (high,) if high else ()), BACKEND, backend.find_version(), "FP32",
        backend.describe_target(""), (), "", graph="digest", onnx_sha256=hash_file(file),
    )  # fmt: skip
    spec = dataclasses.replace(spec, **changed)
    return build_engine(dataclasses.replace(spec, key=make_key(spec)), folder)


def load(folder: pathlib.Path, engine: Engine) -> Any:
    data = np.frombuffer((folder / engine.file).read_bytes(), np.uint8)
    return find_backend(BACKEND).load(data, engine.input_names, engine.output_names)


def compute(model: Any, x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """What the model gives, by ONNX's reference implementation, in float64 where it can."""
    from onnx.reference import ReferenceEvaluator

    return list(ReferenceEvaluator(model).run(None, {"x": x}))
