"""However a script is started, `build` starts processes that run nothing of it: no guard, no file, no terminal is needed."""

from __future__ import annotations

import json
import os
import pathlib
import queue
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from life_cycle import run_python

SCRIPT = """
import pathlib
with open({marks!r}, "a") as marks:
    marks.write("ran\\n")
import beforehand
converter = beforehand.Converter({source!r})
converter.convert()
engines = converter.build(shapes=[{{"x": (2, 8)}}, {{"x": (3, 8)}}])
print("ENGINES", len(engines), sum(engine.build_seconds > 0 for engine in engines))
"""


class Dense(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng().normal(size=(8, 4)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, "x")])
    def predict(self, x: Any) -> dict[str, Any]:
        return {"y": tf.nn.softmax(tf.nn.relu(x @ self.weights))}


@pytest.fixture
def script(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Unguarded, at the top level of a file; with a cache of its own, so that it builds."""
    model = Dense()
    tf.saved_model.save(model, str(tmp_path / "model"), signatures=model.predict)
    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "cache"))
    return SCRIPT.format(marks=str(tmp_path / "marks"), source=str(tmp_path / "model"))


def check(tmp_path: pathlib.Path, output: str) -> None:
    assert "ENGINES 2 2" in output
    assert (tmp_path / "marks").read_text() == "ran\n"


def run(command: list[str], **how: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **how)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_unguarded_script(script: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "script.py").write_text(script)
    check(tmp_path, run([sys.executable, str(tmp_path / "script.py")]))


def test_an_unguarded_script_from_standard_input(script: str, tmp_path: pathlib.Path) -> None:
    check(tmp_path, run([sys.executable], input=script))


def test_a_script_on_the_command_line(script: str, tmp_path: pathlib.Path) -> None:
    check(tmp_path, run([sys.executable, "-c", script]))


def test_a_module_beside_files_that_are_named_as_pythons_own(script: str, tmp_path: pathlib.Path) -> None:
    """The parent has its own modules already; a child must not find these instead."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "resource.py").write_text("raise SystemExit('the wrong module')")
    (tmp_path / "work" / "secrets.py").write_text("raise SystemExit('the wrong module')")
    (tmp_path / "script.py").write_text(script)
    check(tmp_path, run([sys.executable, str(tmp_path / "script.py")], cwd=tmp_path / "work"))


def test_a_thread(script: str, tmp_path: pathlib.Path) -> None:
    threaded = f"import threading\nt = threading.Thread(target=exec, args=({script!r}, {{}}))\nt.start(); t.join()"
    check(tmp_path, run([sys.executable, "-c", threaded]))


def test_a_notebook_kernel(script: str, tmp_path: pathlib.Path) -> None:
    client_of = pytest.importorskip("jupyter_client")
    pytest.importorskip("ipykernel")
    environ = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    manager = client_of.KernelManager(kernel_name="python3")
    manager.kernel_spec_manager.ensure_native_kernel = True
    manager.start_kernel(env=environ, cwd=str(tmp_path))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        client.execute(script)
        check(tmp_path, read_output(client))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def read_output(client: Any) -> str:
    """All that a cell prints, until the kernel is idle again."""
    printed, deadline = "", time.monotonic() + 240
    while time.monotonic() < deadline:
        try:
            message = client.get_iopub_msg(timeout=5)
        except queue.Empty:
            continue
        content = message["content"]
        if message["msg_type"] == "error":
            pytest.fail("\n".join(content["traceback"]))
        printed += content.get("text", "")
        if message["msg_type"] == "status" and content["execution_state"] == "idle" and "ENGINES" in printed:
            return printed
    pytest.fail(f"the kernel did not finish: {printed}")


def test_an_interpreter_that_is_embedded_says_so(script: str, tmp_path: pathlib.Path) -> None:
    embedded = f"import sys\nsys.executable = None\n{script}"
    done = subprocess.run([sys.executable, "-c", embedded], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert "sys.executable is None, as in a program that embeds Python" in done.stderr
    assert "Try: set sys.executable" in done.stderr


def test_the_cache_serves_the_second_run_of_an_unchanged_script(script: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "script.py").write_text(script)
    environ = {**os.environ, "BEFOREHAND_PROGRESS": "json"}
    kinds = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(tmp_path / "script.py")], env=environ, capture_output=True, text=True, check=True
        )
        events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith('{"kind"')]
        kinds.append([event["kind"] for event in events if event["kind"] not in ("heartbeat", "phase")])
    assert kinds == [["plan", *["started", "finished"] * 2], ["plan", *["skipped-because-cached"] * 2]]


def test_a_build_forbidden_takes_what_is_cached(script: str, tmp_path: pathlib.Path) -> None:
    assert "ENGINES 2 2" in run_python("-c", script).stdout
    assert "ENGINES 2 2" in run_python("-c", script, BEFOREHAND_FORBID_BUILD="1").stdout
