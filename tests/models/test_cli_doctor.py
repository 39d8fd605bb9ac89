"""`beforehand doctor`: on a machine where all is well, and where TensorFlow or the backend is broken."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest


def run_doctor(*argv: str, first_on_path: pathlib.Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.environ.get("PYTHONPATH", "")
    if first_on_path is not None:
        path = os.pathsep.join([str(first_on_path), *([path] if path else [])])
    command = [sys.executable, "-m", "beforehand", "doctor", *argv]
    environ = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def make_package(folder: pathlib.Path, name: str, text: str) -> pathlib.Path:
    """A package that stands before the real one."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)
    return folder


def test_all_is_well_here() -> None:
    done = run_doctor("--json")
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert found["ok"]
    assert found["format_version"] == 1
    backend, *others = found["backends"]
    assert [other["name"] for other in others] == ["tensorrt-rtx", "tensorrt"]
    assert all(other["usable"] or other["advice"] for other in others)
    assert (backend["name"], backend["usable"], backend["default"]) == ("openvino", True, True)
    assert backend["version"]
    assert found["tensorflow"]["found"]
    assert found["contract"]["ok"]
    assert len(found["contract"]["checks"]) == 9
    assert all(check["ok"] and not check["error"] for check in found["contract"]["checks"])
    assert {"python", "onnx", "tf2onnx", "openvino", "numpy"} <= set(found["versions"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise RuntimeError('libbroken.so')", "RuntimeError: libbroken.so"),
        ("import missing_part", "No module named 'missing_part'"),
        ("import os; os.kill(os.getpid(), 11)", "its process ended by SIGSEGV"),
    ],
)
def test_a_broken_tensorflow_is_told_and_does_not_end_doctor(text: str, words: str, tmp_path: pathlib.Path) -> None:
    done = run_doctor(first_on_path=make_package(tmp_path, "tensorflow", text))
    assert done.returncode == 1
    assert "FAILED" in done.stdout
    assert words in done.stdout
    assert "openvino (default): usable" in done.stdout
    assert "Traceback" not in done.stderr


def test_no_tensorflow_is_no_fault(tmp_path: pathlib.Path) -> None:
    absent = "raise ModuleNotFoundError(\"No module named 'tensorflow'\", name='tensorflow')"
    done = run_doctor(first_on_path=make_package(tmp_path, "tensorflow", absent))
    assert done.returncode == 0
    assert "not installed: nothing can be converted here" in done.stdout


def test_a_broken_backend_is_told_with_advice(tmp_path: pathlib.Path) -> None:
    done = run_doctor(first_on_path=make_package(tmp_path, "openvino", "raise ImportError('libtbb.so.12')"))
    assert done.returncode == 1
    assert "openvino (default): NOT USABLE" in done.stdout
    assert "libtbb.so.12" in done.stdout
    assert "Try: reinstall openvino" in done.stdout
    assert "FAILED" in done.stdout
