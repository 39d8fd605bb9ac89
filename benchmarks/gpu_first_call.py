"""The first call of a model in a new process, with neither TensorFlow nor torch: `python gpu_first_call.py JOB`.

JOB is JSON: {"folder", "model", "batch"}. The last line printed is JSON: seconds of CUDA's start, of `beforehand.load`, of
opening the engine, which the first call does, and of each call with NumPy arrays.
"""

import json
import pathlib
import sys
import time
from typing import Any

from gpu_models import find_built, load_arrays

import beforehand
from beforehand.backends import cuda

CALLS = 60


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Start CUDA, load, call."""
    folder, name = pathlib.Path(job["folder"]), job["model"]
    arrays = load_arrays(folder, name, job["batch"], "inputs")
    begun = time.perf_counter()
    cuda.check("cudaFree", 0)  # the process's CUDA context, which is no model's
    seconds = {"cuda": time.perf_counter() - begun}
    begun = time.perf_counter()
    model = beforehand.load(find_built(folder, name))
    seconds["load"] = time.perf_counter() - begun
    calls = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        model(**arrays)
        calls.append(time.perf_counter() - begun)
    opening = sum(engine["load_seconds"] for engine in beforehand.stats(model)["engines"])
    return {**seconds, "opening": opening, "calls": calls}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
