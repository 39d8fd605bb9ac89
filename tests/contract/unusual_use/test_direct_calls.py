"""Direct calls: where they are made, that they are TensorFlow's calls but for the time, and where the graph is asked."""

from __future__ import annotations

import gc
import pathlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.contract.unusual_use.conftest import Runner, Saved, assert_close, count_calls

Load = Callable[[pathlib.Path], Any]
Expect = Callable[..., dict[str, np.ndarray]]


@pytest.fixture
def graph_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Grows by one at each call that came by way of the graph."""
    from tensorflow.python.ops import script_ops

    import beforehand  # noqa: F401
    from beforehand.runtime.tensorflow_private import TOKEN, run_engine

    calls: list[int] = []

    def spy(*inputs: Any) -> Any:
        calls.append(1)
        return run_engine(*inputs)

    monkeypatch.setitem(script_ops._py_funcs._funcs, TOKEN, spy)
    yield calls
    del spy  # TensorFlow holds it weakly


def test_an_eager_call_by_name_goes_straight_to_the_engine(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect, graph_calls: list[int]
) -> None:
    import tensorflow as tf

    loaded = load(module_model.converted)
    both = {name: rng.normal(size=(2, 8)).astype(np.float32) for name in "ab"}
    expected = expect(module_model, both, "pair")
    pair = loaded.signatures["pair"]
    by_tensors = pair(b=tf.constant(both["b"]), a=tf.constant(both["a"]))
    assert_close({name: value.numpy() for name, value in by_tensors.items()}, expected)
    assert_close({name: value.numpy() for name, value in pair(**both).items()}, expected)
    assert (graph_calls, count_calls(loaded)) == ([], (2, 0))
    by_graph = type(pair)._call_impl(pair, (), {name: tf.constant(value) for name, value in both.items()})
    assert (graph_calls, count_calls(loaded)) == ([1], (3, 0))
    assert list(by_tensors) == list(by_graph)  # an order that differs from process to process
    assert {type(value) for value in by_tensors.values()} == {type(value) for value in by_graph.values()}
    assert [value.device for value in by_tensors.values()] == [value.device for value in by_graph.values()]


def test_a_result_is_not_changed_by_later_calls(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    serve = load(module_model.converted).signatures["serving_default"]
    cases = [module_model.make_inputs(rng, 2) for _ in range(20)]
    founds = [serve(**inputs)["y"] for inputs in cases]
    for inputs, found in zip(cases, founds, strict=True):
        assert_close(found.numpy(), expect(module_model, inputs)["y"])


def test_an_unseen_shape_goes_by_the_graph_and_is_counted_once(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect, graph_calls: list[int]
) -> None:
    import beforehand

    loaded, inputs = load(module_model.converted), module_model.make_inputs(rng, 7)
    assert_close(loaded.signatures["serving_default"](**inputs)["y"].numpy(), expect(module_model, inputs)["y"])
    assert (graph_calls, count_calls(loaded)) == ([1], (0, 1))
    assert [unseen["count"] for unseen in beforehand.stats(loaded)["unseen_shapes"]] == [1]


def test_what_is_no_plain_eager_call_by_name_goes_by_the_graph(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect, graph_calls: list[int]
) -> None:
    import tensorflow as tf

    loaded, inputs = load(module_model.converted), module_model.make_inputs(rng, 1)
    serve, expected = loaded.signatures["serving_default"], expect(module_model, inputs)["y"]
    x = tf.constant(inputs["x"])
    with tf.GradientTape():
        assert_close(serve(x=x)["y"].numpy(), expected)
    assert_close(serve(x=tf.Variable(x))["y"].numpy(), expected)
    assert_close(serve(x)["y"].numpy(), expected)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        symbolic = tf.compat.v1.placeholder(tf.float32, [None, 8])
        with pytest.raises((ValueError, TypeError, RuntimeError)):  # an eager model in a graph of version 1
            session.run(serve(x=symbolic)["y"], {symbolic: inputs["x"]})
    assert len(graph_calls) == 3


@pytest.mark.parametrize("wrong", ["dtype", "name", "rank", "missing"])
def test_a_wrong_call_is_refused_as_tensorflow_refuses_it(
    module_model: Saved, load: Load, rng: np.random.Generator, wrong: str
) -> None:
    import tensorflow as tf

    x = tf.constant(module_model.make_inputs(rng, 1)["x"])
    kwargs = {"dtype": {"x": tf.cast(x, tf.float64)}, "name": {"z": x}, "rank": {"x": x[0]}, "missing": {}}[wrong]
    refusals = []
    for folder in (module_model.source, module_model.converted):
        with pytest.raises(Exception) as caught:  # noqa: PT011 (the two are compared)
            load(folder).signatures["serving_default"](**kwargs)
        refusals.append(caught.type)
    assert refusals[0] is refusals[1]


def test_disabled_models_make_no_direct_call(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    import beforehand

    loaded, inputs = load(module_model.converted), module_model.make_inputs(rng, 1)
    with beforehand.disabled():
        assert_close(loaded.signatures["serving_default"](**inputs)["y"].numpy(), expect(module_model, inputs)["y"])
    assert count_calls(loaded) == (0, 1)


def test_a_signature_that_makes_direct_calls_dies_with_its_last_user(module_model: Saved, load: Load) -> None:
    loaded = load(module_model.converted)
    root = weakref.ref(loaded)
    gc.collect()
    assert "_call_impl" in vars(loaded.signatures["serving_default"])
    del loaded
    gc.collect()
    assert root() is None


def test_a_copy_saved_by_tensorflow_makes_direct_calls_too(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect, tmp_path: pathlib.Path,
    graph_calls: list[int],
) -> None:  # fmt: skip
    import tensorflow as tf

    first = load(module_model.converted)
    tf.saved_model.save(first, str(tmp_path / "copy"), signatures=dict(first.signatures))
    copy, inputs = load(tmp_path / "copy"), module_model.make_inputs(rng, 1)
    assert_close(copy.signatures["serving_default"](**inputs)["y"].numpy(), expect(module_model, inputs)["y"])
    assert (graph_calls, count_calls(copy), count_calls(first)) == ([], (1, 0), (0, 0))


def test_a_model_loaded_before_beforehand_makes_direct_calls_once_enabled(
    module_model: Saved, run_python: Runner
) -> None:
    code = """
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(arguments["folder"])
import beforehand
serve = loaded.signatures["serving_default"]
before = "_call_impl" in vars(serve)
beforehand.enable(loaded)
serve(x=np.ones((1, 8), np.float32))
report(before=before, after="_call_impl" in vars(serve), stats=beforehand.stats(loaded)["signatures"])
"""
    found = run_python(code, {"folder": module_model.converted})
    assert (found["before"], found["after"]) == (False, True)
    assert found["stats"]["serving_default"] == {"engine_calls": 1, "native_calls": 0}
