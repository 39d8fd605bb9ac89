"""A soak: mixed shapes, threads, evictions and changing policies for minutes, with not one wrong answer.

`BEFOREHAND_SOAK_SECONDS=60 make test-all` makes it shorter; the default is 600.
"""

from __future__ import annotations

import faulthandler
import json
import os
import pathlib
import subprocess
import sys

import pytest

SECONDS = float(os.environ.get("BEFOREHAND_SOAK_SECONDS", "600"))

SOAK = """
import json, os, sys, threading, time
import numpy as np, tensorflow as tf
import beforehand
folder, seconds = sys.argv[1], float(sys.argv[2])
seed = int(np.random.SeedSequence().entropy) % 2**32
rng = np.random.default_rng(seed)

class Model(tf.Module):
    def __init__(self):
        super().__init__()
        self.kernels = [tf.Variable(rng.normal(size=(3, 3, a, 8)) / 5, dtype=tf.float32) for a in (3, 8)]
        self.last = tf.Variable(rng.normal(size=(8, 4)), dtype=tf.float32)
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="x")])
    def __call__(self, x):
        for kernel in self.kernels:
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))
        return {"y": tf.reduce_mean(x, [1, 2]) @ self.last}

model = Model()
tf.saved_model.save(model, folder + "/source", signatures={"serving_default": model.__call__})
converter = beforehand.Converter(folder + "/source")
converter.convert()
converter.build(shapes=[{"x": (n, h, h, 3)} for n in (1, 2) for h in (8, 16)])
converter.build(shapes={"x": ((1, 8), 24, 24, 3)})
converter.save(folder + "/converted")

loaded = tf.saved_model.load(folder + "/converted")
serve = loaded.signatures["serving_default"]
graph = tf.function(lambda x: serve(x=x))
shapes = [(n, h, h, 3) for n in (1, 2) for h in (8, 16)] + [(n, 24, 24, 3) for n in range(1, 10)]
shapes += [(3, 8, 16, 3), (1, 9, 9, 3), (5, 16, 16, 3)]
cases = [rng.normal(size=shape).astype(np.float32) for shape in shapes for _ in range(2)]
expected = [model(tf.constant(x))["y"].numpy() for x in cases]
end, wrong, made, errors, lock = time.monotonic() + seconds, [], [0], [], threading.Lock()

def call_many(number):
    own = np.random.default_rng([seed, number])
    count = 0
    try:
        while time.monotonic() < end and not wrong and not errors:
            i = int(own.integers(len(cases)))
            found = (serve(x=cases[i]) if own.random() < 0.7 else graph(tf.constant(cases[i])))["y"].numpy()
            count += 1
            if found.shape != expected[i].shape or not np.allclose(found, expected[i], rtol=1e-3, atol=1e-4):
                wrong.append((shapes[i // 2], float(np.abs(found - expected[i]).max())))
    except BaseException as error:
        errors.append(repr(error))
    with lock:
        made[0] += count

def change_policies():
    own = np.random.default_rng([seed, 99])
    while time.monotonic() < end and not wrong and not errors:
        time.sleep(0.5)
        most = own.choice([1, 2, 3, 5])
        beforehand.set_policies(loaded, maximum_cached_engines=int(most), performance_hint=str(own.choice(["latency", "throughput"])))
        beforehand.stats(loaded)

threads = [threading.Thread(target=call_many, args=(i,)) for i in range(8)] + [threading.Thread(target=change_policies)]
beforehand.set_policies(loaded, maximum_cached_engines=2)
for thread in threads: thread.start()
for thread in threads: thread.join()
stats = beforehand.stats(loaded)
print("REPORT " + json.dumps({"seed": seed, "wrong": wrong, "errors": errors, "calls": made[0],
    "counted": stats["signatures"]["serving_default"], "evictions": sum(e["evictions"] for e in stats["engines"]),
    "engines": stats["engines"]}))
"""


@pytest.mark.slow
def test_minutes_of_mixed_shapes_threads_and_evictions_give_no_wrong_answer(tmp_path: pathlib.Path) -> None:
    faulthandler.cancel_dump_traceback_later()  # pytest's own limit for a test is ten minutes
    environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", SOAK, str(tmp_path), str(SECONDS)],
        env=environ, capture_output=True, text=True, check=False, timeout=SECONDS + 300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("REPORT "))[7:])
    print({name: value for name, value in found.items() if name != "engines"})
    assert (found["wrong"], found["errors"]) == ([], []), found["seed"]
    assert found["counted"]["engine_calls"] + found["counted"]["native_calls"] == found["calls"] > 100
    assert found["counted"]["native_calls"] > 0
    assert found["evictions"] > 10
    assert all(engine["engine_calls"] for engine in found["engines"])
