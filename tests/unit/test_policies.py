"""What a model does where no engine can answer: by its manifest, by the environment, by the user."""

from __future__ import annotations

import logging
import pathlib

import numpy as np
import pytest
from doubling import SEGMENT, Doubling, call, count_calls, make_engine, make_model, make_range, make_shapes, ones

from beforehand.errors import EngineRunError, IntegrityError, OptionValueError, UnknownOptionError, UnseenShapeError
from beforehand.records import Policies, ShapeSet
from beforehand.runtime import loaded_engine
from beforehand.runtime.choose_policies import change_policies
from beforehand.runtime.model_runtime import ModelRuntime


class Requests:
    """Notes what is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ShapeSet]] = []

    def request(self, segment: int, shapes: ShapeSet) -> None:
        self.asked.append((segment, shapes))


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Doubling:
    made = Doubling()
    monkeypatch.setattr(loaded_engine, "find_backend", lambda name: made)
    for name in ("BEFOREHAND_ON_UNSEEN_SHAPE", "BEFOREHAND_ON_MISMATCH"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def model(backend: Doubling, tmp_path: pathlib.Path) -> ModelRuntime:
    del backend
    return make_model(tmp_path, make_shapes(1), make_range(4, 8))


def change(model: ModelRuntime, **policies: object) -> None:
    model.set_policies(change_policies(model.policies, policies))


def test_error_refuses_an_unseen_shape_by_name_with_what_there_is(model: ModelRuntime) -> None:
    change(model, on_unseen_shape="error")
    for _ in range(2):
        with pytest.raises(UnseenShapeError) as caught:
            model.run(0, 0, [ones(9)])
        assert str(caught.value) == (
            "BH604 TRTEngineOp_000_000 has no engine for the shapes 9x4. on_unseen_shape is error, and it has engines for "
            'x=1x4; x=4..8x4. Try: build for these shapes, or beforehand.set_policies(loaded, on_unseen_shape="native").'
        )
    assert isinstance(caught.value, ValueError)
    assert call(model, 1)
    assert model.list_stats()["unseen_shapes"] == [{"segment": SEGMENT.name, "shapes": {"x": [9, 4]}, "count": 2}]
    change(model, on_unseen_shape="native")
    assert not call(model, 9)


def test_a_direct_call_of_an_unseen_shape_raises_and_counts_nothing(model: ModelRuntime) -> None:
    """The graph's call, which follows, does both."""
    change(model, on_unseen_shape="error")
    assert model.run_direct(0, 0, [ones(9)]) is None
    assert model.list_stats()["unseen_shapes"] == []


def test_a_long_list_of_engines_is_cut_short_in_the_message(backend: Doubling, tmp_path: pathlib.Path) -> None:
    del backend
    policies = Policies(on_unseen_shape="error")
    model = make_model(tmp_path, *map(make_shapes, range(10, 30)), policies=policies)
    with pytest.raises(UnseenShapeError, match=r"x=17x4 and 12 more\."):
        model.run(0, 0, [ones(9)])


def test_build_asks_for_an_engine_and_answers_natively_until_it_is_there(
    model: ModelRuntime, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    requests = Requests()
    model.builds = requests
    change(model, on_unseen_shape="build")
    with caplog.at_level(logging.WARNING, "beforehand"):
        assert not call(model, 9)
        assert not call(model, 9)
    assert requests.asked == [(0, ShapeSet(("x",), ((9, 4),)))] * 2
    assert "until an engine is built" in caplog.text
    assert len(caplog.records) == 1
    built = tmp_path / "cache"
    built.mkdir()
    model.add_built(make_engine(built, make_shapes(9)), built)
    assert call(model, 9)
    stats = model.list_stats()
    assert stats["builds"] == 1
    assert count_calls(model, "builds") == {"x=1x4": 0, "x=9x4": 1, "x=4..8x4": 0}
    assert [item["count"] for item in stats["unseen_shapes"]] == [2]
    assert built / "9x4.engine" not in model.list_files()  # a copy of the SavedModel holds what its manifest tells of


def test_build_never_asks_for_empty_tensors_nor_where_nothing_can_be_built(
    model: ModelRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    change(model, on_unseen_shape="build")
    with caplog.at_level(logging.WARNING, "beforehand"):
        assert not call(model, 9)
    assert "such calls run natively, in TensorFlow." in caplog.text
    model.builds = requests = Requests()
    assert model.run(0, 0, [np.ones((0, 4), np.float32)]) is None
    assert requests.asked == []


def test_build_asks_also_where_the_veto_refuses_the_call(model: ModelRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION", "0")
    model.builds = requests = Requests()
    change(model, on_unseen_shape="build")
    with pytest.raises(EngineRunError, match="BH601"):
        model.run(0, 0, [ones(9)])
    assert len(requests.asked) == 1


@pytest.mark.parametrize("policy", ["native", "error", "rebuild"])
def test_an_altered_file_is_a_mismatch(policy: str, model: ModelRuntime, tmp_path: pathlib.Path) -> None:
    model.builds = requests = Requests()
    change(model, on_mismatch=policy)
    (tmp_path / "1x4.engine").write_text("altered")
    if policy == "error":
        for _ in range(2):
            with pytest.raises(IntegrityError, match="BH503"):
                model.run(0, 0, [ones(1)])
        assert model.run_direct(0, 0, [ones(1)]) is None
    else:
        assert not call(model, 1)
    assert requests.asked == ([(0, make_shapes(1))] if policy == "rebuild" else [])
    assert call(model, 4)
    if policy == "rebuild":
        cache = tmp_path / "cache"
        cache.mkdir()
        model.add_built(make_engine(cache, make_shapes(1)), cache)
        assert call(model, 1)


def test_an_altered_file_is_a_mismatch_also_where_a_range_serves_its_shapes(
    model: ModelRuntime, tmp_path: pathlib.Path
) -> None:
    model.add_engine(make_engine(tmp_path, make_range(1, 64)))
    model.builds = requests = Requests()
    (tmp_path / "1x4.engine").write_text("altered")
    change(model, on_mismatch="rebuild")
    assert call(model, 1)
    assert requests.asked == [(0, make_shapes(1))]
    change(model, on_mismatch="error")
    assert model.run_direct(0, 0, [ones(1)]) is None
    with pytest.raises(IntegrityError, match="BH503"):
        model.run(0, 0, [ones(1)])


def test_an_engine_that_fails_while_it_runs_is_no_mismatch(model: ModelRuntime, tmp_path: pathlib.Path) -> None:
    model.add_engine(make_engine(tmp_path, make_shapes(3)))
    model.builds = requests = Requests()
    for policy in ("error", "rebuild"):
        change(model, on_mismatch=policy)
        assert not call(model, 3)
    assert requests.asked == []


def test_the_environment_stands_above_the_manifest_and_below_the_user(
    backend: Doubling, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del backend
    monkeypatch.setenv("BEFOREHAND_ON_UNSEEN_SHAPE", " Error ")
    monkeypatch.setenv("BEFOREHAND_ON_MISMATCH", "rebuild")
    model = make_model(tmp_path, make_shapes(1), policies=Policies(on_unseen_shape="build", maximum_cached_engines=3))
    assert model.policies == Policies("error", "rebuild", 3)
    with pytest.raises(UnseenShapeError):
        model.run(0, 0, [ones(9)])
    change(model, on_unseen_shape="native")
    assert not call(model, 9)
    assert model.policies == Policies("native", "rebuild", 3)


def test_a_policy_of_the_environment_that_does_not_exist_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEFOREHAND_ON_MISMATCH", "build")
    with pytest.raises(OptionValueError) as caught:
        make_model(tmp_path)
    assert str(caught.value) == (
        "BH102 the environment variable BEFOREHAND_ON_MISMATCH is 'build'. on_mismatch is 'build'. "
        "Try: one of native, rebuild, error."
    )


def test_policies_are_checked_by_name_and_value() -> None:
    with pytest.raises(
        UnknownOptionError, match=r"no policy `on_unseen_shapes`. Try: did you mean `on_unseen_shape`\?"
    ):
        change_policies(Policies(), {"on_unseen_shapes": "error"})
    with pytest.raises(UnknownOptionError, match="no policy `precision_mode`"):
        change_policies(Policies(), {"precision_mode": "FP32"})
    for name in ("on_unseen_shape", "on_mismatch", "performance_hint", "maximum_cached_engines", "device"):
        with pytest.raises(OptionValueError, match=f"{name} is"):
            change_policies(Policies(), {name: -1})


def test_a_performance_hint_is_that_of_engines_opened_from_then_on(backend: Doubling, tmp_path: pathlib.Path) -> None:
    model = make_model(tmp_path, *map(make_shapes, (1, 2)), policies=Policies(performance_hint="throughput"))
    call(model, 1)
    change(model, performance_hint="latency")
    assert call(model, 1)
    assert call(model, 2)
    assert backend.hints == ["throughput", "latency"]


def test_a_device_is_that_of_engines_opened_from_then_on(backend: Doubling, tmp_path: pathlib.Path) -> None:
    model = make_model(tmp_path, *map(make_shapes, (1, 2)), policies=Policies(device=1))
    call(model, 1)
    change(model, device=3)
    call(model, 1)
    call(model, 2)
    assert backend.devices == [1, 3]
    assert backend.precisions == ["BF16", "BF16"]  # what their records say
    assert [engine["device_bytes"] for engine in model.list_stats()["engines"]] == [512, 512]


def test_warming_up_opens_and_runs_each_engine_and_counts_no_call(backend: Doubling, tmp_path: pathlib.Path) -> None:
    model = make_model(tmp_path, make_shapes(1), make_shapes(2), ShapeSet(("x",), ((4, 4),), ((8, 4),)))
    model.warm_up()
    stats = model.list_stats()
    assert [engine["loads"] for engine in stats["engines"]] == [1, 1, 1]
    assert sum(engine["engine_calls"] for engine in stats["engines"]) == 0
    assert call(model, 2)
    assert len(backend.loads) == 3


def test_warming_up_opens_no_more_than_may_be_open(backend: Doubling, tmp_path: pathlib.Path) -> None:
    model = make_model(tmp_path, *map(make_shapes, (1, 2, 4)), policies=Policies(maximum_cached_engines=2))
    model.warm_up()
    assert len(backend.loads) == 2
    assert sum(engine["evictions"] for engine in model.list_stats()["engines"]) == 0


def test_an_engine_that_fails_as_it_is_warmed_up_is_told(backend: Doubling, tmp_path: pathlib.Path) -> None:
    model = make_model(tmp_path, make_shapes(3))
    with pytest.raises(EngineRunError, match="no memory for batch 3"):
        model.warm_up()
