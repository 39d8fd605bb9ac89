"""torch.compile of one model at one batch and layout into Inductor's cache: `python gpu_compile.py JOB`.

JOB is JSON: {"folder", "model", "batch", "layout", "precision"}. The last line printed is JSON: seconds of the first call.
Several such processes may work at once: they take turns on the GPU when they try kernels against each other.
"""

import fcntl
import functools
import json
import pathlib
import sys
import time
from typing import Any

import torch
from gpu_models import draw_inputs
from gpu_models_torch import arrange_inputs, compile_module, convert_inputs, make_module


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Compile and call."""
    take_turns(pathlib.Path(job["folder"], "inductor.lock"))
    module = make_module(job["model"], job["precision"], job["layout"])
    arrays = draw_inputs(job["model"], job["batch"])
    inputs = convert_inputs(arrange_inputs(arrays, job["layout"]), job["precision"])
    begun = time.perf_counter()
    with torch.no_grad():
        compile_module(module)(*inputs)
    torch.cuda.synchronize()
    return {"seconds": time.perf_counter() - begun}


def take_turns(file: pathlib.Path) -> None:
    """Let Inductor time a kernel only while no other process does, or its choice would be of noise."""
    from torch._inductor.runtime import benchmarking  # noqa: PLC0415 (private: it may be another in another release)

    kind = type(benchmarking.benchmarker)
    time_kernel = kind.benchmark_gpu

    @functools.wraps(time_kernel)
    def time_alone(*args: Any, **kwargs: Any) -> Any:
        with file.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return time_kernel(*args, **kwargs)

    kind.benchmark_gpu = time_alone


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
