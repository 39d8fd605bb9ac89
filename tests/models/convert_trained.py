"""Converts trained models in a precision, and calibrates where that is asked for.

Usage: python convert_trained.py JOBS, which is JSON: [{"source", "data": their .npz file, "output", "precision", "backend",
"batch", "max_drop": share of answers, or null}, ...]. With "max_drop", parts are put back to a higher precision until no larger share
of the answers differs from TensorFlow's, on what `data` has to look at on the way. For each job a line of JSON: {"engines", "segments", "precision", "bytes",
"put_back", "search", "seconds"}, {"refused": text} where this machine has no such precision, or {"failed": traceback}.
"""

import dataclasses
import json
import sys
import time
import traceback

import numpy as np

import beforehand
from beforehand.errors import PrecisionError

# Of these, what is trained on is all that calibration sees.
CALIBRATED = ("INT8", "auto")
REBUILDS = (
    40  # of a search: enough for 4 of 64 parts (`accuracy.search.count_trials`), and each of these models has fewer
)


def read_samples(job):
    """The calibration images or texts, one by one, as `calibration_input_fn` yields them."""
    with np.load(job["data"]) as data:
        rows = data["calibration"]
    return lambda: ([rows[number : number + 1]] for number in range(len(rows)))


def make_metric(job):
    """The share of answers that are TensorFlow's, on what is neither trained nor tested on, as a function of a model.

    No more can turn wrong than differ. Right ones alone would say less: some turn right, and of 1600 answers these hide what is lost.
    """
    import tensorflow as tf

    with np.load(job["data"]) as data:
        parts = np.split(data["checked"], len(data["checked"]) // job["batch"])
    native = tf.saved_model.load(job["source"]).signatures["serving_default"]
    [name] = native.structured_input_signature[1]
    wanted = np.concatenate([native(**{name: tf.constant(part)})["logits"].numpy().argmax(axis=1) for part in parts])

    def measure(model):
        logits = np.concatenate([np.asarray(model([part])["logits"]) for part in parts])
        return float((logits.argmax(axis=1) == wanted).mean())

    return measure


def convert(job):
    begun = time.perf_counter()
    has_budget = job.get("max_drop") is not None
    more = {"max_rebuilds": REBUILDS} if has_budget else {}
    converter = beforehand.Converter(job["source"], precision_mode=job["precision"], backend=job["backend"], **more)
    if job["precision"] in CALIBRATED:
        converter.convert(calibration_input_fn=read_samples(job))
    else:
        converter.convert()
    [spec] = converter.signatures[0].inputs
    budget = {"metric": make_metric(job), "max_drop": job["max_drop"]} if has_budget else {}
    engines = converter.build(shapes={spec.name: (job["batch"], *spec.shape[1:])}, **budget)
    converter.save(job["output"])
    searches = [engine.accuracy.search for engine in engines if budget and engine.accuracy.search]
    return {
        "engines": len(engines),
        "segments": len(converter.segments),
        "precision": "/".join(sorted({engine.precision for engine in engines})),
        "bytes": sum(engine.bytes for engine in engines),
        "put_back": sorted({part for engine in engines for part in engine.accuracy.put_back}) if budget else [],
        "search": dataclasses.asdict(searches[0]) if searches else None,
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
