"""Builds handed to Ray: the same engines as here, the same errors, nothing left behind."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from tests.faults.fault_table import make_spec

from beforehand import causes
from beforehand.build_engines import events
from beforehand.build_engines.build_all import BuildHooks, BuildResult, build_all
from beforehand.build_engines.events import BuildEvent
from beforehand.build_engines.plan_engines import make_key
from beforehand.build_engines.settings import BuildSettings
from beforehand.errors import BackendError, BuildCancelledError, BuildForbiddenError
from beforehand.records import EngineSpec, ShapeSet
from beforehand.store.cache_folder import CacheFolder

ray = pytest.importorskip("ray", reason="the extra beforehand[ray] is not installed")
TOLD = {"x=5x4": "signal 11", "x=6x4": "refuse unsupported not this one", "x=7x4": "hang", "*": "sleep 0.1"}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One cluster of this machine for all tests, as a user's own would be; its workers see this environment."""
    environ = {"BEFOREHAND_FAKE": json.dumps(TOLD)}
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
        runtime_env={"env_vars": environ},
    )  # fmt: skip
    yield
    ray.shutdown()


def make_specs(folder: pathlib.Path, backend: str, batches: range) -> list[EngineSpec]:
    first = make_spec(folder, backend)
    specs = [dataclasses.replace(first, shapes=ShapeSet(("x",), ((batch, 4),))) for batch in batches]
    return [dataclasses.replace(spec, key=make_key(spec)) for spec in specs]


def run(
    folder: pathlib.Path, specs: list[EngineSpec], executor: str, told: list[BuildEvent] | None = None, **more: Any
) -> BuildResult:
    into = folder / executor
    into.mkdir(exist_ok=True)
    settings = BuildSettings(workers=2, executor=executor, timeout_s=60)
    hooks = BuildHooks(on_event=(told if told is not None else []).append)
    return build_all(specs, into, settings, hooks=hooks, **more)


def test_engines_are_those_that_are_built_here(tmp_path: pathlib.Path) -> None:
    specs = make_specs(tmp_path, "openvino", range(1, 4))
    told: list[BuildEvent] = []
    away, here = run(tmp_path, specs, "ray", told), run(tmp_path, specs, "local")
    assert away.failures == here.failures == ()
    found = [
        {engine.key: (tmp_path / name / engine.file).read_bytes() for engine in result.engines}
        for name, result in (("ray", away), ("local", here))
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 3
    assert {engine.sha256 for engine in away.engines} == {engine.sha256 for engine in here.engines}
    assert [event.kind for event in told].count(events.FINISHED) == 3
    assert events.COMPILING in {event.phase for event in told}
    assert all(event.memory_bytes > 0 for event in told if event.kind == events.FINISHED)


def test_the_cache_is_the_callers(tmp_path: pathlib.Path) -> None:
    specs = make_specs(tmp_path, "fake", range(1, 3))
    cache = CacheFolder(tmp_path / "cache")
    assert len(run(tmp_path, specs, "ray", cache=cache).engines) == 2
    told: list[BuildEvent] = []
    run(tmp_path, specs, "ray", told, cache=cache)
    assert [event.kind for event in told] == [events.PLAN, events.CACHED, events.CACHED]


def test_failures_come_back_as_what_they_were_with_their_log(tmp_path: pathlib.Path) -> None:
    result = run(tmp_path, make_specs(tmp_path, "fake", range(4, 7)), "ray")
    assert len(result.engines) == 1
    by_cause = {error.cause: error for error in result.failures}
    assert set(by_cause) == {causes.CRASHED, causes.UNSUPPORTED}
    crashed = by_cause[causes.CRASHED]
    assert "signal 11 (SIGSEGV)" in str(crashed)
    assert crashed.nodes == ("model/reshape", "model/dense/op")
    assert pathlib.Path(by_cause[causes.UNSUPPORTED].log).read_text().count("Traceback") == 1


def test_another_version_on_the_node_is_refused(tmp_path: pathlib.Path) -> None:
    spec = dataclasses.replace(make_spec(tmp_path, "openvino"), backend_version="2020.1")
    [error] = run(tmp_path, [spec], "ray").failures
    assert "2020.1 was asked for" in str(error)
    assert "the same packages on every node" in str(error)


def test_cancel_ends_the_task_and_its_child(tmp_path: pathlib.Path) -> None:
    cancel, told = threading.Event(), []
    at: list[float] = []

    def watch() -> None:
        while not any(event.phase == events.COMPILING for event in told):
            time.sleep(0.05)
        time.sleep(0.5)
        at.append(time.monotonic())
        cancel.set()

    threading.Thread(target=watch, daemon=True).start()
    with pytest.raises(BuildCancelledError):
        run(tmp_path, make_specs(tmp_path, "fake", range(7, 8)), "ray", told, cancel=cancel)
    assert time.monotonic() - at[0] < 5
    deadline = time.monotonic() + 3
    while [p for p in psutil.process_iter() if "beforehand.build_engines.child" in read_command(p)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read_command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_a_cluster_that_is_there_is_used_and_left(tmp_path: pathlib.Path) -> None:
    run(tmp_path, make_specs(tmp_path, "fake", range(1, 2)), "ray")
    assert ray.is_initialized()


def test_what_is_forbidden_here_is_not_built_there(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEFOREHAND_FORBID_BUILD", "1")
    [error] = run(tmp_path, make_specs(tmp_path, "fake", range(1, 2)), "ray").failures
    assert isinstance(error, BuildForbiddenError)


@pytest.mark.parametrize("address", ["", "ray.example:6379"])
def test_a_cluster_of_its_own_is_not_somebody_elses(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would join any cluster of this machine, and then refuse `num_cpus`."""
    from beforehand.build_engines import build_on_ray

    given: dict[str, Any] = {}
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "init", lambda **options: given.update(options))
    build_on_ray._start_ray(ray, BuildSettings(workers=3))
    assert (given.get("address"), given.get("num_cpus")) == ((None, None) if address else ("local", 3))


def test_without_ray_the_extra_is_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendError, match=r"pip install 'beforehand\[ray\]'"):
        run(tmp_path, make_specs(tmp_path, "fake", range(1, 2)), "ray")


ALONE = """
import os, signal, sys
def mine(number, frame): pass
signal.signal(signal.SIGTERM, mine)
os.environ.pop("RAY_USAGE_STATS_ENABLED", None)
import numpy as np, tensorflow as tf, beforehand
class Dense(tf.Module):
    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32))
    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, "x")])
    def predict(self, x):
        return {"y": tf.nn.softmax(tf.nn.relu(x @ self.weights))}
model = Dense()
tf.saved_model.save(model, sys.argv[1], signatures=model.predict)
converter = beforehand.Converter(sys.argv[1], executor="ray", workers=2)
converter.convert()
engines = converter.build(shapes=[{"x": (2, 8)}, {"x": (3, 8)}])
import ray
print("ENGINES", len(engines), ray.is_initialized(), signal.getsignal(signal.SIGTERM) is mine, "RAY_USAGE_STATS_ENABLED" in os.environ)
"""


def test_without_a_cluster_one_is_started_and_shut_down(tmp_path: pathlib.Path) -> None:
    from life_cycle import run_python

    done = run_python("-c", ALONE, tmp_path / "model")
    assert "ENGINES 2 False True False" in done.stdout, done.stderr
