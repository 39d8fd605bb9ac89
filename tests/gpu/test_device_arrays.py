"""Arrays that lie on the GPU: read there, given back there, in the order of the streams, by torch, CuPy and JAX."""

from __future__ import annotations

import gc
import pathlib
import threading
from typing import Any

import numpy as np
import pytest

from beforehand.backends import cuda, tensorrt_run
from beforehand.backends.device_array import DeviceArray, DeviceInput
from beforehand.backends.registry import find_backend
from beforehand.errors import EngineRunError, SampleError
from tests.gpu.make_segment import BACKEND, build, compute, load, write_conv_net, write_encoder

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("conv")
    model = write_conv_net(folder)
    return model, load(folder, build(folder, model, (1, 3, 32, 32), (16, 3, 32, 32)))


def draw(batch: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, 3, 32, 32)).astype(np.float32)).cuda()


def call(engine: Any, *arrays: Any) -> list[Any]:
    return [torch.from_dlpack(array) for array in engine.run_on_device([DeviceInput(array) for array in arrays])]


def test_what_comes_back_is_on_the_gpu_and_right(served: Any) -> None:
    model, engine = served
    for batch in (1, 16, 5, 1):
        x = draw(batch, batch)
        found = call(engine, x)
        for tensor, expected in zip(found, compute(model, x.cpu().numpy()), strict=True):
            assert tensor.is_cuda
            np.testing.assert_allclose(tensor.cpu(), expected, rtol=1e-2, atol=5e-3)


def test_torchs_tensors_give_torchs_tensors_and_others_give_arrays_for_dlpack(served: Any) -> None:
    _, engine = served
    assert all(isinstance(found, torch.Tensor) for found in engine.run_on_device([DeviceInput(draw(2))]))
    cupy = pytest.importorskip("cupy")
    [y, flat] = engine.run_on_device([DeviceInput(cupy.from_dlpack(draw(2)))])
    assert isinstance(y, DeviceArray)
    assert (y.shape, y.dtype, y.ndim, y.nbytes) == ((2, 10), np.float32, 2, 80)
    assert torch.from_dlpack(y).data_ptr() == torch.from_dlpack(y).data_ptr()
    np.testing.assert_array_equal(np.asarray(flat), torch.from_dlpack(flat).cpu())
    np.testing.assert_array_equal(np.asarray(y, np.float64), torch.from_dlpack(y).cpu().double())
    with pytest.raises(ValueError, match="without a copy"):
        np.array(y, copy=False)


def test_outputs_stay_what_they_were_while_others_are_made(served: Any) -> None:
    _, engine = served
    inputs = [draw(1 + n % 16, n) for n in range(40)]
    kept = [call(engine, x) for x in inputs]
    cupy = pytest.importorskip("cupy")
    taken = [[torch.from_dlpack(y) for y in engine.run_on_device([DeviceInput(cupy.from_dlpack(x))])] for x in inputs]
    for x, outputs, others in zip(inputs, kept, taken, strict=True):
        for tensor, other, again in zip(outputs, others, call(engine, x), strict=True):
            assert torch.allclose(tensor, again, rtol=1e-2, atol=2e-3)
            assert torch.allclose(other, again, rtol=1e-2, atol=2e-3)


def test_an_array_that_stays_is_read_in_place_and_others_are_copied(served: Any) -> None:
    """Values that the caller changes in place count at the next call; then come arrays of other addresses again."""
    model, engine = served
    kept = draw(5)
    for n in range(40):
        x = kept if n < 20 or n % 2 else draw(5, n)
        if n < 20:
            kept.copy_(draw(5, n))
        [y, _] = call(engine, x)
        again = y.clone()
        np.testing.assert_allclose(y.cpu(), compute(model, x.cpu().numpy())[0], rtol=1e-2, atol=5e-3)
        call(engine, draw(5, 99))
        assert torch.equal(y, again)


def test_runs_of_one_shape_are_launched_as_graphs_in_whatever_stream(tmp_path: pathlib.Path) -> None:
    model = write_conv_net(tmp_path)
    engine = load(tmp_path, build(tmp_path, model, (4, 3, 32, 32)))
    counted: list[int] = []
    for n in range(30):
        x = draw(4, n)
        with torch.cuda.stream(torch.cuda.Stream() if n % 3 else torch.cuda.default_stream()):
            x.add_(1)
            [y, _] = call(engine, x)
            y.mul_(2)
            torch.cuda.current_stream().synchronize()
        expected = compute(model, x.cpu().numpy())[0]
        np.testing.assert_allclose(y.cpu(), 2 * expected, rtol=1e-2, atol=5e-3)
        np.testing.assert_allclose(engine.run([x.cpu().numpy()])[0], expected, rtol=1e-2, atol=5e-3)
        counted.append(len(engine._slots[0]._context._graphs._kept))
    assert counted[0] == 0  # kernels are loaded by the first run
    assert 1 <= counted[-1] <= 12  # of addresses in turns, and of our buffers


def test_large_arrays_of_the_host_are_cut_and_put_together_again(served: Any, tmp_path: pathlib.Path) -> None:
    del served
    model = write_encoder(tmp_path)
    engine = load(tmp_path, build(tmp_path, model, (1, 64, 128), (64, 512, 128)))
    for batch in (64, 1, 63, 40):
        x = np.random.default_rng(batch).normal(size=(batch, 512, 128)).astype(np.float32)
        [y] = engine.run([x])
        [on_gpu] = call(engine, torch.from_numpy(x).cuda())
        np.testing.assert_array_equal(y, on_gpu.cpu())
        few = np.ascontiguousarray(x[-1:])
        np.testing.assert_allclose(y[-1:], compute(model, few)[0], rtol=1e-2, atol=1e-2)


def test_inputs_may_go_at_once_and_work_of_other_streams_is_waited_for(served: Any) -> None:
    """Each input is made by slow work in a stream of its own, and dropped before the engine has read it."""
    _, engine = served
    stream = torch.cuda.Stream()
    expected = [float(call(engine, torch.full((4, 3, 32, 32), n / 10, device="cuda"))[1].sum()) for n in range(30)]
    slow = torch.randn(3000, 3000, device="cuda")
    sums = []
    with torch.cuda.stream(stream):
        for n in range(30):
            x = torch.empty(4, 3, 32, 32, device="cuda")
            for _ in range(3):
                slow = torch.tanh(slow @ slow)
            x.copy_((slow[0, 0] * 0 + n / 10).expand_as(x))
            outputs = call(engine, x)
            x.fill_(1e6)  # waits for the engine
            del x
            torch.empty(4, 3, 32, 32, device="cuda").fill_(-1e6)  # takes the memory, if it is free
            sums.append(outputs[1].sum())
    torch.cuda.synchronize()
    np.testing.assert_allclose([float(s) for s in sums], expected, rtol=1e-3, atol=1e-4)


def test_hosts_arrays_may_be_mixed_in_and_calls_of_both_kinds_alternate(served: Any) -> None:
    model, engine = served
    for n in range(20):
        x = draw(3, n)
        expected = compute(model, x.cpu().numpy())[0]
        np.testing.assert_allclose(engine.run([x.cpu().numpy()])[0], expected, rtol=1e-2, atol=5e-3)
        np.testing.assert_allclose(call(engine, x)[0].cpu(), expected, rtol=1e-2, atol=5e-3)
        [y, _] = engine.run_on_device([x.cpu().numpy()])
        np.testing.assert_allclose(np.asarray(y), expected, rtol=1e-2, atol=5e-3)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: draw(2).permute(0, 1, 3, 2), "not contiguous"),
        (lambda: draw(2).half(), "another dtype than float32"),
        (lambda: torch.empty(2 * 3 * 32 * 32 + 1, device="cuda")[1:].view(2, 3, 32, 32), "begins at no multiple"),
        (lambda: draw(2).requires_grad_(), "requires a gradient"),
    ],
    ids=["turned", "half", "shifted", "gradient"],
)
def test_what_cannot_be_read_as_it_lies_is_refused_and_the_next_call_is_right(
    make: Any, told: str, served: Any
) -> None:
    model, engine = served
    with pytest.raises(SampleError, match=told):
        engine.run_on_device([DeviceInput(make())])
    x = draw(2, 7)
    np.testing.assert_allclose(call(engine, x)[0].cpu(), compute(model, x.cpu().numpy())[0], rtol=1e-2, atol=5e-3)


def test_sixteen_threads_with_streams_of_their_own(served: Any) -> None:
    _, engine = served
    inputs = [draw(1 + n % 16, n) for n in range(48)]
    expected = [call(engine, x)[1].cpu() for x in inputs]
    wrong: list[int] = []

    def work(first: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            for step in range(60):
                n = (first + 7 * step) % len(inputs)
                if not torch.allclose(call(engine, inputs[n])[1].cpu(), expected[n], rtol=1e-2, atol=2e-3):
                    wrong.append(n)

    torch.cuda.synchronize()
    threads = [threading.Thread(target=work, args=(first,)) for first in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(engine._slots) <= tensorrt_run.MOST_SLOTS


def test_device_memory_stays_over_two_thousand_calls_and_is_accounted(served: Any) -> None:
    _, engine = served
    inputs = [draw(batch, batch) for batch in range(1, 17)]
    cupy = pytest.importorskip("cupy")
    arrays = [cupy.from_dlpack(x) for x in inputs]
    for n in range(32):
        call(engine, inputs[n % 16])
        call(engine, arrays[n % 16])
    torch.cuda.synchronize()
    gc.collect()
    before, told = int(cuda.check("cudaMemGetInfo")[0]), engine.device_bytes
    for n in range(1000):
        call(engine, inputs[n % 16])
        call(engine, arrays[n % 16])
    torch.cuda.synchronize()
    assert before - int(cuda.check("cudaMemGetInfo")[0]) < 8 << 20
    assert engine.device_bytes - told < 1 << 20
    assert told > 0


def test_cupy_and_jax_read_and_are_read(served: Any) -> None:
    model, engine = served
    x = draw(2, 3)
    expected = compute(model, x.cpu().numpy())[0]
    cupy = pytest.importorskip("cupy")
    [y, _] = engine.run_on_device([DeviceInput(cupy.from_dlpack(x))])
    np.testing.assert_allclose(cupy.asnumpy(cupy.from_dlpack(y)), expected, rtol=1e-2, atol=5e-3)
    jax = pytest.importorskip("jax")
    [y, _] = engine.run_on_device([DeviceInput(jax.numpy.asarray(x.cpu().numpy()))])
    np.testing.assert_allclose(np.asarray(jax.dlpack.from_dlpack(y)), expected, rtol=1e-2, atol=5e-3)


def test_arrays_outlive_their_engine(tmp_path: pathlib.Path) -> None:
    model = write_conv_net(tmp_path)
    engine = load(tmp_path, build(tmp_path, model, (2, 3, 32, 32)))
    x = draw(2, 5)
    cupy = pytest.importorskip("cupy")
    tensors = engine.run_on_device([DeviceInput(x)])
    kept = engine.run_on_device([DeviceInput(cupy.from_dlpack(x))])
    taken = torch.from_dlpack(kept[0])
    del engine
    gc.collect()
    expected = compute(model, x.cpu().numpy())
    np.testing.assert_allclose(taken.cpu(), expected[0], rtol=1e-2, atol=5e-3)
    np.testing.assert_allclose(np.asarray(kept[1]), expected[1], rtol=1e-2, atol=5e-3)
    np.testing.assert_allclose(tensors[1].cpu(), expected[1], rtol=1e-2, atol=5e-3)


def test_another_gpu_runs_the_engine_and_takes_its_own_arrays(tmp_path: pathlib.Path) -> None:
    if cuda.count_gpus() < 2:
        pytest.skip("this machine has one GPU")
    model = write_conv_net(tmp_path)
    record = build(tmp_path, model, (2, 3, 32, 32))
    data = np.frombuffer((tmp_path / record.file).read_bytes(), np.uint8)
    engine = find_backend(BACKEND).load(data, record.input_names, record.output_names, device=1)
    x = draw(2, 5)
    assert x.device.index == 0  # what is current is the caller's
    expected = compute(model, x.cpu().numpy())[0]
    np.testing.assert_allclose(engine.run([x.cpu().numpy()])[0], expected, rtol=1e-2, atol=5e-3)
    [y, _] = engine.run_on_device([DeviceInput(x.to("cuda:1"))])
    assert torch.cuda.current_device() == 0
    assert y.device.index == 1
    np.testing.assert_allclose(y.cpu(), expected, rtol=1e-2, atol=5e-3)
    with pytest.raises(SampleError, match="x lies on GPU 0, the engine runs on GPU 1"):
        engine.run_on_device([DeviceInput(x)])


def test_a_gpu_that_is_not_there_is_told(tmp_path: pathlib.Path) -> None:
    record = build(tmp_path, write_conv_net(tmp_path), (2, 3, 32, 32))
    data = np.frombuffer((tmp_path / record.file).read_bytes(), np.uint8)
    with pytest.raises(EngineRunError, match=r"is to run on GPU 9. this process sees 0: "):
        find_backend(BACKEND).load(data, record.input_names, record.output_names, device=9)
