"""More ways of calling a converted model: each answers right, and by engines."""

from __future__ import annotations

import gc
import pathlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.contract.unusual_use.conftest import Runner, Saved, assert_close, count_calls

Load = Callable[[pathlib.Path], Any]
Expect = Callable[..., dict[str, np.ndarray]]


def freeze(function: Any) -> Any:
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(function)


def test_a_frozen_signature_takes_the_models_inputs_and_outlives_what_it_was_made_of(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    """The founding question's way: signature, freeze, call by position."""
    import tensorflow as tf

    import beforehand

    loaded = load(module_model.converted)
    key_holder = loaded.signatures["pair"]
    frozen = freeze(key_holder)
    assert [tensor.name for tensor in frozen.inputs] == ["a:0", "b:0"]
    both = {name: rng.normal(size=(2, 8)).astype(np.float32) for name in "ab"}
    expected = expect(module_model, both, "pair")

    def call() -> dict[str, Any]:
        return dict(zip(sorted(expected), frozen(tf.constant(both["a"]), tf.constant(both["b"])), strict=True))

    assert_close(call(), expected)
    assert count_calls(loaded) == (1, 0)
    engines = [engine for engine in beforehand.stats(loaded)["engines"] if engine["loads"]]
    assert len(engines) == 1
    del loaded, key_holder
    gc.collect()
    assert_close(call(), expected)
    assert "PyFuncStateless" in {
        node.op for function in frozen.graph.as_graph_def().library.function for node in function.node_def
    }


def test_a_frozen_function_still_asks_its_engines_when_the_model_is_gone(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen by a spy in the backend, as nobody holds the model whose counters one could ask."""
    import tensorflow as tf

    from beforehand.backends.openvino import OpenVinoExecutable

    calls, run = [], OpenVinoExecutable.run
    monkeypatch.setattr(OpenVinoExecutable, "run", lambda self, inputs: calls.append(1) or run(self, inputs))
    loaded = load(module_model.converted)
    frozen = freeze(loaded.signatures["serving_default"])  # TensorFlow needs the module while it freezes
    del loaded
    gc.collect()
    inputs = module_model.make_inputs(rng, 1)
    assert_close(frozen(tf.constant(inputs["x"]))[0], expect(module_model, inputs)["y"])
    assert len(calls) == 1


def test_an_input_that_is_constant_in_the_graph_gives_the_right_answer(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    """TensorFlow may fold such a call once and for all; the answer must be right each time all the same."""
    import tensorflow as tf

    loaded, inputs = load(module_model.converted), module_model.make_inputs(rng, 2)
    serve = loaded.signatures["serving_default"]
    call = tf.function(lambda: serve(x=tf.constant(inputs["x"])))
    for _ in range(3):
        assert_close(call(), expect(module_model, inputs))


def test_engines_run_in_loops_of_a_graph(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    import tensorflow as tf

    loaded = load(module_model.converted)
    serve = loaded.signatures["serving_default"]
    rows = rng.normal(size=(5, 1, 8)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, 1, 8], tf.float32)])
    def map_rows(values: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(lambda row: serve(x=row)["y"], values)

    expected = np.stack([expect(module_model, {"x": row})["y"] for row in rows])
    assert_close(map_rows(tf.constant(rows)), expected)
    assert count_calls(loaded) == (5, 0)


def test_engines_run_in_parallel_calls_of_a_dataset(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    import tensorflow as tf

    loaded = load(module_model.converted)
    serve = loaded.signatures["serving_default"]
    rows = rng.normal(size=(64, 8)).astype(np.float32)
    dataset = tf.data.Dataset.from_tensor_slices(rows).batch(2).map(lambda x: serve(x=x)["y"], num_parallel_calls=4)
    found = np.concatenate(list(dataset.as_numpy_iterator()))
    assert_close(found, expect(module_model, {"x": rows})["y"])
    assert count_calls(loaded) == (32, 0)


def test_eight_threads_open_an_engine_once_and_all_answers_are_right(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    import beforehand

    loaded = load(module_model.converted)
    serve = loaded.signatures["serving_default"]
    cases = [module_model.make_inputs(rng, 1 + i % 2) for i in range(16)]
    wants = [expect(module_model, inputs) for inputs in cases]
    with ThreadPoolExecutor(8) as pool:
        founds = list(pool.map(lambda i: serve(**cases[i % 16]), range(160)))
    for i, found in enumerate(founds):
        assert_close(found, wants[i % 16])
    assert count_calls(loaded) == (160, 0)
    assert sorted(engine["loads"] for engine in beforehand.stats(loaded)["engines"]) == [0, 0, 1, 1]


def test_eager_functions_around_a_signature_run_engines(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect, request: pytest.FixtureRequest
) -> None:
    import tensorflow as tf

    loaded, inputs = load(module_model.converted), module_model.make_inputs(rng, 2)
    around = tf.function(lambda x: {"y": 2 * loaded(x)["y"]})
    request.addfinalizer(lambda: tf.config.run_functions_eagerly(False))
    tf.config.run_functions_eagerly(True)
    found = around(tf.constant(inputs["x"]))
    assert_close({"y": found["y"] / 2}, expect(module_model, inputs))
    assert count_calls(loaded) == (1, 0)


def test_a_keras_model_that_holds_it_as_a_layer_runs_engines(
    keras_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    import keras

    import beforehand

    load(keras_model.converted)  # sets the environment
    inputs = keras_model.make_inputs(rng, 2)
    expected = expect(keras_model, inputs)["output_0"]
    layer = keras.layers.TFSMLayer(str(keras_model.converted), call_endpoint="serving_default")
    image = keras.Input((12, 12, 3), name="image")
    model = keras.Model(image, layer(image)["output_0"])
    assert_close(model(inputs["image"]), expected)
    assert_close(model.predict(inputs["image"], batch_size=2, verbose=0), expected)
    assert count_calls(layer._reloaded_obj)[0] >= 2
    assert beforehand.stats(layer) == beforehand.stats(layer._reloaded_obj)


MIRRORED = """
import numpy as np, tensorflow as tf, beforehand
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
original = tf.saved_model.load(arguments["source"]).signatures["serving_default"]
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rng, results = np.random.default_rng(), {}
def measure(name, loaded):
    serve = loaded.signatures["serving_default"]
    rows = [tf.constant(rng.normal(size=(1, 8)).astype("f4")) for _ in range(2)]
    values = strategy.experimental_distribute_values_from_function(lambda c: rows[c.replica_id_in_sync_group])
    for run in (strategy.run, tf.function(strategy.run)):
        found = strategy.experimental_local_results(run(lambda x: serve(x=x)["y"], args=(values,)))
        right = [bool(np.allclose(a, original(x=x)["y"], 1e-3, 1e-4)) for a, x in zip(found, rows)]
        results.setdefault(name, []).append(right)
    results[name].append(beforehand.stats(loaded)["signatures"]["serving_default"])
measure("loaded before", tf.saved_model.load(arguments["converted"]))
with strategy.scope():
    inside = tf.saved_model.load(arguments["converted"])
measure("loaded in its scope", inside)
report(**results)
"""


def test_engines_run_on_two_replicas_of_a_mirrored_strategy(module_model: Saved, run_python: Runner) -> None:
    found = run_python(MIRRORED, {"source": module_model.source, "converted": module_model.converted})
    for place in ("loaded before", "loaded in its scope"):
        assert found[place] == [[True, True], [True, True], {"engine_calls": 4, "native_calls": 0}], place


def test_two_models_in_one_module_are_counted_together(
    module_model: Saved, other_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    import tensorflow as tf

    outer = tf.Module()
    outer.first, outer.second = load(module_model.converted), load(other_model.converted)
    inputs = module_model.make_inputs(rng, 1)
    for _ in range(2):
        assert_close(outer.first.signatures["serving_default"](**inputs), expect(module_model, inputs))
    assert_close(outer.second.signatures["serving_default"](**inputs), expect(other_model, inputs))
    assert count_calls(outer.first) == (2, 0)
    assert count_calls(outer.second) == (1, 0)
    assert count_calls(outer) == (3, 0)
