"""A TensorFlow function through the lowering and OpenVINO, beside TensorFlow's own answer; for the tests of the lowering."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from beforehand.backends.openvino import OpenVinoBackend
from beforehand.lower.cut_segment import CutSegment
from beforehand.lower.merge_dilations import merge_dilations
from beforehand.lower.translate import translate
from beforehand.lower.write_onnx import write_onnx
from beforehand.records import EngineSpec, ShapeSet
from beforehand.store import layout

_backend = OpenVinoBackend()


def cut_function(function: Callable[..., Any], specs: Sequence[tf.TensorSpec]) -> CutSegment:
    """The function as a segment whose inputs are its arguments."""
    inputs = [tf.TensorSpec(spec.shape, spec.dtype, f"input_{index}") for index, spec in enumerate(specs)]
    concrete = tf.function(function, autograph=False).get_concrete_function(*inputs)
    graph_def = concrete.graph.as_graph_def()
    for body in graph_def.library.function:  # as the functions of flat graphs, which say the shapes of their arguments
        shapes = body.attr["_input_shapes"].list.shape
        shapes.extend(tf.TensorShape(None).as_proto() for _ in range(len(body.signature.input_arg) - len(shapes)))
    return CutSegment(graph_def, tuple(t.name for t in concrete.inputs), tuple(t.name for t in concrete.outputs), ())


def lower_function(
    function: Callable[..., Any], specs: Sequence[tf.TensorSpec], folder: pathlib.Path
) -> tuple[str, int]:
    """The function as an ONNX file, and the number of its outputs."""
    cut = merge_dilations(cut_function(function, specs))
    write_onnx(translate(cut), cut, lambda weight: np.zeros(weight.shape), folder)
    return str(folder / layout.ONNX_MODEL), len(cut.outputs)


def run_lowered(
    function: Callable[..., Any], arrays: Sequence[np.ndarray[Any, Any]], *, static: bool = False
) -> list[np.ndarray[Any, Any]]:
    """The outputs of `function` as an engine of OpenVINO; it is lowered for any sizes unless `static`."""
    arrays = [np.asarray(array) for array in arrays]
    specs = [tf.TensorSpec(array.shape if static else [None] * array.ndim, array.dtype) for array in arrays]
    with tempfile.TemporaryDirectory() as folder:
        file, count = lower_function(function, specs, pathlib.Path(folder))
        names = tuple(f"input_{index}" for index in range(len(arrays)))
        shapes = ShapeSet(names, tuple(array.shape for array in arrays))
        outputs = tuple(f"output_{index}" for index in range(count))
        spec = EngineSpec("test", 0, file, names, outputs, shapes, "openvino", "", "FP32", "", (), "")
        data = np.array(bytearray(_backend.build(spec)))
    return _backend.load(data, names, outputs).run(arrays)


def compare_lowered(
    function: Callable[..., Any], *arrays: Any, rtol: float = 1e-5, atol: float = 1e-6, static: bool = False
) -> None:
    """Assert that engine and TensorFlow give the same, dtypes and shapes included; whole numbers exactly."""
    inputs = [np.asarray(array) for array in arrays]
    expected = tf.nest.flatten(tf.function(function, autograph=False)(*map(tf.constant, inputs)))
    for want, have in zip(expected, run_lowered(function, inputs, static=static), strict=True):
        assert have.dtype == want.dtype.as_numpy_dtype, f"{have.dtype} instead of {want.dtype.name}"
        assert have.shape == tuple(want.shape), f"{have.shape} instead of {want.shape}"
        if want.dtype.is_floating:
            np.testing.assert_allclose(have, want, rtol=rtol, atol=atol)
        else:
            np.testing.assert_array_equal(have, want)
