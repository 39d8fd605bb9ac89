"""Times the conversion of one model, or its memory, in a fresh process: `python time_conversion.py JOB`.

JOB is JSON: {"what": "time" or "memory", "model", "source", "scratch", "precision"}. The last line printed is JSON.
"""

import json
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

import numpy as np
import tensorflow as tf
import tf2onnx.tfonnx  # noqa: F401 (imports are not counted)
from make_models import CALIBRATED, draw_inputs
from watch_memory import MemoryWatch, read_peak

import beforehand
import beforehand.live_model
import beforehand.pipeline

CHILD = "beforehand.build_engines.child"


def main(job: dict[str, Any]) -> dict[str, Any]:
    """One of the two; each has a process of its own, for TensorFlow's load would be in the peak."""
    os.environ["BEFOREHAND_CACHE"] = tempfile.mkdtemp(dir=job["scratch"])  # else it would find what it is to build
    tf.constant(0)  # TensorFlow's own start is not counted
    if job["what"] == "memory":
        return watch_conversion(job)
    times = {}
    times["load"], loaded = measure(lambda: tf.saved_model.load(job["source"]))
    times.update(time_conversion(job))
    signatures = dict(loaded.signatures)
    folder = pathlib.Path(job["scratch"])
    for number in range(3):  # they take turns; the fastest of each counts, as the disk disturbs both
        seconds, _ = measure(
            lambda n=number: tf.saved_model.save(loaded, str(folder / f"tf{n}"), signatures=signatures)
        )
        times.setdefault("tensorflow_saves", []).append(seconds)
        seconds, _ = measure(lambda n=number: job["converter"].save(folder / f"ours{n}"))
        times.setdefault("saves", []).append(seconds)
    return times


def time_conversion(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of convert(), of calibrate() for INT8, and of build() for batch 1."""
    converter = job["converter"] = beforehand.Converter(
        job["source"], precision_mode=job["precision"], min_speedup=None
    )
    times = {}
    times["convert"], _ = measure(converter.convert)
    names, rng = [spec.name for spec in converter.signatures[0].inputs], np.random.default_rng(2)
    inputs = [draw_inputs(job["model"], names, 1, rng) for _ in range(CALIBRATED)]
    if job["precision"] == "INT8":
        times["calibrate"], _ = measure(lambda: converter.calibrate(lambda: iter(inputs)))
    shapes = {name: x.shape for name, x in inputs[0].items()}
    times["build"], _ = measure(lambda: converter.build(shapes=shapes))
    return times


def watch_conversion(job: dict[str, Any]) -> dict[str, Any]:
    """Peaks in bytes of this process, which converts, builds and saves, and of the child that builds."""
    with MemoryWatch(CHILD) as watch:
        time_conversion(job)
        job["converter"].save(pathlib.Path(job["scratch"]) / "memory")
    files = pathlib.Path(job["source"], "variables").glob("*.data-*")
    return {"weights": sum(file.stat().st_size for file in files), "parent": read_peak(), "child": watch.child_bytes}


def measure(function: Any) -> tuple[float, Any]:
    """Seconds, and the result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
