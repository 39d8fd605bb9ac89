"""What the GPU can do at most, measured, and what a model asks of it, counted: `python gpu_roofline.py` measures.

Floating-point operations are torch's own count, of products alone (a multiply-add is two). Bytes, of two bytes a number in
FP16: at least each weight, input and output once; at most also what each product makes, written once and read once.
"""

import dataclasses
import json
import math
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

SIZE = 8192  # of the product of matrices
COPIED = 1 << 30


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """Operations and bytes per second; microseconds of the least kernel by itself, launched or as a CUDA graph, and the wait."""

    flops: float
    bandwidth: float
    launch_us: float
    graph_us: float


@dataclasses.dataclass(frozen=True)
class Work:
    """Of one call: operations, and the fewest and most bytes between the memory and the multiprocessors."""

    flops: int
    least_bytes: int
    most_bytes: int


def find_floor(work: Work, ceilings: Ceilings, *, most: bool = False) -> float:
    """Milliseconds that no version can be much faster than; with `most`, none that keeps what it makes in memory."""
    moved = work.most_bytes if most else work.least_bytes
    return 1000 * max(work.flops / ceilings.flops, moved / ceilings.bandwidth)


def count_work(module: Any, inputs: list[Any]) -> Work:
    """Of a torch module, which is called."""
    import torch  # noqa: PLC0415 (the arithmetic above needs none)
    from torch.utils._python_dispatch import TorchDispatchMode  # noqa: PLC0415
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    products = ("convolution", "mm", "addmm", "bmm", "baddbmm", "linear", "scaled_dot_product", "embedding")
    made = 0

    class Watch(TorchDispatchMode):
        """Adds up what products make."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal made
            found = func(*args, **(kwargs or {}))
            if any(func.overloadpacket.__name__.strip("_").startswith(name) for name in products):
                first = found[0] if isinstance(found, tuple) else found
                made += first.numel() * first.element_size()
            return found

    with torch.no_grad():
        counter = FlopCounterMode(display=False)
        with counter:
            outputs = module(*inputs)
        with Watch():
            module(*inputs)
    least = count_weights(module, inputs) + sum_bytes(inputs) + sum_bytes(outputs)
    return Work(counter.get_total_flops(), least, least + 2 * made)


def count_weights(module: Any, inputs: list[Any]) -> int:
    """Bytes of the parameters; of an embedding the rows that are read."""
    import torch  # noqa: PLC0415 (as above)

    tables = {id(part.weight) for part in module.modules() if isinstance(part, torch.nn.Embedding)}
    whole = sum_bytes(weight for weight in module.parameters() if id(weight) not in tables)
    rows = sum(
        math.prod(inputs[0].shape) * part.weight.shape[1] * part.weight.element_size()
        for part in module.modules()
        if isinstance(part, torch.nn.Embedding)
    )
    return whole + rows


def sum_bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def measure_ceilings() -> Ceilings:
    """On the first GPU, of random numbers: zeros run faster."""
    import torch  # noqa: PLC0415 (as above)

    left, right = (torch.randn(SIZE, SIZE, device="cuda", dtype=torch.float16) for _ in range(2))
    result = torch.empty_like(left)
    seconds = time_on_gpu(lambda: torch.mm(left, right, out=result), 30)
    source = torch.randint(0, 255, (COPIED,), device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    copied = time_on_gpu(lambda: target.copy_(source), 30)
    launch, replay = time_least_kernel()
    return Ceilings(2 * SIZE**3 / seconds, 2 * COPIED / copied, launch, replay)


def time_on_gpu(call: Callable[[], Any], count: int) -> float:
    """Median seconds between events, after a warm-up."""
    import torch  # noqa: PLC0415 (as above)

    for _ in range(5):
        call()
    seconds = []
    for _ in range(count):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1000)
    return statistics.median(seconds)


def time_least_kernel() -> tuple[float, float]:
    """Microseconds of a kernel on one number and the wait for it: launched, and as a graph that is replayed."""
    import torch  # noqa: PLC0415 (as above)

    number = torch.zeros(1, device="cuda")
    number.add_(1)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        number.add_(1)
    medians = []
    for call in (lambda: number.add_(1), graph.replay):
        samples = []
        for _ in range(2000):
            begun = time.perf_counter()
            call()
            torch.cuda.synchronize()
            samples.append(1e6 * (time.perf_counter() - begun))
        medians.append(statistics.median(samples))
    return medians[0], medians[1]


def describe_gpu() -> dict[str, str]:
    """Names and releases of what is measured on."""
    import torch  # noqa: PLC0415 (as above)

    from beforehand.backends.tensorrt_flavours import RTX  # noqa: PLC0415

    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        "gpu": torch.cuda.get_device_name(),
        "driver": (process.stdout.strip().splitlines() or ["unknown"])[0],
        "cuda": str(torch.version.cuda),
        "tensorrt_rtx": RTX.find_version(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    print(json.dumps({"ceilings": dataclasses.asdict(measure_ceilings()), "machine": describe_gpu()}))
