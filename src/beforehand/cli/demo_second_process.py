"""The demo's second process: `python -m beforehand.cli.demo_second_process compare|start TASK`.

TASK is JSON, and so is what it prints. It knows nothing but folders: the models are loaded as a user loads them.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# What the whole project promises in FP32.
_RTOL, _ATOL = 1e-3, 1e-4
_WARM_UP = 5
_CHECKED_CALLS = 5


def main(arguments: list[str]) -> int:
    """Do one job, print its JSON as the last line."""
    job, task = arguments
    print(json.dumps({"compare": compare_models, "start": time_start}[job](json.loads(task))))
    return 0


def compare_models(task: dict[str, Any]) -> dict[str, Any]:
    """Answers of the converted model beside those of the original, the engines' counters, and latencies of both."""
    import tensorflow as tf  # noqa: PLC0415

    import beforehand  # noqa: PLC0415

    native_model, converted_model = tf.saved_model.load(task["native"]), tf.saved_model.load(task["converted"])
    native, converted = (_make_call(model, task["input"]) for model in (native_model, converted_model))
    random = np.random.default_rng(task["seed"])
    worst, agree, spread = 0.0, True, 0.0
    for _ in range(_CHECKED_CALLS):
        x = _make_input(task, random)
        expected, found = native(x), converted(x)
        worst = max(worst, float(np.max(np.abs(expected - found))))
        agree = agree and bool(np.allclose(found, expected, rtol=_RTOL, atol=_ATOL))
        spread = max(spread, float(expected.max() - expected.min()))
    latencies = _time_pairs(native, converted, _make_input(task, random), task["calls"])
    counted = beforehand.stats(converted_model)["signatures"]["serving_default"]
    calls = _CHECKED_CALLS + _WARM_UP + task["calls"]
    return {
        **latencies,
        **counted,
        "calls": task["calls"],
        "max_difference": worst,
        # Answers that are all alike would agree with anything.
        "answers_agree": agree and spread > 1e-3,
        "served_by_engines": counted["native_calls"] == 0 and counted["engine_calls"] >= calls,
    }


def time_start(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds from the load to the first answer, in this process that did nothing before but import TensorFlow."""
    import tensorflow as tf  # noqa: PLC0415

    x = _make_input(task, np.random.default_rng(task["seed"]))
    start = time.perf_counter()
    _make_call(tf.saved_model.load(task["folder"]), task["input"])(x)
    return {"seconds": time.perf_counter() - start}


def _make_input(task: dict[str, Any], random: np.random.Generator) -> Any:
    return random.random((task["batch"], *task["image"]), dtype=np.float32)


def _make_call(model: Any, name: str) -> Callable[[Any], Any]:
    import tensorflow as tf  # noqa: PLC0415

    function = model.signatures["serving_default"]

    def call(x: Any) -> Any:
        (output,) = function(**{name: tf.constant(x)}).values()
        return output.numpy()

    return call


def _time_pairs(native: Callable[[Any], Any], converted: Callable[[Any], Any], x: Any, calls: int) -> dict[str, float]:
    """Medians in ms; the two take turns, so that whatever else the machine does falls on both."""
    times: dict[str, list[float]] = {"native_ms": [], "converted_ms": []}
    for number in range(_WARM_UP + calls):
        for name, call in (("native_ms", native), ("converted_ms", converted)):
            start = time.perf_counter()
            call(x)
            if number >= _WARM_UP:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(found) for name, found in times.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
