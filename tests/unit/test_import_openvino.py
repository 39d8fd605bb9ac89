"""OpenVINO is imported without its telemetry, which starts a thread that forks."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from beforehand.backends.registry import find_backend

assert find_backend("openvino").probe().usable
assert "openvino" in sys.modules
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry")))
"""


def test_the_first_import_by_a_backend_leaves_the_telemetry_out_and_nothing_behind() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.strip() == "[]"
