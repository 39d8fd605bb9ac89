"""Compares converted models with TensorFlow's float32, in a fresh process that builds nothing.

Usage: python measure_half.py JOB, which is JSON: {"models": {NAME: {"source", "converted", "inputs", "shapes": [{INPUT: shape}]}},
"answers": FOLDER, "run": "BF16" or "FP16"}. Inputs are drawn anew in each run. Inputs and TensorFlow's answers are kept in FOLDER, for a process without
TensorFlow. The last line printed is JSON: {NAME: {"errors": largest difference by the spread of TensorFlow's answers, by
output, "rounded": the same of TensorFlow's own answers with its variables rounded to "run", "calls", "stats"}}.
"""

import json
import pathlib
import sys

import numpy as np
from draw_inputs import draw_inputs

import beforehand

KEY = "serving_default"


def call(model, arrays):
    import tensorflow as tf

    given = {key: tf.constant(value) for key, value in arrays.items()}
    return {key: value.numpy() for key, value in model.signatures[KEY](**given).items()}


def note_errors(errors, want, have):
    for key, value in want.items():
        assert have[key].dtype == value.dtype, f"{key} is {have[key].dtype} instead of {value.dtype}"
        assert np.isfinite(have[key]).all(), f"{key} is not finite"
        errors[key] = max(errors.get(key, 0.0), float(np.abs(have[key] - value).max() / np.ptp(value)))


def round_variables(model, run):
    """What no half precision does without; a model that is much off by it alone says little of the arithmetic."""
    import tensorflow as tf

    half = {"BF16": tf.bfloat16, "FP16": tf.float16}[run]
    for variable in model.signatures[KEY].variables:
        if variable.dtype == tf.float32:
            variable.assign(tf.cast(tf.cast(variable, half), tf.float32))


def measure(name, model, job, rng):
    import tensorflow as tf

    source, loaded = tf.saved_model.load(model["source"]), tf.saved_model.load(model["converted"])
    answers, kept = pathlib.Path(job["answers"]), []
    result = {"errors": {}, "rounded": {}, "calls": len(model["shapes"])}
    for number, shapes in enumerate(model["shapes"]):
        arrays = draw_inputs(model["inputs"], shapes, rng, pathlib.Path(model["source"]).parent)
        want, have = call(source, arrays), call(loaded, arrays)
        note_errors(result["errors"], want, have)
        kept.append((arrays, want))
        np.savez(answers / f"{name}{number}.in.npz", **arrays)
        np.savez(answers / f"{name}{number}.have.npz", **have)
    round_variables(source, job["run"])
    for arrays, want in kept:
        note_errors(result["rounded"], want, call(source, arrays))
    return {**result, "stats": beforehand.stats(loaded)}


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    generator = np.random.default_rng()
    print(json.dumps({n: measure(n, m, job, generator) for n, m in job["models"].items()}))
