"""A process that calls a converted model until an engine answers, or until it is told to stop; results as JSON.

Arguments: a job {"source", "converted", "batch", "wait_s", "until": "engine" | "failure" | "calls" | "building"}.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Any


def main() -> None:
    job = json.loads(sys.argv[1])
    import numpy as np
    import tensorflow as tf

    import beforehand

    told: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    logging.getLogger("beforehand").addHandler(Collector(logging.WARNING))
    loaded = tf.saved_model.load(job["converted"])
    converted = loaded.signatures["serving_default"]
    native = tf.saved_model.load(job["source"]).signatures["serving_default"]
    rng = np.random.default_rng()
    deadline = time.monotonic() + job["wait_s"]
    error, calls, first = 0.0, 0, None
    while True:
        x = tf.constant(rng.normal(size=(job["batch"], 256)).astype(np.float32))
        found, expected = converted(x=x)["y"], native(x=x)["y"]
        error = max(error, float(np.max(np.abs(found - expected))))
        calls += 1
        stats = beforehand.stats(loaded)
        first = first or stats["signatures"]["serving_default"]
        done = {
            "engine": stats["signatures"]["serving_default"]["engine_calls"] > 2,
            "failure": bool(stats["failed_builds"]),
            "building": os.path.exists(job.get("mark", "")),
            "calls": calls >= 30,
        }
        if done[job["until"]] or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    for _ in range(job.get("more_calls", 0)):
        converted(x=x)
    time.sleep(job.get("settle_s", 0))
    result: dict[str, Any] = {"first": first, "stats": beforehand.stats(loaded), "told": told, "error": error}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
