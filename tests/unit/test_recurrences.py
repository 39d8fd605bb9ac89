"""Keras's recurrent layers become ONNX GRU and LSTM, give TensorFlow's answer as engines, and nothing else becomes one."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf

import beforehand
from beforehand.backends.tensorrt_flavours import RTX
from beforehand.converter import Converter

UNITS, WIDTH = 7, 5
MASKS = ("none", "right", "left", "interior", "rows", "random")
Make = Callable[[], Any]
LAYERS: dict[str, Make] = {
    f"{kind}_{sequences}_{bias}_{after}_{backwards}": lambda kind=kind, s=sequences, b=bias, a=after, g=backwards: (
        getattr(keras.layers, kind)(
            UNITS, return_sequences=s, use_bias=b, go_backwards=g, **({} if kind == "LSTM" else {"reset_after": a})
        )
    )
    for kind, after in (("GRU", True), ("GRU", False), ("LSTM", True))
    for sequences, bias, backwards in (
        (True, True, False),
        (False, True, False),
        (True, False, True),
        (False, False, False),
    )
}


def save_layers(folder: pathlib.Path, layers: dict[str, Make], masked: bool, length: int | None = None) -> Any:
    """One model in which each layer, of weights drawn at random, has an output of its own."""
    keras.utils.set_random_seed(3)
    given = keras.Input((length, WIDTH), name="x")
    mask = keras.Input((length,), dtype="bool", name="mask")
    outputs = {name: make()(given, mask=mask if masked else None) for name, make in layers.items()}
    model = keras.Model({"x": given, "mask": mask} if masked else {"x": given}, outputs)
    rng = np.random.default_rng(5)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.7, weight.shape))
    model.export(str(folder), verbose=False)
    return tf.saved_model.load(str(folder))


def draw_mask(kind: str, batch: int, length: int) -> np.ndarray[Any, Any]:
    mask = np.ones((batch, length), bool)
    middle = length // 2
    if kind == "right":
        mask[0, middle:] = False
    elif kind == "left":
        mask[0, :middle] = False
    elif kind == "interior":
        mask[0, middle : middle + 1] = False
    elif kind == "rows":
        mask[0] = False
    elif kind == "random":
        mask = np.random.default_rng(length).uniform(size=mask.shape) < 0.5
    return mask


def count_ops(converter: Converter) -> collections.Counter[str]:
    assert converter._converted is not None
    files = [item.onnx_file for item in converter._converted[1].lowered]
    graphs = [onnx.load(file, load_external_data=False).graph for file in files]
    return collections.Counter(node.op_type for graph in graphs for node in graph.node)


@pytest.mark.parametrize("masked", [False, True])
def test_keras_layers_are_one_node_each_and_give_the_same_as_in_tensorflow(
    tmp_path: pathlib.Path, masked: bool
) -> None:
    sizes = ((1, 1), (1, 6), (4, 9))
    source = save_layers(tmp_path / "source", LAYERS, masked)
    converter = beforehand.Converter(tmp_path / "source")
    converter.convert()
    ops = count_ops(converter)
    assert (ops["GRU"], ops["LSTM"], ops["Loop"]) == (8, 4, 0)
    shapes: list[Any] = [{"x": [*size, WIDTH], **({"mask": list(size)} if masked else {})} for size in sizes]
    converter.build(shapes=shapes)
    converter.save(tmp_path / "saved")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    rng = np.random.default_rng(7)
    for batch, length in sizes:
        for kind in MASKS if masked else MASKS[:1]:
            inputs = {"x": tf.constant(rng.normal(size=(batch, length, WIDTH)).astype(np.float32))}
            if masked:
                inputs["mask"] = tf.constant(draw_mask(kind, batch, length))
            want = source.signatures["serving_default"](**inputs)
            have = loaded.signatures["serving_default"](**inputs)
            for name, value in want.items():
                np.testing.assert_allclose(
                    have[name], value, rtol=1e-4, atol=2e-6, err_msg=f"{name}, {kind}, {batch} x {length}"
                )


@pytest.mark.parametrize("masked", [False, True])
def test_layers_of_a_known_length_are_one_node_each_too(tmp_path: pathlib.Path, masked: bool) -> None:
    """The length stands in the loop's condition then."""
    source = save_layers(tmp_path / "source", LAYERS, masked, 6)
    converter = beforehand.Converter(tmp_path / "source", progress="off")
    converter.convert()
    ops = count_ops(converter)
    assert (ops["GRU"], ops["LSTM"], ops["Loop"]) == (8, 4, 0)
    converter.build(shapes=[{"x": (4, 6, WIDTH), **({"mask": (4, 6)} if masked else {})}])
    converter.save(tmp_path / "saved")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    inputs = {"x": tf.constant(np.random.default_rng(7).normal(size=(4, 6, WIDTH)).astype(np.float32))}
    if masked:
        inputs["mask"] = tf.constant(draw_mask("random", 4, 6))
    have = loaded.signatures["serving_default"](**inputs)
    for name, value in source.signatures["serving_default"](**inputs).items():
        np.testing.assert_allclose(have[name], value, rtol=1e-4, atol=2e-6, err_msg=name)
    calls = beforehand.stats(loaded)["signatures"]["serving_default"]
    assert (calls["engine_calls"], calls["native_calls"]) == (len(converter.segments), 0)


@pytest.mark.parametrize(("steps", "recurrent"), [(6, 1), (4, 0)])
def test_a_loop_of_fewer_steps_than_the_sequence_has_stays_a_loop(
    tmp_path: pathlib.Path, steps: int, recurrent: int
) -> None:
    cell = keras.layers.LSTMCell(UNITS)
    cell.build((None, WIDTH))

    @tf.function(input_signature=[tf.TensorSpec((None, 6, WIDTH), tf.float32, name="x")])
    def serve(x: Any) -> dict[str, Any]:
        states = [tf.zeros((tf.shape(x)[0], UNITS))] * 2
        last, _, _ = keras.src.backend.rnn(cell, x, states, input_length=steps)
        return {"y": tf.ensure_shape(last, (None, UNITS))}

    module = tf.Module()
    module.weights, module.serve = cell.variables, serve
    module.kept = [variable.value for variable in cell.variables]
    tf.saved_model.save(module, str(tmp_path / "source"), signatures=serve)
    converter = beforehand.Converter(tmp_path / "source", progress="off")
    converter.convert()
    ops = count_ops(converter)
    assert (ops["LSTM"], ops["Loop"]) == (recurrent, 1 - recurrent)


class OtherOrder(keras.layers.GRUCell):
    """A GRU whose update gate takes the columns of the reset gate, and the other way round."""

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        [state] = states
        r, z, h = keras.ops.split(keras.ops.matmul(inputs, self.kernel), 3, axis=-1)
        again_r, again_z, again_h = keras.ops.split(keras.ops.matmul(state, self.recurrent_kernel), 3, axis=-1)
        z, r = keras.ops.sigmoid(z + again_z), keras.ops.sigmoid(r + again_r)
        new = z * state + (1 - z) * keras.ops.tanh(h + r * again_h)
        return new, [new]


LOOKALIKES: dict[str, Make] = {
    "other_order": lambda: keras.layers.RNN(OtherOrder(UNITS, use_bias=False)),
    "relu": lambda: keras.layers.GRU(UNITS, activation="relu"),
    "hard": lambda: keras.layers.LSTM(UNITS, recurrent_activation="hard_sigmoid"),
    "simple": lambda: keras.layers.SimpleRNN(UNITS),
}


def test_a_body_that_only_resembles_a_layer_stays_a_loop(tmp_path: pathlib.Path) -> None:
    save_layers(tmp_path / "source", LOOKALIKES, False)
    converter = beforehand.Converter(tmp_path / "source")
    converter.convert()
    ops = count_ops(converter)
    assert (ops["GRU"], ops["LSTM"], ops["Loop"]) == (0, 0, len(LOOKALIKES))


@pytest.mark.skipif(not RTX.find_module(), reason="TensorRT-RTX is not installed (beforehand[tensorrt-rtx])")
def test_loops_that_are_no_such_layer_are_built_by_tensorrt_too(tmp_path: pathlib.Path) -> None:
    save_layers(tmp_path / "source", {**LOOKALIKES, **{name: LAYERS[name] for name in tuple(LAYERS)[::5]}}, False)
    converter = beforehand.Converter(tmp_path / "source", backend="tensorrt-rtx", progress="off")
    converter.convert()
    ops = count_ops(converter)
    assert (ops["GRU"], ops["LSTM"], ops["Loop"], ops["Scan"]) == (2, 1, len(LOOKALIKES), 0)
    assert [node.op for _, node in converter._make_manifest(()).native_nodes if "While" in node.op] == []
    converter.build(shapes=[{"x": ((1, 4), (1, 9), WIDTH)}])
    assert len(converter.engines) == len(converter.segments)


def test_a_loop_that_cannot_be_written_is_what_stays_with_its_reason(tmp_path: pathlib.Path) -> None:
    """tf.scan writes its first result before the loop."""
    module = tf.Module()
    module.weight = tf.Variable(np.random.default_rng(1).normal(size=(WIDTH, 64)).astype(np.float32))
    spec = tf.TensorSpec([None, WIDTH], tf.float32, name="x")

    def call(x: Any) -> Any:
        steps = tf.scan(lambda last, step: tf.tanh(last * 0.5 + step), tf.nn.relu(x @ module.weight))
        return {"y": tf.nn.softmax(tf.tanh(steps) @ tf.transpose(module.weight))}

    module.call = tf.function(call, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(tmp_path / "source"), signatures=module.call)
    converter = beforehand.Converter(tmp_path / "source", progress="off")
    converter.convert()
    refused = [node for _, node in converter._make_manifest(()).native_nodes if node.reason == "refused by backend"]
    assert {node.op for node in refused} == {"StatelessWhile", "TensorListReserve", "TensorListSetItem"}
    assert "couldn't find scan output index" in next(node.detail for node in refused if "While" in node.op)
    assert len(converter.segments) == 2


def test_an_imported_engine_keeps_sequences_and_steps_apart_where_layers_follow_each_other(
    tmp_path: pathlib.Path,
) -> None:
    layers = keras.layers
    stacks: dict[str, Make] = {
        "lstm": lambda: keras.Sequential([layers.LSTM(UNITS, return_sequences=True) for _ in range(3)]),
        "gru": lambda: keras.Sequential([layers.GRU(UNITS, return_sequences=True) for _ in range(3)]),
        "both": lambda: layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True)),
    }
    plain = {name: (lambda make=make: lambda x, mask: make()(x)) for name, make in stacks.items()}
    source = save_layers(tmp_path / "source", plain, False)
    converter = beforehand.Converter(tmp_path / "source")
    converter.convert()
    converter.build(shapes=[{"x": [4, 9, WIDTH]}])
    converter.save(tmp_path / "saved")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    x = tf.constant(np.random.default_rng(11).normal(size=(4, 9, WIDTH)).astype(np.float32))
    have = loaded.signatures["serving_default"](x=x)
    for name, value in source.signatures["serving_default"](x=x).items():
        np.testing.assert_allclose(have[name], value, rtol=1e-4, atol=2e-6, err_msg=name)
