"""What cannot work is refused in our words; what breaks at run time is answered natively, told once, and counted."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.contract.unusual_use.conftest import Runner, Saved, assert_close, count_calls

Load = Callable[[pathlib.Path], Any]
Expect = Callable[..., dict[str, np.ndarray]]


@pytest.mark.parametrize("batch", [2, 3], ids=["engine", "native"])
@pytest.mark.parametrize("around", [False, True], ids=["plain", "in a function"])
def test_gradients_of_every_output_by_inputs_and_weights_are_refused(
    batch: int, around: bool, module_model: Saved, load: Load, rng: np.random.Generator
) -> None:
    import tensorflow as tf

    loaded = load(module_model.converted)
    pair = tf.function(loaded.signatures["pair"].__call__) if around else loaded.signatures["pair"]
    a, b = (tf.constant(rng.normal(size=(batch, 8)), tf.float32) for _ in range(2))
    (weights,) = loaded.beforehand_weights.packed.values()

    def find_gradient(output: str, by: Any) -> Any:
        # TensorFlow writes the backward function at the call already, where the tape watches.
        with tf.GradientTape() as tape:
            tape.watch(by)
            value = pair(a=a, b=b)[output]
        return tape.gradient(value, by)

    for output in ("sum", "gate"):
        for by in (a, b, weights):
            with pytest.raises(LookupError, match="BH412"):
                find_gradient(output, by)


def test_a_part_trained_behind_a_converted_model_has_its_gradients(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    """Features from engines, a head that learns: nothing flows through the signature, so nothing is refused."""
    import tensorflow as tf

    loaded, inputs = load(module_model.converted), module_model.make_inputs(rng, 2)
    head = tf.Variable(rng.normal(size=(4, 1)), dtype=tf.float32)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(loaded.signatures["serving_default"](**inputs)["y"] @ head)
    assert_close(tape.gradient(total, head), expect(module_model, inputs)["y"].sum(0)[:, None])
    assert count_calls(loaded) == (1, 0)


def test_forward_gradients_are_refused(module_model: Saved, load: Load, rng: np.random.Generator) -> None:
    import tensorflow as tf

    loaded, x = load(module_model.converted), tf.constant(rng.normal(size=(2, 8)), tf.float32)
    with pytest.raises(LookupError, match="BH412"), tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
        accumulator.jvp(loaded.signatures["serving_default"](x=x)["y"])


def test_jit_compile_is_refused_and_calls_outside_of_it_go_on(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    import tensorflow as tf

    loaded, inputs = load(module_model.converted), module_model.make_inputs(rng, 2)
    serve = loaded.signatures["serving_default"]
    compiled = tf.function(lambda x: serve(x=x)["y"] + 1, jit_compile=True)
    with pytest.raises((tf.errors.OpError, ValueError), match="BH411_engines_cannot_run_under_jit_compile_True"):
        compiled(tf.constant(inputs["x"]))
    assert_close(serve(**inputs), expect(module_model, inputs))
    assert count_calls(loaded) == (1, 0)


SESSION = """
import numpy as np, tensorflow as tf
tf.compat.v1.disable_eager_execution()
import beforehand
x = np.load(arguments["x"])
with tf.compat.v1.Session() as session:
    loaded = tf.saved_model.load(arguments["folder"])
    given = tf.compat.v1.placeholder(tf.float32, [None, 8])
    y = loaded.signatures["serving_default"](x=given)["y"]
    session.run(tf.compat.v1.global_variables_initializer())
    session.run(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.TABLE_INITIALIZERS))
    report(y=session.run(y, {given: x}).tolist())
"""


def test_a_load_into_a_graph_of_tensorflow_1_runs_natively(
    module_model: Saved, run_python: Runner, rng: np.random.Generator, expect: Expect, tmp_path: pathlib.Path
) -> None:
    """With eager execution off, TensorFlow 2's own load builds a graph, and a session runs it."""
    inputs = module_model.make_inputs(rng, 2)
    np.save(tmp_path / "x.npy", inputs["x"])
    found = run_python(SESSION, {"folder": module_model.converted, "x": tmp_path / "x.npy"})
    assert_close(np.array(found["y"], np.float32), expect(module_model, inputs)["y"], exact=True)


def test_eight_threads_with_a_new_shape_give_one_warning_and_exact_counts(
    module_model: Saved,
    load: Load,
    rng: np.random.Generator,
    expect: Expect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import beforehand

    loaded, inputs = load(module_model.converted), module_model.make_inputs(rng, 5)
    serve, expected = loaded.signatures["serving_default"], expect(module_model, inputs)
    with caplog.at_level(logging.WARNING, "beforehand"), ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: serve(**inputs), range(80)):
            assert_close(found, expected)
    assert len([record for record in caplog.records if "5x8" in record.getMessage()]) == 1
    assert len(caplog.records) == 1
    unseen = beforehand.stats(loaded)["unseen_shapes"]
    assert [(item["shapes"], item["count"]) for item in unseen] == [({"x": [5, 8]}, 80)]
    assert count_calls(loaded) == (0, 80)


def test_an_empty_batch_is_answered_natively(module_model: Saved, load: Load) -> None:
    loaded = load(module_model.converted)
    assert loaded.signatures["serving_default"](x=np.zeros((0, 8), np.float32))["y"].shape == (0, 4)
    assert count_calls(loaded) == (0, 1)


def test_an_engine_that_fails_while_it_runs_is_told_once_and_answered_natively(
    module_model: Saved,
    load: Load,
    rng: np.random.Generator,
    expect: Expect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import beforehand
    from beforehand.backends.openvino import OpenVinoExecutable

    def fail(_: Any, inputs: Any) -> None:
        raise MemoryError(f"no room for {len(inputs)} inputs")

    loaded, inputs = load(module_model.converted), module_model.make_inputs(rng, 2)
    monkeypatch.setattr(OpenVinoExecutable, "run", fail)
    with caplog.at_level(logging.WARNING, "beforehand"):
        for _ in range(3):
            assert_close(loaded.signatures["serving_default"](**inputs), expect(module_model, inputs), exact=True)
    assert count_calls(loaded) == (0, 3)
    (record,) = caplog.records
    assert record.getMessage().startswith("BH601 ")
    assert "no room for 1 inputs" in record.getMessage()
    error = beforehand.last_error()
    assert isinstance(error, beforehand.errors.EngineRunError)
    assert isinstance(error.__cause__, MemoryError)


@pytest.mark.parametrize("outputs", ["none", "of another shape", "of another dtype"])
def test_an_engine_that_gives_something_else_than_was_promised_never_reaches_the_caller(
    outputs: str,
    module_model: Saved,
    load: Load,
    rng: np.random.Generator,
    expect: Expect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from beforehand.backends.openvino import OpenVinoExecutable

    wrong = {
        "none": [],
        "of another shape": [np.ones((2, 5), np.float32)],
        "of another dtype": [np.ones((2, 4), np.float64)],
    }[outputs]
    loaded, inputs = load(module_model.converted), module_model.make_inputs(rng, 2)
    monkeypatch.setattr(OpenVinoExecutable, "run", lambda *_: wrong)
    assert_close(loaded.signatures["serving_default"](**inputs), expect(module_model, inputs))
    assert count_calls(loaded) == (0, 1)


@pytest.mark.parametrize("way", ["tf.data", "missing engine"])
def test_a_vetoed_call_raises_wherever_it_is_made(
    way: str, module_model: Saved, load: Load, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    import beforehand

    folder = module_model.copy_to(tmp_path / "model")
    batch = 5
    if way == "missing engine":
        batch = 2
        for file in (folder / "assets").glob("*.openvino"):
            file.unlink()
    loaded = load(folder)
    serve = loaded.signatures["serving_default"]
    monkeypatch.setenv("TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION", "false")
    x = tf.ones([batch, 8])
    dataset = tf.data.Dataset.from_tensors(x).map(lambda x: serve(x=x))
    with pytest.raises(tf.errors.OpError, match="BH601") as caught:
        next(iter(dataset)) if way == "tf.data" else serve(x=x)
    assert "TRTEngineOp_000_000" in caught.value.message
    last = beforehand.last_error()
    assert isinstance(last, beforehand.errors.EngineRunError)
    assert str(last).startswith("BH601 ")
    if way == "missing engine":
        assert "BH503" in caught.value.message


def test_nested_disabling_counts_levels_and_reaches_other_threads(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    import beforehand

    loaded, inputs = load(module_model.converted), module_model.make_inputs(rng, 2)
    serve, expected = loaded.signatures["serving_default"], expect(module_model, inputs)
    with ThreadPoolExecutor(1) as pool:
        with beforehand.disabled():
            with beforehand.disabled():
                assert_close(pool.submit(serve, **inputs).result(), expected, exact=True)
            assert_close(serve(**inputs), expected, exact=True)
        assert_close(pool.submit(serve, **inputs).result(), expected)
    assert count_calls(loaded) == (1, 2)


def test_a_result_of_an_engine_shares_no_memory_with_an_earlier_one_or_the_callers_input(
    module_model: Saved, load: Load, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from beforehand.backends.openvino import OpenVinoExecutable

    given: list[tuple[list[np.ndarray], list[np.ndarray]]] = []
    run = OpenVinoExecutable.run

    def spy(self: Any, inputs: Any) -> Any:
        outputs = run(self, inputs)
        given.append((list(inputs), list(outputs)))
        return outputs

    monkeypatch.setattr(OpenVinoExecutable, "run", spy)
    loaded = load(module_model.converted)
    for _ in range(10):
        a, b = (rng.normal(size=(2, 8)).astype(np.float32) for _ in range(2))
        loaded.signatures["pair"](a=a, b=b)
    outputs = [array for _, many in given for array in many]
    inputs = [array for many, _ in given for array in many]
    assert len(outputs) == 20
    for i, array in enumerate(outputs):
        assert array.flags.owndata
        assert not any(np.shares_memory(array, other) for other in [*outputs[:i], *inputs])
