"""An OpenVINO engine's outputs are the caller's own, large or small, in one thread or in many."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from beforehand.backends.openvino import OpenVinoExecutable, make_aligned

LARGE, SMALL = 40_000, 10  # float32: more and less than what is copied
Open = Callable[[int], OpenVinoExecutable]


@pytest.fixture
def open_engine() -> Open:
    """An engine of x (n): doubled, x itself, and whether x is greater than 0."""

    def make(size: int) -> OpenVinoExecutable:
        from beforehand.backends.import_openvino import import_openvino

        openvino = import_openvino()

        two = helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])
        zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
        nodes = [
            helper.make_node("Mul", ["x", "two"], ["doubled"]),
            helper.make_node("Identity", ["x"], ["same"]),
            helper.make_node("Greater", ["x", "zero"], ["positive"]),
        ]
        graph = helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size])],
            [
                helper.make_tensor_value_info("doubled", TensorProto.FLOAT, [size]),
                helper.make_tensor_value_info("same", TensorProto.FLOAT, [size]),
                helper.make_tensor_value_info("positive", TensorProto.BOOL, [size]),
            ],
            [two, zero],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(onnx.ModelProto.SerializeToString(model)), "CPU")
        return OpenVinoExecutable(compiled, None, ["x"], ["positive", "doubled", "same"])

    return make


def check(outputs: list[np.ndarray[Any, Any]], x: np.ndarray[Any, Any]) -> None:
    for found, expected in zip(outputs, [x > 0, 2 * x, x], strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_outputs_do_not_change_at_later_calls_nor_when_the_input_does(size: int, open_engine: Open) -> None:
    engine, rng = open_engine(size), np.random.default_rng()
    inputs = [rng.normal(size=size).astype(np.float32) for _ in range(4)]
    expected = [x.copy() for x in inputs]
    found = [engine.run([x]) for x in inputs]
    for x in inputs:
        x[:] = 7
    for outputs, x in zip(found, expected, strict=True):
        check(outputs, x)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_eight_threads_get_each_their_own_answers(size: int, open_engine: Open) -> None:
    engine, rng = open_engine(size), np.random.default_rng()
    inputs = [rng.normal(size=size).astype(np.float32) for _ in range(64)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda x: engine.run([x]), inputs))
    for outputs, x in zip(found, inputs, strict=True):
        check(outputs, x)


def test_inputs_that_cannot_be_shared_are_copied(open_engine: Open) -> None:
    engine = open_engine(SMALL)
    frozen = np.arange(SMALL, dtype=np.float32)
    frozen.flags.writeable = False
    check(engine.run([frozen]), frozen)
    strided = np.arange(2 * SMALL, dtype=np.float32)[::2]
    check(engine.run([strided]), strided)


def test_large_outputs_are_aligned_as_tensorflow_wants_them(open_engine: Open) -> None:
    _, doubled, _ = open_engine(LARGE).run([np.ones(LARGE, np.float32)])
    assert doubled.ctypes.data % 64 == 0
    assert all(make_aligned((n, 3), np.dtype(np.int64)).ctypes.data % 64 == 0 for n in range(1, 50, 7))


@pytest.mark.parametrize("how", ["read-only", "with strides"])
def test_an_input_that_has_to_be_copied_is_kept_until_it_was_read(how: str, open_engine: Open) -> None:
    """A request holds no reference: the copy's memory was another's by the time it was read, and answers were wrong."""
    executable = open_engine(SMALL)
    share, shared = executable._share, []

    def spy(array: np.ndarray[Any, Any]) -> Any:
        shared.append(weakref.ref(array))
        return share(array)

    class Request:
        def __init__(self, request: Any) -> None:
            self.set_input_tensor = request.set_input_tensor
            self.set_output_tensor = request.set_output_tensor
            self._infer = request.infer

        def infer(self, **more: Any) -> Any:
            assert [array() is not None for array in shared] == [True]
            return self._infer(**more)

    executable._share = spy
    executable._idle.append(Request(executable._compiled.create_infer_request()))
    x = np.linspace(-1, 1, 2 * SMALL).astype(np.float32)[::2]
    if how == "read-only":
        x = x.copy()
        x.flags.writeable = False
    check(executable.run([x]), x)
