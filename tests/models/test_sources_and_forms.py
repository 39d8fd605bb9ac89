"""Other sources than a folder, other forms of samples, and models that are refused; in one process."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Callable
from typing import Any

import life_cycle
import numpy as np
import pytest

import beforehand
from beforehand import errors
from beforehand import trt_convert as trt

Make = Callable[[str], life_cycle.MadeModel]
WIDE, DEEP = np.zeros((2, 6), np.float32), np.zeros((2, 10), np.float32)


def convert_mlp(folder: pathlib.Path, **parameters: Any) -> trt.TrtGraphConverterV2:
    converter = trt.TrtGraphConverterV2(input_saved_model_dir=str(folder), **parameters)
    converter.convert()
    return converter


def list_identities(converter: trt.TrtGraphConverterV2) -> list[tuple[str, str]]:
    return [(engine.key, engine.sha256) for engine in converter._converter.engines]


def order_by_model(converter: trt.TrtGraphConverterV2) -> list[np.ndarray]:
    [signature] = converter._converter.signatures
    return [{"wide": WIDE, "deep": DEEP}[spec.name] for spec in signature.inputs]


def test_tuples_lists_dicts_generators_and_data_sets_give_the_same_engines(made_model: Make) -> None:
    import tensorflow as tf

    folder = made_model("mlp").folder
    identities = {}
    for name, make_source in {
        "tuple": lambda ordered: lambda: (tuple(ordered) for _ in range(2)),
        "list": lambda ordered: lambda: (list(ordered) for _ in range(2)),
        "dict": lambda ordered: lambda: iter([{"deep": DEEP, "wide": WIDE}]),
        "dict in another order": lambda ordered: [{"wide": WIDE, "deep": DEEP}],
        "tensors": lambda ordered: lambda: iter([tuple(map(tf.constant, ordered))]),
        "data set": lambda ordered: tf.data.Dataset.from_tensors({"wide": WIDE, "deep": DEEP}),
    }.items():
        converter = convert_mlp(folder)
        converter.build(input_fn=make_source(order_by_model(converter)))
        identities[name] = list_identities(converter)
    assert len(identities["list"]) == 1
    assert identities == dict.fromkeys(identities, identities["list"])


def test_a_keras_model_is_converted_as_an_object(tmp_path: pathlib.Path) -> None:
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(17)
    given = keras.Input((8, 8, 3), name="picture")
    x = keras.layers.Conv2D(6, 3, activation="relu")(given)
    model = keras.Model(given, keras.layers.Dense(5)(keras.layers.Flatten()(x)))
    pictures = np.random.default_rng(17).normal(size=(2, 8, 8, 3)).astype(np.float32)

    converter = beforehand.Converter(model)
    converter.convert()
    converter.build(shapes={"picture": (2, 8, 8, 3)})
    converter.save(tmp_path / "converted")
    loaded = tf.saved_model.load(str(tmp_path / "converted"))
    [answer] = loaded.signatures["serving_default"](picture=tf.constant(pictures)).values()
    served = loaded.serve(tf.constant(pictures))

    expected = np.asarray(model(pictures))
    assert np.ptp(expected, axis=0).min() > 1e-3
    np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(served, expected, rtol=1e-3, atol=1e-4)
    stats = beforehand.stats(loaded)
    assert sum(item["engine_calls"] for item in stats["signatures"].values()) == 2
    assert sum(item["native_calls"] for item in stats["signatures"].values()) == 0


def test_a_model_with_custom_gradients_is_saved_in_the_process_that_made_it(tmp_path: pathlib.Path) -> None:
    """TensorFlow's registry then has Keras's own gradient of silu, with tensors of a graph that is gone."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(19)
    given = keras.Input((6,), name="x")
    hidden = keras.layers.Activation("silu")(keras.layers.Dense(4)(given))
    model = keras.Model(given, keras.layers.Dense(3)(hidden))
    converter = beforehand.Converter(model)
    converter.convert()
    converter.build(shapes={"x": (2, 6)})
    for options in (None, tf.saved_model.SaveOptions(experimental_custom_gradients=True)):
        converter.save(tmp_path / "converted", options=options)
    assert options.experimental_custom_gradients  # the user's own is not changed
    x = np.random.default_rng(19).normal(size=(2, 6)).astype(np.float32)
    [answer] = tf.saved_model.load(str(tmp_path / "converted")).signatures["serving_default"](x=tf.constant(x)).values()
    np.testing.assert_allclose(answer, model(x), rtol=1e-3, atol=1e-4)


def test_a_module_is_converted_as_an_object_with_both_of_its_signatures(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    module = make_two_headed_module()
    x = tf.constant(np.random.default_rng(1).normal(size=(2, 5)).astype(np.float32))

    converter = beforehand.Converter(module)
    functions = converter.convert()
    for key in ("first", "second"):
        converter.build(shapes={"x": (2, 5)}, signature=key)
    converter.save(tmp_path / "converted")
    loaded = tf.saved_model.load(str(tmp_path / "converted"))

    assert sorted(functions) == sorted(loaded.signatures) == ["first", "second"]
    expected = {"first": module.first(x)["y"], "second": module.second(x)["z"]}
    for key, name in (("first", "y"), ("second", "z")):
        np.testing.assert_allclose(functions[key](x=x)[name], expected[key], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(loaded.signatures[key](x=x)[name], expected[key], rtol=1e-3, atol=1e-4)
    assert beforehand.stats(loaded)["signatures"] == {
        "first": {"engine_calls": 1, "native_calls": 0},
        "second": {"engine_calls": 1, "native_calls": 0},
    }


def make_two_headed_module() -> Any:
    import tensorflow as tf

    class TwoHeaded(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(np.random.default_rng(2).normal(size=(5, 7)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 5], tf.float32, name="x")])
        def first(self, x: Any) -> Any:
            return {"y": tf.nn.softmax(tf.nn.relu(x @ self.kernel))}

        @tf.function(input_signature=[tf.TensorSpec([None, 5], tf.float32, name="x")])
        def second(self, x: Any) -> Any:
            return {"z": tf.tanh(x @ self.kernel) * 2.0 + 1.0}

    return TwoHeaded()


@pytest.mark.parametrize(
    ("allowed", "follows"),
    [
        (False, "nothing is built later, neither at load nor at the first call."),
        (True, "until engines are built in the background."),
    ],
)
def test_save_without_build_warns_what_that_costs(
    allowed: bool, follows: str, made_model: Make, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    converter = convert_mlp(made_model("mlp").folder, allow_build_at_runtime=allowed)
    with caplog.at_level(logging.WARNING, "beforehand"):
        converter.save(str(tmp_path / "converted"))
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert f"{tmp_path / 'converted'} is saved without engines: build() was not called." in record.getMessage()
    assert follows in record.getMessage()


def test_a_model_with_nothing_to_convert_is_refused_with_the_reasons_counted(made_model: Make) -> None:
    with pytest.raises(errors.NothingConvertedError, match=r"^BH301 no part of .* can run in an engine") as raised:
        beforehand.Converter(made_model("only_unsupported").folder).convert()
    assert "op unsupported: 3" in str(raised.value)


def test_a_model_that_beforehand_converted_is_refused(made_model: Make, tmp_path: pathlib.Path) -> None:
    converter = convert_mlp(made_model("mlp").folder)
    converter.build(input_fn=lambda: iter([{"wide": WIDE, "deep": DEEP}]))
    converter.save(str(tmp_path / "converted"))
    with pytest.raises(errors.ConvertedSourceError, match=r"^BH204 .* was converted by beforehand already") as raised:
        beforehand.Converter(tmp_path / "converted").convert()
    assert "Try: convert the original SavedModel; to add shapes, call build() with them before save()." in str(
        raised.value
    )


@pytest.mark.parametrize("place", ["graph", "function"])
def test_a_model_that_tf_trt_converted_is_refused(place: str, tmp_path: pathlib.Path) -> None:
    """No TensorFlow of today makes such a model, so its file is written by hand."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta_graph = saved_model.meta_graphs.add()
    meta_graph.meta_info_def.tags.append("serve")
    if place == "graph":
        meta_graph.graph_def.node.add(name="TRTEngineOp_0_0", op="TRTEngineOp")
    else:
        function = meta_graph.graph_def.library.function.add()
        function.signature.name = "__inference_pruned_7"
        function.node_def.add(name="TRTEngineOp_0_0", op="TRTEngineOp")
    meta_graph.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
    (tmp_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())

    with pytest.raises(errors.ConvertedSourceError, match=r"^BH204 .* was converted by TF-TRT") as raised:
        trt.TrtGraphConverterV2(input_saved_model_dir=str(tmp_path)).convert()
    assert "it holds TRTEngineOp (TRTEngineOp_0_0)." in str(raised.value)
    assert "Try: convert the original SavedModel, the one that TF-TRT was given." in str(raised.value)


def test_a_model_that_counts_its_calls_before_all_else_still_counts_and_runs_engines(tmp_path: pathlib.Path) -> None:
    """Under control_dependencies, constants and reads of other variables wait for the count too."""
    import tensorflow as tf

    class Counting(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = tf.Variable(0.0)
            self.kernel = tf.Variable(np.random.default_rng(3).normal(size=(3, 4)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
        def call(self, x: Any) -> Any:
            with tf.control_dependencies([self.count.assign_add(1.0)]):
                return {"y": tf.nn.softmax(tf.tanh(x * 2.0) @ self.kernel + 1.0), "count": self.count.read_value()}

    module = Counting()
    converter = beforehand.Converter(module)
    converter.convert()
    converter.build(shapes={"x": (2, 3)})
    converter.save(tmp_path / "converted")
    loaded = tf.saved_model.load(str(tmp_path / "converted"))
    x = tf.constant([[0.1, 0.2, 0.3], [0.9, 0.5, -0.4]])
    [key] = loaded.signatures
    for _ in range(2):
        expected, found = module.call(x), loaded.signatures[key](x=x)
        np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(found["count"], expected["count"])
    assert beforehand.stats(loaded)["signatures"][key] == {"engine_calls": 2, "native_calls": 0}


def test_a_loop_of_tensorflow_1_stays_native_between_two_segments(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
            x = v1.placeholder(tf.float32, [None, 3], name="x")
            start = tf.nn.relu(x) * 2.0 + 1.0
            _, y = v1.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, tf.tanh(v * 2.0) + 1.0), [0, start])
            v1.saved_model.simple_save(session, str(tmp_path / "v1"), {"x": x}, {"y": tf.nn.softmax(y + 1.0) * 2.0})
    finally:
        v1.enable_control_flow_v2()
    converter = beforehand.Converter(tmp_path / "v1")
    functions = converter.convert()
    converter.build(shapes={"x": (2, 3)})
    x = tf.constant([[0.1, 0.2, 0.3], [0.9, 0.5, -0.4]])
    expected = tf.saved_model.load(str(tmp_path / "v1")).signatures["serving_default"](x=x)["y"]
    np.testing.assert_allclose(functions["serving_default"](x=x)["y"], expected, rtol=1e-3, atol=1e-4)
    assert beforehand.stats(functions["serving_default"])["signatures"]["serving_default"]["native_calls"] == 0
