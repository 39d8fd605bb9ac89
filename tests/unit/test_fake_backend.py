"""The backend of the tests does as it is told, and the same for the same model."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from beforehand.backends.registry import find_backend, list_backends
from beforehand.errors import BackendError, BuildError, EngineRunError
from beforehand.records import EngineSpec, ShapeSet


def make_spec(folder: pathlib.Path, batch: int = 1) -> EngineSpec:
    (folder / "segment.onnx").write_bytes(b"a model")
    shapes = ShapeSet(("x",), ((batch, 4),))
    return EngineSpec(
        "TRTEngineOp_000_000", 0, str(folder / "segment.onnx"), (), (), shapes, "fake", "1", "FP32", "", (), ""
    )


def build(folder: pathlib.Path, told: Any, monkeypatch: pytest.MonkeyPatch, batch: int = 1) -> Any:
    monkeypatch.setenv("BEFOREHAND_FAKE", json.dumps(told))
    return find_backend("fake").build(make_spec(folder, batch), lambda phase: None)


def test_equal_models_and_shapes_give_equal_bytes_and_others_do_not(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(tmp_path, {}, monkeypatch)
    assert build(tmp_path, {"*": "sleep 0"}, monkeypatch) == first
    assert build(tmp_path, {}, monkeypatch, batch=2) != first
    find_backend("fake").check_engine(first, make_spec(tmp_path))
    with pytest.raises(BuildError):
        find_backend("fake").check_engine(b"garbage", make_spec(tmp_path))


def test_shapes_come_before_the_segment_before_all(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"x=1x4": "garbage", "TRTEngineOp_000_000": "nothing", "*": "raise ValueError all"}
    assert build(tmp_path, told, monkeypatch) == b"garbage"
    assert build(tmp_path, told, monkeypatch, batch=2) == b""
    with pytest.raises(ValueError, match="all"):
        build(tmp_path, {"*": told["*"]}, monkeypatch)


def test_behaviours_follow_each_other_and_builds_are_noted(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"*": ["say one", "say two", "refuse timeout it is late"], "journal": str(tmp_path / "journal")}
    with pytest.raises(BuildError, match="it is late") as caught:
        build(tmp_path, told, monkeypatch)
    assert caught.value.cause == "timeout"
    assert capsys.readouterr().out == "one\ntwo\n"
    assert (tmp_path / "journal").read_text() == "x=1x4\n"


def test_a_behaviour_that_it_does_not_know_is_an_error(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError):
        build(tmp_path, {"*": "dance"}, monkeypatch)


def test_it_is_not_offered_to_users_and_runs_nothing() -> None:
    import numpy as np

    assert list_backends()[0] == "openvino"
    assert "fake" not in list_backends()
    with pytest.raises(BackendError, match="one of openvino"):
        find_backend("faek")
    with pytest.raises(EngineRunError):
        find_backend("fake").load(np.zeros(3, np.uint8), (), ())
