"""Where the time of one engine goes, layer by layer, and of torch kernel by kernel: `python gpu_profile.py JOB`.

JOB is JSON: {"folder", "model", "batch"}, and "precision" for torch. TensorRT times layers only outside of CUDA graphs, which
adds to each; so shares are worth more than sums.
"""

import collections
import json
import pathlib
import sys
from typing import Any

import torch
from gpu_models import MODELS, load_arrays
from gpu_ways import RawEngine, open_torch

CALLS = 50
SHOWN = 30


def main(job: dict[str, Any]) -> None:
    """Print both."""
    folder, name, batch = pathlib.Path(job["folder"]), job["model"], job["batch"]
    arrays = load_arrays(folder, name, batch, "inputs")
    profile_engine(RawEngine(folder, name, arrays, with_graph=False))
    profile_torch(open_torch(name, arrays, job.get("layout", MODELS[name].layouts[-1]), job["precision"])["device"])


def profile_engine(raw: RawEngine) -> None:
    """The slowest layers, with what the engine tells of each."""
    milliseconds: dict[str, float] = collections.defaultdict(float)

    class Profiler(raw.trt.IProfiler):
        """Adds up."""

        def __init__(self) -> None:
            raw.trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            milliseconds[layer_name] += ms

    for _ in range(10):
        raw()
    torch.cuda.synchronize()
    profiler = Profiler()
    raw.context.profiler = profiler
    for _ in range(CALLS):
        raw()
        torch.cuda.synchronize()
    total = sum(milliseconds.values())
    told = describe_layers(raw)
    print(f"TensorRT-RTX: {len(milliseconds)} layers, {total / CALLS:.3f} ms a call outside of CUDA graphs")
    for layer, spent in sorted(milliseconds.items(), key=lambda item: -item[1])[:SHOWN]:
        print(
            f"{spent / CALLS:8.4f} ms {100 * spent / total:5.1f} %  {layer[:150]}\n{'':13}{told.get(layer, '')[:600]}"
        )


def describe_layers(raw: RawEngine) -> dict[str, str]:
    """What the inspector knows, one line of JSON a layer, by its name."""
    inspector = raw.engine.create_engine_inspector()
    inspector.execution_context = raw.context
    form = raw.trt.LayerInformationFormat.JSON
    found = {}
    for index in range(raw.engine.num_layers):
        text = inspector.get_layer_information(index, form)
        try:
            told = json.loads(text)
        except ValueError:
            told = text.strip()
        name = told.get("Name", "") if isinstance(told, dict) else str(told)
        found[name] = json.dumps(told) if isinstance(told, dict) else text.strip()
    return found


def profile_torch(call: Any) -> None:
    """The slowest kernels."""
    from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415 (seconds)

    for _ in range(10):
        call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(CALLS):
            call()
        torch.cuda.synchronize()
    events = [event for event in found.key_averages() if event.self_device_time_total > 0]
    total = sum(event.self_device_time_total for event in events)
    print(f"torch.compile: {len(events)} kinds of kernels, {total / 1000 / CALLS:.3f} ms a call")
    for event in sorted(events, key=lambda event: -event.self_device_time_total)[:SHOWN]:
        spent, count = event.self_device_time_total, event.count / CALLS
        print(f"{spent / 1000 / CALLS:8.4f} ms {100 * spent / total:5.1f} %  {count:5.1f} x  {event.key[:150]}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
