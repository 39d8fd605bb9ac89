"""Engines that go in cycles, or with the process: Python finalizes what they have in any order, and CUDA crashes if it is used after."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

from tests.gpu.make_segment import build, write_conv_net

SCRIPT = """
import gc, json, sys
import numpy as np
from beforehand.backends.registry import find_backend

OURS = {"Slot", "TensorRtContext", "OutputPool", "OutputMemory", "DeviceCalls", "HostCalls", "Graphs", "Event", "Stream", "DeviceBuffer"}
data, names = np.frombuffer(open(sys.argv[1], "rb").read(), np.uint8), json.loads(sys.argv[2])
x = np.ones((2, 3, 32, 32), np.float32)


def use():
    engine = find_backend("tensorrt-rtx").load(data, ["x"], names)
    outputs = [engine.run([x]) for _ in range(3)][-1]
    for _ in range(4):
        arrays = engine.run_on_device([x])
        np.testing.assert_allclose(np.asarray(arrays[0]), outputs[0], rtol=1e-3)
    return engine, arrays


def tie(engine, arrays, step):
    parts = [one for one in gc.get_objects() if type(one).__name__ in OURS]
    assert len(parts) > 10
    cycle = [engine, arrays, *parts][::step]
    for part in parts:
        if hasattr(part, "__dict__"):
            part.cycle = cycle
    cycle.append(cycle)


for turn in range(10):
    tie(*use(), -1 if turn % 2 else 1)
    gc.collect()
engine, arrays = use()
print("used")
if sys.argv[3] == "tied":
    tie(engine, arrays, 1)
"""


@pytest.mark.parametrize("how", ["tied", "alone"])
@pytest.mark.parametrize("high", [(), (4, 3, 32, 32)], ids=["one shape", "a range"])
def test_they_go_in_any_order(high: tuple[int, ...], how: str, tmp_path: pathlib.Path) -> None:
    engine = build(tmp_path, write_conv_net(tmp_path), (2, 3, 32, 32), high)
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", SCRIPT, str(tmp_path / engine.file), json.dumps(engine.output_names), how],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert (done.returncode, done.stdout.split()) == (0, ["used"]), done.stderr[-3000:]
        assert "Exception ignored" not in done.stderr
