"""Process 3 of benchmarks/models.py: `python time_models.py JOBS`, jobs as in tests/models/check_model.py, with "rounds" and "seconds".

For each job a line of JSON: the largest error of the converted model against TensorFlow at every built shape, who answered, and
the times of both signatures in alternating calls at the first built shape set; {"failed": traceback} if it failed.
"""

import json
import pathlib
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from beforehand.benchmark.alternate_calls import Times, alternate_calls, list_ratios
from beforehand.speed.estimate_median import estimate_median

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "models"))
import check_model  # imports beforehand, before TensorFlow
from draw_inputs import draw_inputs

import beforehand


def time_model(job: dict[str, Any]) -> dict[str, Any]:
    """Compare, then time."""
    import tensorflow as tf  # noqa: PLC0415 (after beforehand, as users do)

    reference = pathlib.Path(job["source"]).parent / "reference"
    source = tf.saved_model.load(str(reference) if reference.is_dir() else job["source"])
    loaded = tf.saved_model.load(job["converted"])
    result = compare_answers(source, loaded, job)
    counted = beforehand.stats(loaded)["signatures"].values()
    result["engine_calls"] = sum(item["engine_calls"] for item in counted)
    result["native_calls"] = sum(item["native_calls"] for item in counted)
    key, wanted = next(iter(job["signatures"].items()))
    shapes = wanted["built"][0]
    # The seed of convert_model.py: where shapes within depend on values, these are what the engines were built for.
    arrays = draw_inputs(job["inputs"], shapes, np.random.default_rng(100), pathlib.Path(job["source"]).parent)
    inputs = {name: tf.constant(array) for name, array in arrays.items()}
    ways = {
        "TensorFlow": call_signature(source.signatures[key], inputs),
        "beforehand": call_signature(loaded.signatures[key], inputs),
    }
    times = alternate_calls(ways, is_decided, rounds=tuple(job["rounds"]), seconds=job["seconds"])
    return {**result, "shapes": shapes, "times": times}


def compare_answers(source: Any, loaded: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Of all floating-point outputs the largest error and the largest value; what is outside of the tolerance, in words."""
    rng = np.random.default_rng(job["seed"])
    error, size, outside = 0.0, 0.0, []
    for key, wanted in job["signatures"].items():
        # As often and in the order of the tests: shapes within that depend on values are those of the tests.
        for shapes in (item for item in wanted["built"] for _ in range(job["repeats"])):
            measured, answers = check_model.compare(loaded.signatures[key], source.signatures[key], shapes, job, rng)
            for name, value in answers.items():
                if measured[name]["misfit"] > 0:
                    outside.append(f"{key}: {name} is outside of the tolerance, off by {measured[name]['error']:.2g}")
                if value.dtype.kind == "f" and value.size:
                    error = max(error, measured[name]["error"])
                    size = max(size, float(np.abs(value.astype(np.float64)).max()))
    return {"error": error, "size": size, "outside": outside}


def call_signature(function: Any, inputs: dict[str, Any]) -> Callable[[], object]:
    """A call as users make it; the inputs are tensors already."""
    return lambda: function(**inputs)


def is_decided(times: Times) -> bool:
    """Whether it is known which of the two is faster."""
    ratios = estimate_median(list_ratios(times, "beforehand", "TensorFlow"))
    return ratios.judge(1.0, at_most=False) != "inconclusive"


def run(job: dict[str, Any]) -> dict[str, Any]:
    """What `time_model` gives, or how it failed."""
    try:
        return time_model(job)
    except Exception:  # noqa: BLE001 (whatever it was, the other models go on)
        return {"failed": traceback.format_exc()}


if __name__ == "__main__":
    for item in json.loads(sys.argv[1]):
        print(json.dumps(run(item)), flush=True)
