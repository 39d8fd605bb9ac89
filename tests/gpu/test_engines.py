"""Engines of TensorRT-RTX on a GPU: right for every shape they serve, by many callers, without growing."""

from __future__ import annotations

import pathlib
import threading
from typing import Any

import numpy as np
import pytest

from beforehand.backends import cuda
from beforehand.errors import EngineRunError
from tests.gpu.make_segment import CHANNELS, build, compute, load, write_conv_net, write_counted


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model, its engine for batches from 1 to 16, opened."""
    folder = tmp_path_factory.mktemp("conv")
    model = write_conv_net(folder)
    return model, load(folder, build(folder, model, (1, 3, 32, 32), (16, 3, 32, 32)))


def draw(batch: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(batch, 3, 32, 32)).astype(np.float32)


def test_it_is_right_for_every_batch(served: Any) -> None:
    model, engine = served
    for batch in (16, 1, 7, 16, 2):
        x = draw(batch, batch)
        for found, expected in zip(engine.run([x]), compute(model, x), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-2, atol=5e-3)
            assert found.dtype == expected.dtype


def test_results_are_the_callers_own(served: Any) -> None:
    _, engine = served
    first = engine.run([draw(4, 1)])
    kept = [array.copy() for array in first]
    engine.run([draw(4, 2)])
    for array, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert array.flags.writeable


def test_inputs_that_are_not_contiguous_or_read_only(served: Any) -> None:
    model, engine = served
    x = np.asfortranarray(draw(3, 5))
    x.flags.writeable = False
    np.testing.assert_allclose(engine.run([x])[0], compute(model, x)[0], rtol=1e-2, atol=5e-3)


def test_sixteen_threads_get_what_one_gets(served: Any) -> None:
    _, engine = served
    inputs = [draw(1 + n % 16, n) for n in range(48)]
    expected = [engine.run([x]) for x in inputs]
    wrong: list[int] = []

    def call(first: int) -> None:
        for step in range(100):
            n = (first + 7 * step) % len(inputs)
            found = engine.run([inputs[n]])  # of kernels for this shape or for any: not the same to the last bit
            if not all(np.allclose(a, b, rtol=1e-2, atol=2e-3) for a, b in zip(found, expected[n], strict=True)):
                wrong.append(n)

    threads = [threading.Thread(target=call, args=(first,)) for first in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def measure_free() -> int:
    return int(cuda.check("cudaMemGetInfo")[0])


def test_device_memory_stays_over_two_thousand_calls(served: Any) -> None:
    _, engine = served
    inputs = [draw(batch, batch) for batch in range(1, 17)]
    for x in inputs * 2:
        engine.run([x])
    before = measure_free()
    for n in range(2000):
        engine.run([inputs[n % 16]])
    assert before - measure_free() < 8 << 20


def test_a_closed_engine_gives_its_memory_back(tmp_path: pathlib.Path) -> None:
    import gc

    model = write_conv_net(tmp_path)
    record = build(tmp_path, model, (1, 3, 32, 32), (16, 3, 32, 32))
    for _ in range(2):  # what the libraries keep for themselves is taken by then
        engine = load(tmp_path, record)
        engine.run([draw(16)])
        del engine
        gc.collect()
    before = measure_free()
    for _ in range(5):
        engine = load(tmp_path, record)
        engine.run([draw(16)])
        del engine
        gc.collect()
    assert before - measure_free() < 8 << 20


def test_a_shape_that_it_does_not_serve_is_an_error_and_the_next_call_is_right(served: Any) -> None:
    model, engine = served
    with pytest.raises(EngineRunError, match="does not take the shape"):
        engine.run([draw(17)])
    x = draw(2, 3)
    np.testing.assert_allclose(engine.run([x])[0], compute(model, x)[0], rtol=1e-2, atol=5e-3)


def test_outputs_whose_size_comes_of_the_values(tmp_path: pathlib.Path) -> None:
    """More, fewer, none and all of the rows, in the memory that earlier calls had."""
    model = write_counted(tmp_path)
    engine = load(tmp_path, build(tmp_path, model, (1, CHANNELS), (16, CHANNELS)))
    rng = np.random.default_rng(1)
    for batch, positive in ((16, 5), (16, 16), (16, 0), (3, 2), (1, 1), (1, 0), (16, 9)):
        x = rng.normal(size=(batch, CHANNELS)).astype(np.float32)
        x[:, 0] = rng.permutation(np.where(np.arange(batch) < positive, 1, -1))
        found = engine.run([x])
        assert [len(array) for array in found] == [positive] * 3
        for array, expected in zip(found, compute(model, x), strict=True):
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("damage", ["truncated", "noise"])
def test_a_corrupted_engine_is_refused(damage: str, tmp_path: pathlib.Path) -> None:
    model = write_conv_net(tmp_path)
    record = build(tmp_path, model, (1, 3, 32, 32))
    file = tmp_path / record.file
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] if damage == "truncated" else bytes(reversed(data)))
    with pytest.raises(EngineRunError, match="BH601"):
        load(tmp_path, record)


def test_a_build_is_checked_on_the_gpu(tmp_path: pathlib.Path) -> None:
    """Where there is a GPU that runs it, `build` opens the engine: the phase is seen."""
    from beforehand.backends.registry import find_backend

    backend = find_backend("tensorrt-rtx")
    assert backend.describe_target("") in backend.list_targets_here()
