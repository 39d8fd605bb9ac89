"""What TensorRT's parser made of a segment, beside the ONNX file itself and the shapes that were asked for; before it is built."""

from __future__ import annotations

import pathlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

import onnx

from beforehand.backends import tensorrt_build
from beforehand.backends.tensorrt_describe import NetworkDescription, describe_network
from beforehand.precision.prepare_model import prepare_model
from beforehand.records import EngineSpec

# Layers that have one kind of ONNX nodes each; the numbers: how many of them a node becomes.
COUNTED: dict[str, dict[str, int]] = {
    "CONVOLUTION": {"Conv": 1},
    "DECONVOLUTION": {"ConvTranspose": 1},
    "MATRIX_MULTIPLY": {"MatMul": 1, "Gemm": 1, "LSTM": 2, "GRU": 4},
    "POOLING": {"MaxPool": 1, "AveragePool": 1},
    "SOFTMAX": {"Softmax": 1},
    "RESIZE": {"Resize": 1},
    "CUMULATIVE": {"CumSum": 1},
    "SCATTER": {"ScatterND": 1},
    "TOPK": {"ArgMax": 1, "ArgMin": 1, "TopK": 1},
    "NORMALIZATION": {"LayerNormalization": 1},
    "TRIP_LIMIT": {"Loop": 1, "LSTM": 1, "GRU": 1},
    "CONDITION": {"If": 1},
}
# Kinds of activations that have one kind of ONNX nodes.
ACTIVATIONS = {"GELU_ERF": "none", "GELU_TANH": "tanh"}
# Whatever else the parser may write; plug-ins, and what TensorRT-RTX has no kernels for (NON_ZERO, NMS), are not among it.
OTHERS = {
    "ACTIVATION", "CAST", "CONCATENATION", "CONDITIONAL_INPUT", "CONDITIONAL_OUTPUT", "CONSTANT", "ELEMENTWISE",
    "FILL", "GATHER", "IDENTITY", "ITERATOR", "LOOP_OUTPUT", "RECURRENCE", "REDUCE", "REVERSE_SEQUENCE", "SELECT",
    "SHAPE", "SHUFFLE", "SLICE", "SQUEEZE", "UNARY", "UNSQUEEZE",
}  # fmt: skip
FLOATS = {"float16", "bfloat16", "float32", "float64"}


def check_network(trt: Any, spec: EngineSpec) -> None:
    """Assert that the network is what the ONNX file says, in the precision asked for, and its profile what the shapes say."""
    logger = tensorrt_build.make_logger(trt, is_silent=True)
    builder = trt.Builder(logger)
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare_model(spec.onnx_file, spec.precision, pathlib.Path(folder))
        parsed = tensorrt_build.parse(trt, logger, builder, str(prepared.file))
        assert parsed.refusal is None
        found = describe_network(trt, parsed.network, tensorrt_build._make_profile(builder, spec))
        check_description(found, onnx.load(str(prepared.file), load_external_data=False).graph, spec)


def check_description(found: NetworkDescription, graph: Any, spec: EngineSpec) -> None:
    original = onnx.load(spec.onnx_file, load_external_data=False).graph
    assert [value.name for value in original.input] == [value.name for value in graph.input]
    assert found.is_strongly_typed
    check_values(found.inputs, graph.input, spec.input_names)
    check_values(found.outputs, graph.output, spec.output_names)
    check_ranges(found, spec)
    ops = Counter(node.op_type for node in list_nodes(graph))
    for layer, made_of in COUNTED.items():
        assert found.layers.get(layer, 0) == sum(ops[op] * count for op, count in made_of.items()), layer
    gelus = Counter(read_approximation(node) for node in list_nodes(graph) if node.op_type == "Gelu")
    assert {kind: found.activations.get(kind, 0) for kind in ACTIVATIONS} == {
        kind: gelus[approximate] for kind, approximate in ACTIVATIONS.items()
    }
    assert not ops["Erf"], "what is written out computes in float32"
    assert set(found.layers) <= {*COUNTED, *OTHERS}
    half = {"FP16": "float16", "BF16": "bfloat16"}.get(spec.precision, "float32")
    floats = {layer: dtypes & FLOATS for layer, dtypes in found.dtypes.items()}
    assert all(dtypes <= {"float32", half} for dtypes in floats.values()), floats
    for layer in ("CONVOLUTION", "DECONVOLUTION"):
        assert found.dtypes.get(layer, {half}) == {half}, layer
    loops = sum(ops[op] for op in ("GRU", "If", "Loop", "LSTM"))  # what is in them stays in float32
    recurrent = {"float32"} if loops else set()
    assert found.dtypes.get("MATRIX_MULTIPLY", {half}) <= {half, *recurrent}
    assert found.dtypes.get("ITERATOR", {"float32"}) == {"float32"}


def read_approximation(gelu: Any) -> str:
    return next((attribute.s.decode() for attribute in gelu.attribute if attribute.name == "approximate"), "none")


def check_values(found: Any, values: Any, names: Any) -> None:
    """Names, dtypes and known dimensions; those of outputs that ONNX does not know, TensorRT may have found out."""
    assert [spec.name for spec in found] == list(names)
    wanted = {value.name: value.type.tensor_type for value in values}
    for spec in found:
        kind = wanted[spec.name]
        assert spec.dtype == onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
        assert len(dims) == len(spec.shape)
        assert all(want in (None, have) for want, have in zip(dims, spec.shape, strict=True))


def check_ranges(found: NetworkDescription, spec: EngineSpec) -> None:
    """The profile is of the shapes asked for, and where they differ the network has any size."""
    shapes = spec.shapes
    largest = shapes.max_shapes or shapes.shapes
    best = shapes.opt_shapes or largest
    assert found.ranges == {
        name: (tuple(shapes.shapes[place]), tuple(best[place]), tuple(largest[place]))
        for place, name in enumerate(spec.input_names)
    }
    for given in found.inputs:
        low, _, high = found.ranges[given.name]
        for dim, least, most in zip(given.shape or (), low, high, strict=True):
            assert dim is None or dim == least == most


def list_nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph, and those in its loops and branches."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from list_nodes(attribute.g)
