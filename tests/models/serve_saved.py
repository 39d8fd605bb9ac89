"""Loads converted models as users do, with beforehand imported or not, and compares them with answers that are on disk.

Usage: python serve_saved.py JOB, which is JSON: {"mode", "models": {NAME: {"folder", "answers", "again" or null}}}. The mode
"record" writes the answers of the sources; "plain" and "engines" compare, without beforehand and with it; "session" compares
as TensorFlow 1 and TF Serving load. A model with "again" is saved there by TensorFlow after it was compared. The last line
printed is JSON: {NAME: {"misfit", "calls", "engine_calls"}}.
"""

import json
import pathlib
import sys

import numpy as np

KEY = "serving_default"


def read_arrays(file, kind):
    # Text as bytes without an end in zeros: NumPy keeps arrays of objects as pickles only.
    with np.load(file) as data:
        return {name.partition("/")[2]: data[name] for name in data.files if name.startswith(f"{kind}/")}


def record(model, rng):
    import tensorflow as tf
    from draw_inputs import draw_inputs

    folder = pathlib.Path(model["folder"])
    arrays = draw_inputs(model["inputs"], model["shapes"], rng, folder.parent)
    given = {name: tf.constant(array) for name, array in arrays.items()}
    results = tf.saved_model.load(str(folder)).signatures[KEY](**given)
    kept = {f"given/{name}": np.asarray(array) for name, array in arrays.items()}
    kept.update((f"result/{name}", value.numpy()) for name, value in results.items())
    kept = {name: value.astype("S") if value.dtype == object else value for name, value in kept.items()}
    np.savez(model["answers"], **kept)


def measure(expected, given):
    misfit = -1.0
    for name, value in expected.items():
        have = np.asarray(given[name])
        have = have.astype("S") if have.dtype == object else have
        if value.dtype.kind == "f":
            misfit = max(misfit, float(np.max(np.abs(value - have) - (1e-4 + 1e-3 * np.abs(value)))))
        else:
            misfit = max(misfit, 0.0 if np.array_equal(value, have) else np.inf)
    return misfit


def compare(model, mode):
    import tensorflow as tf

    given, expected = (read_arrays(model["answers"], kind) for kind in ("given", "result"))
    loaded = tf.saved_model.load(model["folder"])
    results = loaded.signatures[KEY](**{name: tf.constant(array) for name, array in given.items()})
    told = {"misfit": measure(expected, {name: value.numpy() for name, value in results.items()}), "engine_calls": 0}
    if mode == "engines":
        import beforehand

        stats = beforehand.stats(loaded)["signatures"][KEY]
        told.update(engine_calls=stats["engine_calls"], native_calls=stats["native_calls"])
    if model["again"]:
        tf.saved_model.save(loaded, model["again"], signatures=dict(loaded.signatures))
    return told


def compare_in_session(model):
    import tensorflow as tf

    v1 = tf.compat.v1
    given, expected = (read_arrays(model["answers"], kind) for kind in ("given", "result"))
    with tf.Graph().as_default(), v1.Session() as session:
        signature = v1.saved_model.load(session, ["serve"], model["folder"]).signature_def[KEY]
        outputs = {name: info.name for name, info in signature.outputs.items()}
        results = session.run(outputs, {signature.inputs[name].name: array for name, array in given.items()})
    return {"misfit": measure(expected, results)}


def main(job):
    if job["mode"] == "engines":
        import beforehand  # noqa: F401 (that it is imported is the point)
    else:
        assert not any(name.startswith("beforehand") for name in sys.modules)
    rng = np.random.default_rng(5)
    told = {}
    for name, model in job["models"].items():
        if job["mode"] == "record":
            told[name] = record(model, rng)
        else:
            told[name] = compare_in_session(model) if job["mode"] == "session" else compare(model, job["mode"])
    return told


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
