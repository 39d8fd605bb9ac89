"""Policies of a loaded model under TensorFlow: errors carry our code, by whatever way a call comes."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.contract.unusual_use.conftest import Saved, assert_close, count_calls

Load = Callable[[pathlib.Path], Any]
Expect = Callable[..., dict[str, np.ndarray]]


@pytest.mark.parametrize("way", ["direct", "graph", "tf.data"])
def test_an_unseen_shape_is_an_error_where_it_is_asked_for(way: str, module_model: Saved, load: Load) -> None:
    import tensorflow as tf

    import beforehand

    loaded = load(module_model.converted)
    serve = loaded.signatures["serving_default"]
    beforehand.set_policies(loaded, on_unseen_shape="error")
    x = tf.ones([5, 8])
    ways = {
        "direct": lambda: serve(x=x),
        "graph": lambda: tf.function(lambda x: serve(x=x))(x),
        "tf.data": lambda: next(iter(tf.data.Dataset.from_tensors(x).map(lambda x: serve(x=x)))),
    }
    with pytest.raises(tf.errors.OpError, match=r"BH604.*TRTEngineOp_000_000 has no engine for the shapes 5x8"):
        ways[way]()
    assert isinstance(beforehand.last_error(), beforehand.errors.UnseenShapeError)
    assert count_calls(loaded) == (0, 0)
    assert [item["count"] for item in beforehand.stats(loaded)["unseen_shapes"]] == [1]
    serve(x=tf.ones([2, 8]))
    assert count_calls(loaded) == (1, 0)


def test_the_environment_decides_for_models_loaded_from_then_on(
    module_model: Saved, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    import beforehand

    monkeypatch.setenv("BEFOREHAND_ON_UNSEEN_SHAPE", "error")
    serve = (loaded := load(module_model.converted)).signatures["serving_default"]
    with pytest.raises(tf.errors.OpError, match="BH604"):
        serve(x=tf.ones([5, 8]))
    beforehand.set_policies(loaded, on_unseen_shape="native")
    assert serve(x=tf.ones([5, 8]))["y"].shape == (5, 4)
    monkeypatch.setenv("BEFOREHAND_ON_UNSEEN_SHAPE", "eror")
    with pytest.raises(beforehand.errors.OptionValueError, match="BEFOREHAND_ON_UNSEEN_SHAPE is 'eror'"):
        load(module_model.converted)


def test_an_altered_engine_is_an_error_where_it_is_asked_for(
    module_model: Saved, load: Load, tmp_path: pathlib.Path
) -> None:
    import tensorflow as tf

    import beforehand

    folder = module_model.copy_to(tmp_path / "model")
    for file in (folder / "assets").glob("*.openvino"):
        file.write_bytes(file.read_bytes()[:-1])
    loaded = load(folder)
    beforehand.set_policies(loaded, on_mismatch="error")
    with pytest.raises(tf.errors.OpError, match="BH503"):
        loaded.signatures["serving_default"](x=tf.ones([2, 8]))


def test_a_policy_that_does_not_exist_is_refused_and_nothing_changes(
    module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    import beforehand

    loaded = load(module_model.converted)
    with pytest.raises(beforehand.errors.UnknownOptionError, match="did you mean `maximum_cached_engines`"):
        beforehand.set_policies(loaded, on_unseen_shape="error", maximum_cached_engine=3)
    with pytest.raises(beforehand.errors.OptionValueError, match="performance_hint"):
        beforehand.set_policies(loaded, on_unseen_shape="error", performance_hint="fast")
    with pytest.raises(beforehand.errors.NoEnginesError, match="BH602"):
        beforehand.set_policies(object(), on_unseen_shape="error")
    inputs = module_model.make_inputs(rng, 5)
    assert_close(loaded.signatures["serving_default"](**inputs), expect(module_model, inputs), exact=True)


@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_the_performance_hint_reaches_openvino(
    hint: str,
    module_model: Saved,
    load: Load,
    rng: np.random.Generator,
    expect: Expect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import beforehand
    from beforehand.backends.openvino import OpenVinoExecutable

    found: list[str] = []
    run = OpenVinoExecutable.run

    def spy(self: OpenVinoExecutable, inputs: Any) -> Any:
        found.append(str(self._compiled.get_property("PERFORMANCE_HINT")))
        found.append(str(self._compiled.get_property("INFERENCE_PRECISION_HINT")))
        return run(self, inputs)

    monkeypatch.setattr(OpenVinoExecutable, "run", spy)
    loaded, inputs = load(module_model.converted), module_model.make_inputs(rng, 2)
    beforehand.set_policies(loaded, performance_hint=hint)
    assert_close(loaded.signatures["serving_default"](**inputs), expect(module_model, inputs))
    assert found[0].upper().endswith(hint.upper())
    assert "float32" in found[1]


def test_two_models_of_the_same_names_have_each_their_own_bound_and_answers(
    module_model: Saved, other_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    """TF-TRT keeps one cache a process by names such as TRTEngineOp_000_000, which every model has."""
    import beforehand

    pairs = [(saved, load(saved.converted)) for saved in (module_model, other_model)]
    beforehand.set_policies(pairs[0][1], maximum_cached_engines=1)
    for batch in (1, 2, 1, 2):
        for saved, loaded in pairs:
            inputs = saved.make_inputs(rng, batch)
            assert_close(loaded.signatures["serving_default"](**inputs), expect(saved, inputs))
    loads = [sum(engine["loads"] for engine in beforehand.stats(loaded)["engines"]) for _, loaded in pairs]
    assert loads == [4, 2]


def test_counters_are_reset(module_model: Saved, load: Load, rng: np.random.Generator) -> None:
    import beforehand

    loaded = load(module_model.converted)
    for batch in (2, 5):
        loaded.signatures["serving_default"](**module_model.make_inputs(rng, batch))
    assert count_calls(loaded) == (1, 1)
    assert beforehand.stats(loaded)["engine_seconds"]["serving_default"] > 0
    beforehand.reset_stats(loaded)
    assert count_calls(loaded) == (0, 0)
    assert beforehand.stats(loaded)["unseen_shapes"] == []
