"""Converts trained models in a precision, and calibrates where that is asked for.

Usage: python convert_trained.py JOBS, which is JSON: [{"source", "data": their .npz file, "output", "precision", "backend",
"batch"}, ...]. For each job a line of JSON: {"engines", "segments", "precision", "bytes", "seconds"}, {"refused": text} where
this machine has no such precision, or {"failed": traceback}.
"""

import json
import sys
import time
import traceback

import numpy as np

import beforehand
from beforehand.errors import PrecisionError

# Of these, what is trained on is all that calibration sees.
CALIBRATED = ("INT8", "auto")


def read_samples(job):
    """The calibration images or texts, one by one, as `calibration_input_fn` yields them."""
    with np.load(job["data"]) as data:
        rows = data["calibration"]
    return lambda: ([rows[number : number + 1]] for number in range(len(rows)))


def convert(job):
    begun = time.perf_counter()
    converter = beforehand.Converter(job["source"], precision_mode=job["precision"], backend=job["backend"])
    if job["precision"] in CALIBRATED:
        converter.convert(calibration_input_fn=read_samples(job))
    else:
        converter.convert()
    [spec] = converter.signatures[0].inputs
    engines = converter.build(shapes={spec.name: (job["batch"], *spec.shape[1:])})
    converter.save(job["output"])
    return {
        "engines": len(engines),
        "segments": len(converter.segments),
        "precision": "/".join(sorted({engine.precision for engine in engines})),
        "bytes": sum(engine.bytes for engine in engines),
        "seconds": time.perf_counter() - begun,
    }


def run(job):
    try:
        return convert(job)
    except PrecisionError as error:
        return {"refused": str(error)}
    except Exception:  # noqa: BLE001 (whatever it was, the other jobs go on)
        return {"failed": traceback.format_exc()}


if __name__ == "__main__":
    for item in json.loads(sys.argv[1]):
        print(json.dumps(run(item)), flush=True)
