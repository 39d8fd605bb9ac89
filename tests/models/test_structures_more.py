"""What lives of the table do not show of odd structures: refusals, signatures without inputs, weights stored once, callables."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import life_cycle
import numpy as np
import pytest

import beforehand
from beforehand import errors

MODELS = ("nothing_convertible", "parameter_free", "legacy_optimizer", "six_signatures")
Make = Callable[[str], life_cycle.MadeModel]


@pytest.fixture(scope="module")
def odd_model(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A function from a name of MODELS to the model on disk; one process makes them all."""
    made = life_cycle.make_models(MODELS, tmp_path_factory.mktemp("odd"))
    return made.__getitem__


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng().uniform(size=shape).astype(np.float32)


def load(folder: pathlib.Path) -> Any:
    import tensorflow as tf

    return tf.saved_model.load(str(folder))


def read_checkpoint(folder: pathlib.Path) -> dict[str, np.ndarray]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    return {
        key: np.asarray(reader.get_tensor(key))
        for key in reader.get_variable_to_shape_map()
        if not key.startswith("_CHECKPOINTABLE")
    }


def measure_weights(folder: pathlib.Path) -> int:
    """Bytes on disk of everything below variables/."""
    return sum(file.stat().st_size for file in (folder / "variables").iterdir())


# ------------------------------------------------------------------------------------------------------------- refusal


def test_a_model_without_arithmetic_is_refused_and_nothing_is_written(odd_model: Make, tmp_path: pathlib.Path) -> None:
    converter = beforehand.Converter(odd_model("nothing_convertible").folder)
    with pytest.raises(errors.NothingConvertedError, match=r"^BH301 no part of .* can run in an engine") as raised:
        converter.convert()
    assert "nodes left out by reason: resource or string: 4, too little arithmetic: 4" in str(raised.value)
    with pytest.raises(errors.NotConvertedError, match=r"^BH111"):
        converter.save(tmp_path / "converted")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------- signatures without inputs


def test_signatures_without_inputs_answer_beside_one_that_runs_in_an_engine(
    odd_model: Make, tmp_path: pathlib.Path
) -> None:
    source = odd_model("parameter_free").folder
    converter = beforehand.Converter(source)
    live = converter.convert()
    [engine] = converter.build(shapes={"x": (2, 128)})
    converter.save(tmp_path / "converted")

    original, loaded = load(source), load(tmp_path / "converted")
    assert sorted(loaded.signatures) == sorted(original.signatures) == ["describe", "prototype", "serving_default"]
    x = draw(2, 128)
    for functions in (live, loaded.signatures):
        for key, given in (("serving_default", {"x": x}), ("describe", {}), ("prototype", {})):
            expected = original.signatures[key](**given)
            found = functions[key](**given)
            assert sorted(found) == sorted(expected)
            for name, value in expected.items():
                assert found[name].dtype == value.dtype
                if key == "describe":
                    np.testing.assert_array_equal(found[name].numpy(), value.numpy())
                else:
                    np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4)
    counted = beforehand.stats(loaded)["signatures"]
    assert counted["serving_default"] == {"engine_calls": 1, "native_calls": 0}
    assert engine.segment in {segment.name for segment in converter.segments if segment.signature == "serving_default"}


@pytest.mark.parametrize("key", ["describe", "prototype"])
@pytest.mark.parametrize("form", ["samples", "shapes"])
def test_there_is_nothing_to_build_for_a_signature_without_inputs(odd_model: Make, key: str, form: str) -> None:
    converter = beforehand.Converter(odd_model("parameter_free").folder)
    converter.convert()
    given = {"shapes": {}} if form == "shapes" else {"input_fn": lambda: iter([{}])}
    assert converter.build(**given, signature=key) == ()
    assert converter.engines == ()


def test_a_model_whose_whole_graph_has_no_input_is_refused_with_that_reason(odd_model: Make) -> None:
    converter = beforehand.Converter(odd_model("parameter_free").folder, signatures=["prototype"])
    with pytest.raises(errors.NothingConvertedError, match=r"^BH301 .* by reason: segment without input: \d+\."):
        converter.convert()


# ---------------------------------------------------------------------------------------------------- weights, stored once


def test_weights_that_keras_wrote_twice_are_stored_once(tmp_path: pathlib.Path) -> None:
    """Keras's `export` tracks each variable by two names, and its checkpoint has both."""
    import keras

    keras.utils.set_random_seed(21)
    x = keras.Input((64,), name="x")
    hidden = keras.layers.Dense(256, activation="relu")(keras.layers.Dense(512, activation="relu")(x))
    model = keras.Model(x, keras.layers.Dense(4)(hidden))
    model.export(str(tmp_path / "source"), verbose=False)
    weights = sum(weight.numpy().nbytes for weight in model.weights)

    converter = beforehand.Converter(tmp_path / "source")
    converter.convert()
    converter.build(shapes={"x": (3, 64)})
    converter.save(tmp_path / "converted")

    assert measure_weights(tmp_path / "source") > 2 * weights, (
        "Keras writes each weight once now: nothing is shown here"
    )
    assert weights < measure_weights(tmp_path / "converted") <= 1.05 * weights
    assert (tmp_path / "converted" / "saved_model.pb").stat().st_size < 0.1 * weights
    given = draw(3, 64)
    [answer] = load(tmp_path / "converted").signatures["serving_default"](x=given).values()
    np.testing.assert_allclose(answer, model(given), rtol=1e-3, atol=1e-4)


def test_six_signatures_over_one_weight_store_it_once(odd_model: Make, tmp_path: pathlib.Path) -> None:
    source = odd_model("six_signatures").folder
    weights = 4 * (128 * 512 + 512 + 512 * 4)
    converter = beforehand.Converter(source)
    converter.convert()
    for signature in converter.signatures:
        converter.build(shapes={"x": (2, 128)}, signature=signature.key)
    converter.save(tmp_path / "converted")
    loaded, original = load(tmp_path / "converted"), load(source)

    assert len(converter.signatures) == 6
    assert weights < measure_weights(tmp_path / "converted") <= 1.05 * weights
    assert (tmp_path / "converted" / "saved_model.pb").stat().st_size < weights
    x = draw(2, 128)
    for key, function in original.signatures.items():
        found = loaded.signatures[key](x=x)
        for name, value in function(x=x).items():
            np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4)
    assert beforehand.stats(loaded)["signatures"] == {
        key: {"engine_calls": 1, "native_calls": 0} for key in original.signatures
    }


# ------------------------------------------------------------------------------------------- what TensorFlow cannot load


def test_a_model_that_tensorflow_refuses_for_its_optimizer_loads_in_plain_tensorflow_once_converted(
    odd_model: Make, tmp_path: pathlib.Path
) -> None:
    source = odd_model("legacy_optimizer").folder
    # Where it is installed, TensorFlow imports tf_keras for this optimizer; most do not have it.
    hide = "import sys; sys.modules['tf_keras'] = None; import tensorflow as tf"
    plain = life_cycle.run_python("-c", f"{hide}; tf.saved_model.load({str(source)!r})")
    assert plain.stderr.strip().endswith("AttributeError: '_UserObject' object has no attribute 'add_slot'")
    converter = beforehand.Converter(source)
    converter.convert()
    converter.build(shapes={"image": (2, 16, 16, 3)})
    converter.save(tmp_path / "converted")

    image = draw(2, 16, 16, 3)
    results = load(source.parent / "reference").signatures["serving_default"](image=image)
    kept = {f"result/{name}": value.numpy() for name, value in results.items()}
    np.savez(tmp_path / "answers.npz", **{"given/image": image}, **kept)
    converted = str(tmp_path / "converted")
    model = {"folder": converted, "answers": str(tmp_path / "answers.npz"), "again": None}
    told = life_cycle.run_step("serve_saved.py", json.dumps({"mode": "plain", "models": {"converted": model}}))
    assert told["converted"]["misfit"] <= 0
    alone = life_cycle.run_python("-c", f"{hide}; assert tf.saved_model.load({converted!r}).signatures")
    assert alone.returncode == 0, alone.stderr
    names = read_checkpoint(tmp_path / "converted")
    assert not [name for name in names if "optimizer" in name.lower() or "OPTIMIZER_SLOT" in name]


# --------------------------------------------------------------------------------------------------------- callables


def make_nested_module() -> Any:
    import tensorflow as tf

    rng = np.random.default_rng(23)
    spec = tf.TensorSpec

    class Nested(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(rng.normal(size=(12, 7)).astype(np.float32))

        @tf.function(
            input_signature=[
                {"dense": {"b": spec([None, 4], name="b"), "a": spec([None, 8], name="a")}},
                (spec([None, 7], name="shift"), spec([None], tf.bool, name="keep")),
            ]
        )
        def score(self, features: Any, rest: Any) -> Any:
            shift, keep = rest
            y = tf.nn.relu(tf.concat([features["dense"]["a"], features["dense"]["b"]], 1) @ self.kernel) + shift
            return {"y": tf.where(keep[:, tf.newaxis], tf.nn.softmax(y), -y), "sum": tf.reduce_sum(y * y, axis=1)}

        @tf.function(
            input_signature=[
                spec([None, 8], name="a"),
                spec([None, 4], name="b"),
                spec([None, 7], name="shift"),
                spec([None], tf.bool, name="keep"),
            ]
        )
        def serve(self, a: Any, b: Any, shift: Any, keep: Any) -> Any:
            return self.score({"dense": {"a": a, "b": b}}, (shift, keep))

    return Nested()


@pytest.mark.parametrize("signature", ["serve", "score"])
def test_a_callable_with_nested_arguments_runs_in_the_engine_of_the_signature_that_it_is(
    signature: str, tmp_path: pathlib.Path
) -> None:
    """The signature is that very function, or one with flat arguments that does nothing but call it."""
    import tensorflow as tf

    module = make_nested_module()
    tf.saved_model.save(module, str(tmp_path / "source"), signatures=getattr(module, signature))
    converter = beforehand.Converter(tmp_path / "source")
    converter.convert()
    [inputs] = [item.inputs for item in converter.signatures]
    sizes = {"a": (3, 8), "b": (3, 4), "shift": (3, 7), "keep": (3,)}
    converter.build(
        shapes={spec.name: next(s for end, s in sizes.items() if spec.name.endswith(end)) for spec in inputs}
    )
    converter.save(tmp_path / "converted")
    loaded = load(tmp_path / "converted")

    a, b, shift = draw(3, 8), draw(3, 4), draw(3, 7)
    keep = np.array([True, False, True])
    arguments = {"dense": {"a": tf.constant(a), "b": tf.constant(b)}}, (tf.constant(shift), tf.constant(keep))
    found, expected = loaded.score(*arguments), module.score(*arguments)
    assert sorted(found) == sorted(expected) == ["sum", "y"]
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4)
    assert beforehand.stats(loaded)["signatures"]["serving_default"] == {"engine_calls": 1, "native_calls": 0}
