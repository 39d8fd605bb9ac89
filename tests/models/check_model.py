"""Process 3 of a life cycle: loads by plain `tf.saved_model.load`, and compares every answer with TensorFlow's.

Usage: python check_model.py JOB, which is JSON: {"source", "converted", "scales", "seed", "repeats",
"signatures": {KEY: {"built": [{INPUT: shape}, ...], "unseen": {INPUT: shape} or null}}}. The last line printed is JSON.
"""

import json
import logging
import sys

import numpy as np

import beforehand  # before TensorFlow: the import hook is on the way of every life cycle
import beforehand.backends.openvino as backend

RTOL, ATOL = 1e-3, 1e-4


def spy_on_backend():
    """Record the input shapes of every call that reaches the backend; and let nothing be compiled any more."""
    import openvino

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
    """The worst misfit of any output, (|difference| - allowed), and TensorFlow's outputs."""
    import tensorflow as tf

    arrays = {name: rng.uniform(0, job["scales"][name], shape).astype(np.float32) for name, shape in shapes.items()}
    inputs = {name: tf.constant(array) for name, array in arrays.items()}
    # By name, in any order: the converted one is asked in the reverse order of the original.
    want = original(**inputs)
    have = signature(**dict(reversed(list(inputs.items()))))
    assert sorted(want) == sorted(have), f"outputs {sorted(have)} instead of {sorted(want)}"
    worst = -np.inf
    for name in want:
        expected, given = want[name].numpy(), have[name].numpy()
        assert expected.shape == given.shape, f"{name} is {given.shape} instead of {expected.shape}"
        assert expected.dtype == given.dtype, f"{name} is {given.dtype} instead of {expected.dtype}"
        assert np.isfinite(given).all(), f"{name} is not finite"
        worst = max(worst, float(np.max(np.abs(given - expected) - (ATOL + RTOL * np.abs(expected)))))
    return worst, {name: value.numpy() for name, value in want.items()}


def check_signature(signature, original, wanted, job, rng):
    calls, misfit, spread = 0, -np.inf, np.inf
    for shapes in wanted["built"]:
        earlier = None
        for _ in range(job["repeats"]):
            worst, outputs = compare(signature, original, shapes, job, rng)
            calls, misfit = calls + 1, max(misfit, worst)
            if earlier is not None:
                spread = min(spread, *(float(np.abs(outputs[name] - earlier[name]).max()) for name in outputs))
            earlier = outputs
    return {"calls": calls, "misfit": misfit, "spread": spread}


def main(job):
    seen = spy_on_backend()
    warnings = collect_warnings()
    import tensorflow as tf

    rng = np.random.default_rng(job["seed"])
    original, loaded = tf.saved_model.load(job["source"]), tf.saved_model.load(job["converted"])
    result = {"signatures": {}, "keys": sorted(loaded.signatures), "source_keys": sorted(original.signatures)}
    for key, wanted in job["signatures"].items():
        result["signatures"][key] = check_signature(loaded.signatures[key], original.signatures[key], wanted, job, rng)
    result["built"] = {"spy": list(seen), "stats": beforehand.stats(loaded), "warnings": list(warnings)}
    del seen[:]
    for key, wanted in job["signatures"].items():
        if wanted["unseen"]:
            result["signatures"][key]["unseen_misfit"], _ = compare(
                loaded.signatures[key], original.signatures[key], wanted["unseen"], job, rng
            )
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


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
