"""Half precision on a GPU is near float32; kernels compiled at build time are not compiled again."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from beforehand.backends import tensorrt_kernels
from beforehand.backends.registry import find_backend
from tests.gpu.make_segment import BACKEND, build, compute, load, write_conv_net, write_encoder

FIRST_CALLS = """
import json, sys, time
import numpy as np
from beforehand.backends import cuda
from beforehand.backends.registry import find_backend
cuda.check("cudaFree", 0)  # CUDA's own start is nobody's kernel
engine = find_backend("tensorrt-rtx").load(np.frombuffer(open(sys.argv[1], "rb").read(), np.uint8), ["x"], json.loads(sys.argv[2]))
found = {}
for shape in json.loads(sys.argv[3]):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    start = time.perf_counter()
    engine.run([x])
    first = time.perf_counter() - start
    times = []
    for _ in range(50):
        start = time.perf_counter()
        engine.run([x])
        times.append(time.perf_counter() - start)
    found[str(shape[0])] = [first, sorted(times)[25]]
print(json.dumps([found, len(engine.read_kernels())]))
"""


def time_first_calls(
    folder: pathlib.Path, engine: Any, *shapes: tuple[int, ...]
) -> tuple[dict[str, tuple[float, float]], int]:
    """Of each batch the first call and the median of the next, in seconds; and how large the kernels are afterwards."""
    words = [str(folder / engine.file), json.dumps(engine.output_names), json.dumps(shapes)]
    done = subprocess.run(
        [sys.executable, "-c", FIRST_CALLS, *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found, size = json.loads(done.stdout.splitlines()[-1])
    return found, size


def kernels_here() -> str:
    backend = find_backend(BACKEND)
    return backend.describe_kernels(backend.describe_target(""))


@pytest.mark.parametrize("high", [(), (8, 64, 128)], ids=["one shape", "a range"])
def test_a_new_process_compiles_no_kernels(high: tuple[int, ...], tmp_path: pathlib.Path) -> None:
    model = write_encoder(tmp_path)
    engine = build(tmp_path, model, (1, 64, 128), high, kernels=kernels_here(), precision="FP16")
    assert engine.kernels.startswith("sm_")
    _, kernels = tensorrt_kernels.split((tmp_path / engine.file).read_bytes())
    assert len(kernels) > 10_000
    found, size = time_first_calls(tmp_path, engine, (1, 64, 128), *([high] if high else []))
    print(f"first call and median, s: {found}")
    assert size == len(kernels)
    assert all(first < 0.5 for first, _ in found.values()), found  # one kernel takes about a second to compile


def test_damaged_kernels_are_compiled_again(tmp_path: pathlib.Path) -> None:
    model = write_conv_net(tmp_path)
    engine = build(tmp_path, model, (2, 3, 32, 32), kernels=kernels_here())
    file = tmp_path / engine.file
    plain, kernels = tensorrt_kernels.split(file.read_bytes())
    file.write_bytes(tensorrt_kernels.join(bytes(plain), bytes(reversed(bytes(kernels)))))
    x = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(load(tmp_path, engine).run([x])[0], compute(model, x)[0], rtol=1e-2, atol=5e-3)


@pytest.mark.parametrize(("precision", "atol"), [("TF32", 5e-3), ("FP16", 2e-2), ("BF16", 2e-1)])
@pytest.mark.parametrize("write", [write_conv_net, write_encoder])
def test_half_precision_is_near(write: Any, precision: str, atol: float, tmp_path: pathlib.Path) -> None:
    model = write(tmp_path)
    shape = (3, 3, 32, 32) if write is write_conv_net else (3, 64, 128)
    engine = load(tmp_path, build(tmp_path, model, shape, precision=precision))
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    for found, expected in zip(engine.run([x]), compute(model, x), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=atol)


def test_half_precision_sums_in_float32(tmp_path: pathlib.Path) -> None:
    """Means over an image of values near 1000, whose sum is beyond float16, and a softmax over 70,000 equal values."""
    from tests.gpu.make_segment import write_sums

    model = write_sums(tmp_path)
    engine = load(tmp_path, build(tmp_path, model, (2, 8, 64, 64), precision="FP16"))
    x = (1000 + 30 * np.random.default_rng(1).normal(size=(2, 8, 64, 64))).astype(np.float32)
    mean, pooled, spread = engine.run([x])
    np.testing.assert_allclose(mean, x.mean((2, 3)), rtol=2e-3)
    np.testing.assert_allclose(pooled, x.mean((2, 3), keepdims=True), rtol=2e-3)
    np.testing.assert_allclose(spread, np.ones_like(spread), rtol=5e-2)
