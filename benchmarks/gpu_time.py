"""Step 2 of gpu.py, for one model, without TensorFlow: `python gpu_time.py JOB`.

JOB is JSON: {"folder", "model", "batches", "precision", "layouts", "rounds": [fewest, most], "seconds", "seconds_left"}. Each
batch prints a line of JSON as soon as it is measured: {"batch", "row"}. A way that cannot be opened is told in the row, and the others are timed.
"""

import dataclasses
import json
import math
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from compare_answers import compare_answers
from gpu_models import Arrays, load_arrays
from gpu_models_torch import arrange_inputs, convert_inputs, make_module
from gpu_roofline import count_work
from gpu_ways import Call, RawEngine, open_ours, open_torch

from beforehand.benchmark.alternate_calls import Times, alternate_calls

SAMPLE_S = 0.02  # of calls back to back
MOST_TOGETHER = 100
WARM_S = 0.5


def main(job: dict[str, Any]) -> None:
    """Each batch in turn, none begun after `seconds_left`."""
    end = time.perf_counter() + job["seconds_left"]
    for batch in job["batches"]:
        if time.perf_counter() > end:
            break
        torch.compiler.reset()
        row = time_batch(job, batch)
        print(json.dumps({"batch": batch, "row": row}), flush=True)


def time_batch(job: dict[str, Any], batch: int) -> dict[str, Any]:
    """All that one row of each table needs."""
    folder, name = pathlib.Path(job["folder"]), job["model"]
    arrays = load_arrays(folder, name, batch, "inputs")
    row: dict[str, Any] = {"failed": {}}
    ways, host = open_ways(job, arrays, row)
    row["single"], row["together"] = time_ways(ways, job), time_together(ways, job)
    row["host"] = alternate_calls(host, lambda _: False, rounds=tuple(job["rounds"]), seconds=job["seconds"])
    expected = load_arrays(folder, name, batch, "outputs")
    answers = [call["beforehand"]() for call in (ways, host) if "beforehand" in call]
    errors = [compare_answers({key: to_host(value) for key, value in found.items()}, expected) for found in answers]
    if errors:
        row["error"] = max(errors, key=lambda error: (math.isnan(error["norm"]), error["norm"]))
    module = make_module(name, job["precision"], "contiguous")
    work = count_work(module, convert_inputs(arrange_inputs(arrays, "contiguous"), job["precision"]))
    return {**row, "work": dataclasses.asdict(work)}


def open_ways(job: dict[str, Any], arrays: Arrays, row: dict[str, Any]) -> tuple[dict[str, Call], dict[str, Call]]:
    """The ways given tensors of the GPU, and those given arrays of the host."""
    folder, name = pathlib.Path(job["folder"]), job["model"]
    ways: dict[str, Call] = {}
    host: dict[str, Call] = {}
    openers: dict[str, Any] = {
        "beforehand": lambda: open_ours(folder, name, arrays),
        "TensorRT": lambda: {"device": RawEngine(folder, name, arrays)},
        **{
            f"torch {layout}": lambda layout=layout: open_torch(name, arrays, layout, job["precision"])
            for layout in job["layouts"]
        },
    }
    row["opening_seconds"] = {}
    for way, opener in openers.items():
        begun = time.perf_counter()
        for kind, call in try_way(lambda opener=opener: opener(), row["failed"], way).items():
            if try_way(lambda call=call: {"": call()}, row["failed"], f"{way}, {kind}"):
                (ways if kind == "device" else host)[way] = call
        torch.cuda.synchronize()
        row["opening_seconds"][way] = time.perf_counter() - begun
    return ways, host


def to_host(value: Any) -> Any:
    return value.cpu().numpy() if isinstance(value, torch.Tensor) else value


def try_way(call: Call, failed: dict[str, str], name: str) -> dict[str, Any]:
    """What it gives; nothing if it fails, which is told."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 (one way that fails is a result, and the others are measured)
        failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        print(f"{name}: {failed[name]}", file=sys.stderr, flush=True)
        return {}


def time_ways(ways: Mapping[str, Call], job: dict[str, Any]) -> Times:
    """Milliseconds of single calls, each with the wait for its end."""
    waited = {way: lambda call=call: (call(), torch.cuda.synchronize()) for way, call in ways.items()}
    for call in waited.values():
        warm_up(call)
    return alternate_calls(waited, lambda _: False, rounds=tuple(job["rounds"]), seconds=job["seconds"])


def time_together(ways: Mapping[str, Call], job: dict[str, Any]) -> Times:
    """Milliseconds a call of many back to back, with one wait at the end."""
    counts = {way: find_count(call) for way, call in ways.items()}
    bunches = {way: lambda call=call, way=way: call_many(call, counts[way]) for way, call in ways.items()}
    found = alternate_calls(bunches, lambda _: False, rounds=(10, job["rounds"][1]), seconds=job["seconds"] / 2)
    return {way: [one / counts[way] for one in times] for way, times in found.items()}


def call_many(call: Call, count: int) -> None:
    for _ in range(count):
        call()
    torch.cuda.synchronize()


def find_count(call: Call) -> int:
    """How many calls take SAMPLE_S."""
    begun = time.perf_counter()
    call_many(call, 5)
    return max(2, min(MOST_TOGETHER, int(SAMPLE_S * 5 / (time.perf_counter() - begun))))


def warm_up(call: Call) -> None:
    """Clocks up, graphs recorded."""
    end = time.perf_counter() + WARM_S
    while time.perf_counter() < end:
        call()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
