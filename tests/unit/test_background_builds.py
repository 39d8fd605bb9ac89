"""Requests for engines at run time: each once, bounded, remembered when they fail; what goes away does no harm."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from beforehand.backends.protocol import Probe
from beforehand.errors import BuildError
from beforehand.options import Options
from beforehand.records import (
    Engine,
    EngineSpec,
    LeftNative,
    Manifest,
    Policies,
    SegmentRecord,
    SegmentSource,
    ShapeSet,
    TensorSpec,
)
from beforehand.runtime import background_builds
from beforehand.runtime.background_builds import MOST_BUILDS, BackgroundBuilds
from beforehand.store.hashing import hash_file

SPECS = (TensorSpec("x", "float32", (None, 4)),)
SEGMENT = SegmentRecord("TRTEngineOp_000_000", "serving_default", 3, 1.0, SPECS, SPECS, ())
SOURCE = SegmentSource("a.onnx", "", (), (), "", ("i",), ("o",), "digest")
MANIFEST = Manifest("id", "now", (), (), (SEGMENT,), (), (), sources=(SOURCE,), options=Options().to_key())


class Backend:
    kernels = ""
    name = "openvino"

    def probe(self) -> Probe:
        return Probe(self.name, True, "1", "")

    def resolve_precision(self, precision: str, target: str) -> str:
        return precision

    def describe_kernels(self, target: str) -> str:
        return self.kernels

    def describe_target(self, target: str) -> str:
        return target or "cpu"


class Model:
    """Stands where a model gets its engines."""

    def __init__(self) -> None:
        self.added: list[tuple[str, bool]] = []
        self.failures: list[str] = []

    def add_built(self, engine: Engine, folder: pathlib.Path, *, built: bool = True) -> None:
        assert hash_file(folder / engine.file) == engine.sha256
        self.added.append((engine.shapes.describe(), built))

    def add_failure(self, segment: int, shapes: ShapeSet, reason: str) -> None:
        self.failures.append(reason)


class Builder:
    """Builds at once; batch 13 fails, and everything waits while `gate` is closed."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, spec: EngineSpec, folder: pathlib.Path, *_: Any, **__: Any) -> Engine:
        self.built.append(spec.shapes.describe())
        self.gate.wait(20)
        if spec.shapes.shapes[0][0] == 13:
            raise BuildError("batch 13 was not built", cause="failed")
        (folder / "engine").write_bytes(spec.key.encode())
        facts = {name: getattr(spec, name) for name in Engine.__dataclass_fields__ if hasattr(spec, name)}
        return Engine(**facts, file="engine", bytes=1, sha256=hash_file(folder / "engine"), build_seconds=0.0)


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[Builder]:
    made = Builder()
    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BEFOREHAND_FORBID_BUILD", raising=False)
    monkeypatch.setattr(background_builds, "build_engine", made)
    monkeypatch.setattr(background_builds, "restore_onnx", lambda source, folder, into: into / "segment.onnx")
    monkeypatch.setattr(background_builds, "find_backend", lambda name: Backend())
    yield made
    made.gate.set()


def make_builds(model: Model, **changes: Any) -> BackgroundBuilds:
    manifest = dataclasses.replace(MANIFEST, **changes)
    return BackgroundBuilds(model, manifest, pathlib.Path("saved"))  # type: ignore[arg-type]


def shape(batch: int) -> ShapeSet:
    return ShapeSet(("x",), ((batch, 4),))


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def test_many_threads_ask_and_it_is_built_once(builder: Builder) -> None:
    model = Model()
    builds = make_builds(model)
    threads = [threading.Thread(target=lambda: [builds.request(0, shape(2)) for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    builds.request(0, shape(3))
    wait_until(lambda: len(model.added) == 2)
    assert model.added == [("x=2x4", True), ("x=3x4", True)]
    assert builder.built == ["x=2x4", "x=3x4"]
    assert model.failures == []


def test_for_shapes_whose_engine_was_left_out_for_its_accuracy_none_is_built(builder: Builder) -> None:
    model = Model()
    batches = ShapeSet(("x",), ((4, 4),), ((6, 4),))
    builds = make_builds(model, left_native=(LeftNative(0, shape(2), "off"), LeftNative(0, batches, "off")))
    for batch in (2, 5, 3):
        builds.request(0, shape(batch))
    wait_until(lambda: len(model.added) == 1)
    assert builder.built == ["x=3x4"]


def test_a_request_returns_at_once_while_another_is_built(builder: Builder) -> None:
    builder.gate.clear()
    builds = make_builds(Model())
    start = time.monotonic()
    for batch in (1, 2, 3):
        builds.request(0, shape(batch))
    assert time.monotonic() - start < 1


def test_a_second_model_of_the_same_segment_takes_what_the_first_built(builder: Builder) -> None:
    models = [Model(), Model()]
    for model in models:
        make_builds(model).request(0, shape(2))
    wait_until(lambda: all(model.added for model in models))
    assert [model.added for model in models] == [[("x=2x4", True)], [("x=2x4", False)]]
    assert len(builder.built) == 1


def test_a_failure_is_told_once_and_does_not_end_the_thread(builder: Builder, caplog: pytest.LogCaptureFixture) -> None:
    model = Model()
    builds = make_builds(model)
    with caplog.at_level(logging.WARNING, "beforehand"):
        for batch in (13, 13, 2, 13):
            builds.request(0, shape(batch))
            wait_until(lambda: bool(model.failures))
        wait_until(lambda: bool(model.added))
    assert builder.built == ["x=13x4", "x=2x4"]
    assert model.failures == ["BH401 batch 13 was not built."]
    assert caplog.text.count("batch 13 was not built") == 1


def test_where_a_batch_can_be_no_range_its_largest_is_built_alone_in_static_mode(builder: Builder) -> None:
    wide = ShapeSet(("x",), ((13, 4),), ((14, 4),))  # the builder refuses what begins with 13
    for is_static, asked in ((False, [wide]), (True, [wide, ShapeSet(("x",), ((14, 4),))])):
        builder.built.clear()
        model = Model()
        policies = Policies(serve_smaller_batches=is_static)
        make_builds(model, policies=policies, options=(*MANIFEST.options, ("try", is_static))).request(0, wide)
        wait_until(lambda model=model: bool(model.failures))  # type: ignore[misc]
        wait_until(lambda asked=asked: len(builder.built) == len(asked))  # type: ignore[misc]
        assert builder.built == [shapes.describe() for shapes in asked]


def test_a_bound_holds_for_each_segment_and_not_for_what_the_user_built_once(
    builder: Builder, caplog: pytest.LogCaptureFixture
) -> None:
    own = [
        Engine(SEGMENT.name, 0, shape(100 + i), "openvino", "1", "FP32", "cpu", ("i",), ("o",), "k", "f", 1, "s", 0.0)
        for i in range(3)
    ]
    model = Model()
    builds = make_builds(model, segments=(SEGMENT, SEGMENT), sources=(SOURCE, SOURCE), engines=tuple(own))
    with caplog.at_level(logging.WARNING, "beforehand"):
        for batch in range(20, 20 + MOST_BUILDS + 5):
            builds.request(0, shape(batch))
        builds.request(0, own[2].shapes)
        builds.request(1, shape(50))
        wait_until(lambda: len(model.added) == MOST_BUILDS + 2)
    assert caplog.text.count("no more are built for it") == 1
    assert [text for text, _ in model.added[-2:]] == ["x=102x4", "x=50x4"]


def test_a_model_that_goes_while_its_engine_is_built_leaves_it_in_the_cache(builder: Builder) -> None:
    builder.gate.clear()
    model = Model()
    builds = make_builds(model)
    builds.request(0, shape(2))
    builds.request(0, shape(3))
    wait_until(lambda: len(builder.built) == 1)
    del model, builds
    gc.collect()
    builder.gate.set()
    later = Model()
    make_builds(later).request(0, shape(2))
    wait_until(lambda: bool(later.added))
    assert later.added == [("x=2x4", False)]
    assert builder.built == ["x=2x4"]  # nobody waits for the second one any more


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_after_a_fork_the_child_builds_for_itself(builder: Builder) -> None:
    builder.gate.clear()
    model = Model()
    builds = make_builds(model)
    builds.request(0, shape(2))
    wait_until(lambda: len(builder.built) == 1)
    builds.request(0, shape(3))  # waits in the parent
    child = os.fork()
    if child == 0:
        try:
            builder.gate = threading.Event()
            builder.gate.set()
            builds.request(0, shape(3))
            wait_until(lambda: model.added == [("x=3x4", True)])
            os._exit(0)
        except BaseException:  # noqa: BLE001 (a test must not go on in its child)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    builder.gate.set()
    wait_until(lambda: len(model.added) == 2)
    assert model.added == [("x=2x4", True), ("x=3x4", False)]


def test_a_thread_that_cannot_be_started_is_told(
    builder: Builder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(background_builds, "_worker", None)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with caplog.at_level(logging.WARNING, "beforehand"):
        make_builds(Model()).request(0, shape(2))
    assert "can't start new thread" in caplog.text
