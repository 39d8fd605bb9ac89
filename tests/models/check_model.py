"""Process 3 of a life cycle: loads by plain `tf.saved_model.load`, and compares every answer with TensorFlow's.

Usage: python check_model.py JOBS, which is JSON: [{"source", "converted", "inputs", "seed", "repeats", "rtol", "atol",
"signatures": {KEY: {"built": [{INPUT: shape}, ...], "unseen": {INPUT: shape} or null}}}, ...]. For each job a line of JSON
is printed; {"failed": traceback} if it failed.
"""

import json
import logging
import pathlib
import sys
import time
import traceback

import numpy as np
from draw_inputs import draw_inputs

import beforehand  # before TensorFlow: the import hook is on the way of every life cycle
import beforehand.backends.openvino as backend


def spy_on_backend():
    """Record the input shapes of every call that reaches the backend; and let nothing be compiled any more."""
    from beforehand.backends.import_openvino import import_openvino

    openvino = import_openvino()

    seen = []
    run = backend.OpenVinoExecutable.run

    def spying_run(self, inputs):
        seen.append([list(array.shape) for array in inputs])
        return run(self, inputs)

    def refuse(*_, **__):
        raise AssertionError("OpenVINO was asked to compile after save()")

    backend.OpenVinoExecutable.run = spying_run
    openvino.Core.compile_model = refuse
    return seen


def collect_warnings():
    texts = []

    class Collector(logging.Handler):
        def emit(self, record):
            texts.append(record.getMessage())

    logging.getLogger("beforehand").addHandler(Collector(logging.WARNING))
    return texts


def compare(signature, original, shapes, job, rng):
    """By output, how wrong it is (see `measure_misfit`), and TensorFlow's outputs."""
    import tensorflow as tf

    arrays = draw_inputs(job["inputs"], shapes, rng, pathlib.Path(job["source"]).parent)
    inputs = {name: tf.constant(array) for name, array in arrays.items()}
    # By name, in any order: the converted one is asked in the reverse order of the original.
    want = {name: value.numpy() for name, value in original(**inputs).items()}
    have = {name: value.numpy() for name, value in signature(**dict(reversed(list(inputs.items())))).items()}
    assert sorted(want) == sorted(have), f"outputs {sorted(have)} instead of {sorted(want)}"
    return {name: measure_misfit(name, want[name], have[name], job) for name in want}, want


def measure_misfit(name, expected, given, job):
    """The largest |difference|, and the largest by which it is more than allowed; whole numbers and text must be equal."""
    expected, given = np.asarray(expected), np.asarray(given)
    assert expected.shape == given.shape, f"{name} is {given.shape} instead of {expected.shape}"
    assert expected.dtype == given.dtype, f"{name} is {given.dtype} instead of {expected.dtype}"
    if not expected.size:
        return {"error": 0.0, "misfit": 0.0}
    if expected.dtype.kind != "f":
        wrong = float((expected != given).sum())
        return {"error": wrong, "misfit": wrong}
    assert np.isfinite(given).all(), f"{name} is not finite"
    difference = np.abs(given.astype(np.float64) - expected)
    allowed = job["atol"] + job["rtol"] * np.abs(expected.astype(np.float64))
    return {"error": float(difference.max()), "misfit": float((difference - allowed).max())}


def measure_spread(first, second):
    """How far two answers to different inputs are from each other: by the largest difference, or 1 if one is no number."""
    if first.shape != second.shape:
        return 1.0
    if first.dtype.kind != "f":
        return float(not np.array_equal(first, second))
    return float(np.abs(first.astype(np.float64) - second).max(initial=0))


def check_signature(signature, original, wanted, job, rng):
    calls, misfits, errors, spreads = 0, {}, {}, {}
    for shapes in wanted["built"]:
        earlier = None
        for _ in range(job["repeats"]):
            measured, outputs = compare(signature, original, shapes, job, rng)
            calls += 1
            for name, value in measured.items():
                misfits[name] = max(misfits.get(name, -np.inf), value["misfit"])
                errors[name] = max(errors.get(name, 0.0), value["error"])
                if earlier is not None:
                    spreads[name] = max(spreads.get(name, 0.0), measure_spread(earlier[name], outputs[name]))
            earlier = outputs
    return {"calls": calls, "misfits": misfits, "errors": errors, "spreads": spreads}


def check(job, seen, warnings):
    import tensorflow as tf

    del seen[:], warnings[:]
    rng = np.random.default_rng(job["seed"])
    # What plain TensorFlow cannot load, its maker has put beside it in a form that it can.
    reference = pathlib.Path(job["source"]).parent / "reference"
    original = tf.saved_model.load(str(reference) if reference.is_dir() else job["source"])
    loaded = tf.saved_model.load(job["converted"])
    result = {"signatures": {}, "keys": sorted(loaded.signatures), "source_keys": sorted(original.signatures)}
    for key, wanted in job["signatures"].items():
        result["signatures"][key] = check_signature(loaded.signatures[key], original.signatures[key], wanted, job, rng)
    result["built"] = {"spy": list(seen), "stats": beforehand.stats(loaded), "warnings": list(warnings)}
    del seen[:]
    for key, wanted in job["signatures"].items():
        if wanted["unseen"]:
            measured, _ = compare(loaded.signatures[key], original.signatures[key], wanted["unseen"], job, rng)
            result["signatures"][key]["unseen_misfits"] = {name: value["misfit"] for name, value in measured.items()}
    result["unseen"] = {"spy": list(seen), "stats": beforehand.stats(loaded), "warnings": list(warnings)}
    if "accuracy" in job:
        result["accuracy"] = measure_accuracy(original, loaded, job["accuracy"], seen)
    return result


def measure_accuracy(original, loaded, file, seen):
    """Right answers on the test split, in tens, by the original and by the converted model."""
    import tensorflow as tf

    data = np.load(file)
    del seen[:]
    right = {}
    for name, model in (("original", original), ("converted", loaded)):
        signature = model.signatures["serving_default"]
        answers = [
            next(iter(signature(image=tf.constant(batch)).values())).numpy().argmax(axis=1)
            for batch in np.split(data["images"], len(data["images"]) // 10)
        ]
        right[name] = int((np.concatenate(answers) == data["labels"]).sum())
    return {**right, "of": len(data["labels"]), "engine_calls": len(seen)}


def run(job, seen, warnings):
    start = time.perf_counter()
    try:
        result = check(job, seen, warnings)
    except Exception:  # noqa: BLE001 (whatever it was, the other jobs go on)
        return {"failed": traceback.format_exc()}
    return {**result, "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    spied, warned = spy_on_backend(), collect_warnings()
    for item in json.loads(sys.argv[1]):
        print(json.dumps(run(item, spied, warned)), flush=True)
