"""Runs the test set of a trained model through TensorFlow and through converted models, in a fresh process.

Usage: python measure_trained.py JOBS, which is JSON: [{"source", "data", "batch", "converted": FOLDER}, ...]. For each job a
line of JSON: right answers of both, of how many, the number of rows where both choose the same, the largest error and the
spread of TensorFlow's logits, the cosine of all logits as one vector, and the calls that engines and TensorFlow answered; or
{"failed": traceback}. The answers of a source are computed once.
"""

import functools
import json
import sys
import traceback

import numpy as np

import beforehand

KEY = "serving_default"


def answer(model, rows, batch):
    import tensorflow as tf

    assert len(rows) % batch == 0, f"{len(rows)} rows are no whole number of batches of {batch}"
    signature = model.signatures[KEY]
    [name] = signature.structured_input_signature[1]
    parts = np.split(rows, len(rows) // batch)
    return np.concatenate([signature(**{name: tf.constant(part)})["logits"].numpy() for part in parts])


@functools.lru_cache(maxsize=1)
def answer_natively(source, data, batch):
    import tensorflow as tf

    return answer(tf.saved_model.load(source), np.load(data)["tested"], batch)


def measure(job):
    import tensorflow as tf

    with np.load(job["data"]) as data:
        rows, labels = data["tested"], data["labels"]
    want = answer_natively(job["source"], job["data"], job["batch"])
    loaded = tf.saved_model.load(job["converted"])
    have = answer(loaded, rows, job["batch"])
    assert have.dtype == want.dtype, f"{have.dtype} instead of {want.dtype}"
    assert np.isfinite(have).all(), f"{np.sum(~np.isfinite(have))} logits are not finite"
    counted = beforehand.stats(loaded)["signatures"][KEY]
    flat = want.ravel().astype(np.float64), have.ravel().astype(np.float64)
    return {
        "native": int((want.argmax(axis=1) == labels).sum()),
        "right": int((have.argmax(axis=1) == labels).sum()),
        "of": len(labels),
        "same": int((have.argmax(axis=1) == want.argmax(axis=1)).sum()),
        "error": float(np.abs(have - want).max()),
        "spread": float(np.ptp(want)),
        "cosine": float(np.dot(*flat) / np.prod([np.linalg.norm(side) for side in flat])),
        "calls": len(rows) // job["batch"],
        "engine_calls": counted["engine_calls"],
        "native_calls": counted["native_calls"],
    }


def run(job):
    try:
        return measure(job)
    except Exception:  # noqa: BLE001 (whatever it was, the other jobs go on)
        return {"failed": traceback.format_exc()}


if __name__ == "__main__":
    for item in json.loads(sys.argv[1]):
        print(json.dumps(run(item)), flush=True)
