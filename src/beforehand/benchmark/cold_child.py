"""A cold start: `python -m beforehand.benchmark.cold_child STATUS PARENT JOB.json` becomes a Python that has imported nothing yet.

Its script is `SCRIPT`, which imports what its way has, and nothing else: a model that was never converted is loaded without beforehand. It
tells its seconds as its result.
"""

from __future__ import annotations

import os
import sys

from beforehand.build_engines.prepare_child import prepare_child

# JOB.json: "way", "folder", "signature", "inputs" (a .npz file), "dtypes" (by input name; text stands in the file as bytes).
SCRIPT = """
import time
begun = time.perf_counter()
import json, os, sys
status, job = sys.argv[1], json.loads(open(sys.argv[2]).read())
if job["way"] == "without TensorFlow":
    import beforehand
    beforehand.load
elif job["way"] == "never converted":
    import tensorflow as tf
else:
    import beforehand
    import tensorflow as tf
imported = time.perf_counter()
import numpy as np
with np.load(job["inputs"]) as file:
    arrays = {name: file[name] for name in file.files}
if job["way"] == "without TensorFlow":
    inputs = {name: array.astype(job["dtypes"][name], copy=False) for name, array in arrays.items()}
else:
    inputs = {name: tf.cast(tf.constant(array), job["dtypes"][name]) if job["dtypes"][name] != "string" else tf.constant(array)
              for name, array in arrays.items()}
start = time.perf_counter()
if job["way"] == "without TensorFlow":
    loaded = beforehand.load(job["folder"])
    call = loaded.signatures[job["signature"]]
else:
    loaded = tf.saved_model.load(job["folder"])
    call = loaded.signatures[job["signature"]]
times = [time.perf_counter()]
for _ in range(2):
    [np.asarray(value) for value in call(**inputs).values()]
    times.append(time.perf_counter())
told = {"import_s": imported - begun, "load_s": times[0] - start, "first_call_s": times[1] - times[0], "second_call_s": times[2] - times[1]}
with open(status, "a") as file:
    file.write(json.dumps({"result": json.dumps(told)}) + chr(10))
    file.flush()
sys.stdout.flush()
os._exit(0)
"""


def main(arguments: list[str]) -> None:
    """Tie this process to its parent, which outlasts what follows on Linux, and run the script in its place."""
    prepare_child(int(arguments[1]))
    os.execv(sys.executable, [sys.executable, "-c", SCRIPT, arguments[0], arguments[2]])  # noqa: S606 (our own script)


if __name__ == "__main__":
    main(sys.argv[1:])
