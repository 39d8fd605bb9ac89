"""Copies that TensorFlow alone makes of a converted model: they answer natively everywhere, and by engines with beforehand."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.contract.unusual_use.conftest import Runner, Saved, assert_close, count_calls

MAKE_COPIES = """
import tensorflow as tf
def save(what, name, serve):
    tf.saved_model.save(what, arguments["out"] + "/" + name, signatures={"serving_default": serve})
natively = tf.saved_model.load(arguments["module"])
save(natively, "natively", natively.signatures["serving_default"])
assert "beforehand" not in sys.modules
import beforehand
first, second = (tf.saved_model.load(arguments[name]) for name in ("module", "other"))
with beforehand.disabled():
    save(first, "disabled", first.signatures["serving_default"])
both = tf.Module()
both.first, both.second = first, second
@tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, name="x")])
def sum_both(x):
    return {"y": first.signatures["serving_default"](x=x)["y"] + second(x)["y"]}
both.sum_both = sum_both
sum_both(tf.ones([2, 8]))
save(both, "both", sum_both)
again = tf.saved_model.load(arguments["out"] + "/both")
save(again, "both_again", again.signatures["serving_default"])
# As Keras exports a layer: the variables are tracked, the object that turns engines on is not.
variables_only = tf.Module()
variables_only.kept = [first.beforehand_weights.packed["float32"], first.beforehand_engines.switch]
@tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, name="x")])
def call_first(x):
    return first(x)
variables_only.call_first = call_first
save(variables_only, "variables_only", call_first)
beforehand.enable(natively)
natively.signatures["serving_default"](x=tf.ones([1, 8]))
outer = tf.Module()
outer.inner = tf.Module()
outer.inner.model = natively
save(outer, "enabled_inside", natively.signatures["serving_default"])
report(done=True)
"""

ANSWER = """
import numpy as np, tensorflow as tf
from tensorflow.python.trackable.resource import CapturableResource
def list_switches(node, seen):
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, CapturableResource) and hasattr(node, "switch"):
        yield [int(node.switch), int(node.resource_handle)]
    elif isinstance(node, tf.__internal__.tracking.Trackable):
        for child in node._trackable_children().values():
            yield from list_switches(child, seen)
x, results, switches = np.load(arguments["x"]), {}, {}
for name in arguments["names"]:
    loaded = tf.saved_model.load(arguments["out"] + "/" + name)
    switches[name] = list(list_switches(loaded, set()))
    try:
        results[name] = loaded.signatures["serving_default"](x=x)["y"].numpy().tolist()
    except tf.errors.OpError as error:
        results[name] = str(error)
report(results=results, switches=switches, imported="beforehand" in sys.modules)
"""


@dataclasses.dataclass(frozen=True)
class Copies:
    folder: pathlib.Path
    names = ("natively", "disabled", "both", "both_again", "variables_only", "enabled_inside")


@pytest.fixture(scope="session")
def copies(
    module_model: Saved, other_model: Saved, run_python: Runner, tmp_path_factory: pytest.TempPathFactory
) -> Copies:
    out = tmp_path_factory.mktemp("copies")
    run_python(MAKE_COPIES, {"module": module_model.converted, "other": other_model.converted, "out": out})
    return Copies(out)


@pytest.fixture
def inputs(module_model: Saved, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return module_model.make_inputs(rng, 2)


@pytest.fixture
def answers(
    inputs: dict[str, np.ndarray], module_model: Saved, other_model: Saved, expect: Callable[..., Any]
) -> dict[str, np.ndarray]:
    """TensorFlow's answer for each copy."""
    first, second = (expect(saved, inputs)["y"] for saved in (module_model, other_model))
    return {name: first + second if name.startswith("both") else first for name in Copies.names}


def test_every_copy_answers_natively_and_none_carries_a_switch_that_is_on(
    copies: Copies,
    inputs: dict[str, np.ndarray],
    answers: dict[str, np.ndarray],
    run_python: Runner,
    tmp_path: pathlib.Path,
) -> None:
    np.save(tmp_path / "x.npy", inputs["x"])
    found = run_python(ANSWER, {"x": tmp_path / "x.npy", "out": copies.folder, "names": copies.names})
    assert not found["imported"]
    assert {name: text for name, text in found["results"].items() if isinstance(text, str)} == {}
    for name in copies.names:
        assert_close(np.array(found["results"][name], np.float32), answers[name], exact=True)
        assert len(found["switches"][name]) == {"variables_only": 0, "both": 2, "both_again": 2}.get(name, 1)
        for switch, key in found["switches"][name]:
            assert switch != key, name


@pytest.mark.parametrize("name", Copies.names)
def test_the_c_api_runs_the_copy(
    name: str,
    copies: Copies,
    inputs: dict[str, np.ndarray],
    answers: dict[str, np.ndarray],
    run_python: Runner,
) -> None:
    assert_close(run_python.run_c_api(copies.folder / name, "serving_default", inputs)["y"], answers[name], exact=True)


@pytest.mark.parametrize(("name", "engine_calls"), [("disabled", 1), ("both", 2), ("both_again", 2)])
def test_with_beforehand_the_copy_runs_the_engines_of_each_model_it_holds(
    *,
    name: str,
    engine_calls: int,
    copies: Copies,
    inputs: dict[str, np.ndarray],
    answers: dict[str, np.ndarray],
    load: Callable[[pathlib.Path], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from beforehand.backends.openvino import OpenVinoExecutable

    calls, run = [], OpenVinoExecutable.run
    monkeypatch.setattr(OpenVinoExecutable, "run", lambda self, inputs: calls.append(1) or run(self, inputs))
    loaded = load(copies.folder / name)
    assert_close(loaded.signatures["serving_default"](**inputs)["y"], answers[name])
    assert len(calls) == engine_calls
    assert count_calls(loaded) == (engine_calls, 0)


@pytest.mark.parametrize("name", ["natively", "enabled_inside"])
def test_a_copy_of_a_model_that_was_loaded_without_beforehand_answers_right_with_it(
    name: str,
    copies: Copies,
    inputs: dict[str, np.ndarray],
    answers: dict[str, np.ndarray],
    load: Callable[[pathlib.Path], Any],
) -> None:
    """TensorFlow saved what it knew: no class, no engines. It may not be asked for them, and `enable` may not break it."""
    import beforehand

    loaded = load(copies.folder / name)
    assert_close(loaded.signatures["serving_default"](**inputs)["y"], answers[name], exact=True)
    beforehand.enable(loaded)
    assert_close(loaded.signatures["serving_default"](**inputs)["y"], answers[name])


def test_gradients_through_a_copy_are_refused(
    copies: Copies, inputs: dict[str, np.ndarray], load: Callable[[pathlib.Path], Any]
) -> None:
    import tensorflow as tf

    def find_gradient(serve: Any, x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = serve(x=x)["y"]
        return tape.gradient(y, x)

    for name in sorted({*copies.names} - {"variables_only"}):  # whether that one answers at all is told above
        loaded = load(copies.folder / name)
        with pytest.raises(LookupError, match="BH412"):
            find_gradient(loaded.signatures["serving_default"], tf.constant(inputs["x"]))


def test_a_copy_is_refused_as_a_source(copies: Copies) -> None:
    import beforehand

    for name in sorted({*copies.names} - {"variables_only"}):
        with pytest.raises(beforehand.errors.ConvertedSourceError, match=r"^BH204 "):
            beforehand.Converter(copies.folder / name).convert()


KERAS = """
import keras, numpy as np, tensorflow as tf, beforehand
layer = keras.layers.TFSMLayer(arguments["converted"], call_endpoint="serving_default")
image = keras.Input((12, 12, 3), name="image")
model = keras.Model(image, layer(image)["output_0"])
model(np.ones((1, 12, 12, 3), "f4"))
model.export(arguments["out"], verbose=False)
report(done=True)
"""


def test_a_keras_model_that_holds_it_as_a_layer_and_is_exported_answers_natively(
    keras_model: Saved,
    run_python: Runner,
    rng: np.random.Generator,
    expect: Callable[..., Any],
    tmp_path: pathlib.Path,
) -> None:
    """Keras tracks the layer's variables and nothing else, and TensorFlow then saves the key as a constant."""
    inputs = keras_model.make_inputs(rng, 2)
    run_python(KERAS, {"converted": keras_model.converted, "out": tmp_path / "outer"})
    found = run_python.run_c_api(tmp_path / "outer", "serving_default", inputs)
    assert_close(found, expect(keras_model, inputs), exact=True)
