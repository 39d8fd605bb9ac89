"""A small model with real engines, and what tests of targets do to copies of it."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import beforehand
from beforehand.backends.describe_cpu import describe_this_cpu, list_targets
from beforehand.store import layout

KEY = "serving_default"
BATCHES = (2, 5)
HERE = describe_this_cpu()
LOWER = list_targets(HERE)[-1]
OTHER = "cpu-x86_64+other"
needs_lower = pytest.mark.skipif(LOWER == HERE, reason="this CPU has no level below it")


def make_source(folder: pathlib.Path, seed: int = 3, width: int = 4000) -> pathlib.Path:
    """A SavedModel of x (?, 6) -> y (?, 4): of equal names whatever the seed, with other weights."""
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    module = tf.Module()
    module.first = tf.Variable(rng.normal(0, 0.5, (6, width)).astype(np.float32))
    module.second = tf.Variable(rng.normal(0, 0.02, (width, 4)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32, name="x")])
    def call(x: Any) -> dict[str, Any]:
        return {"y": tf.tanh(tf.matmul(tf.nn.relu(tf.matmul(x, module.first) + 0.1), module.second) - 0.2)}

    tf.saved_model.save(module, str(folder), signatures={KEY: call})
    return folder


def convert(source: pathlib.Path, output: pathlib.Path, batches: tuple[int, ...] = BATCHES, **options: Any) -> Any:
    """Convert, build for some batches, save; the engines."""
    converter = beforehand.Converter(source, **options)
    converter.convert()
    converter.build(shapes=[{"x": (batch, 6)} for batch in batches])
    converter.save(output)
    return converter.engines


def edit_manifest(folder: pathlib.Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest on disk."""
    file = layout.find_manifest(folder)
    data = json.loads(file.read_text())
    edit(data)
    file.write_text(json.dumps(data))


def copy_edited(folder: pathlib.Path, copy: pathlib.Path, edit: Callable[[dict[str, Any]], None]) -> pathlib.Path:
    """A copy whose manifest is changed."""
    shutil.copytree(folder, copy)
    edit_manifest(copy, edit)
    return copy


def set_engines(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """An edit that sets fields of every engine."""

    def edit(data: dict[str, Any]) -> None:
        for engine in data["engines"]:
            engine.update(fields)

    return edit


def draw(batch: int) -> np.ndarray[Any, Any]:
    """New random inputs at every call."""
    return np.random.default_rng().normal(size=(batch, 6)).astype(np.float32)


def check_answers(source: pathlib.Path, loaded: Any, batches: tuple[int, ...] = BATCHES) -> dict[str, int]:
    """Compare with TensorFlow's own answers; the counters of calls."""
    import tensorflow as tf

    plain = tf.saved_model.load(str(source)).signatures[KEY]
    for batch in batches:
        x = tf.constant(draw(batch))
        np.testing.assert_allclose(loaded.signatures[KEY](x=x)["y"], plain(x=x)["y"], rtol=1e-3, atol=1e-4)
    counts: dict[str, int] = beforehand.stats(loaded)["signatures"][KEY]
    return counts


_CHILD = """
import json, logging, sys
import numpy as np, tensorflow as tf
import beforehand
lines = []
class Keep(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
logging.getLogger("beforehand").addHandler(Keep(logging.WARNING))
loaded = tf.saved_model.load(sys.argv[1])
answers = [loaded.signatures["serving_default"](x=tf.constant(np.array(x, np.float32)))["y"].numpy().tolist()
           for x in json.loads(sys.argv[2])]
stats = beforehand.stats(loaded)
print(json.dumps({"answers": answers, "calls": stats["signatures"]["serving_default"], "lines": lines,
                  "unseen": stats["unseen_shapes"]}))
"""


def run_in_child(folder: pathlib.Path, inputs: list[Any], environ: dict[str, str]) -> dict[str, Any]:
    """Load a model and call it in a process of its own: answers, counters, lines of the log."""
    given = json.dumps([x.tolist() for x in inputs])
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(folder), given], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
