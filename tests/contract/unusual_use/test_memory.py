"""Memory: what many shapes, and many engines, cost a process."""

from __future__ import annotations

import pytest

from tests.contract.unusual_use.conftest import Runner, Saved

MOST_GROWTH_MB = 200

MEASURE = """
import gc
import numpy as np
def read_rss():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
rng = np.random.default_rng()
shapes = [(int(n), int(h), int(w), 3) for n, h, w in zip(
    rng.integers(1, 5, 500), rng.integers(12, 60, 500), rng.integers(12, 60, 500))]
shapes = list(dict.fromkeys(shapes))[:500]
"""

MAKE = (
    MEASURE
    + """
import tensorflow as tf
import beforehand
class Model(tf.Module):
    def __init__(self):
        super().__init__()
        self.kernels = [tf.Variable(rng.normal(size=(3, 3, a, 16)) / 10, dtype=tf.float32) for a in (3, 16, 16, 16)]
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="x")])
    def __call__(self, x):
        for kernel in self.kernels:
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))
        return {"y": tf.reduce_mean(x, [1, 2])}
model = Model()
tf.saved_model.save(model, arguments["source"], signatures={"serving_default": model.__call__})
converter = beforehand.Converter(arguments["source"])
converter.convert()
converter.build(shapes=[{"x": (1, 8, 8, 3)}, {"x": (2, 8, 8, 3)}])
converter.save(arguments["folder"])
report(segments=len(converter.segments))
"""
)

EAGER = (
    MEASURE
    + """
import tensorflow as tf
import beforehand
loaded = tf.saved_model.load(arguments["folder"])
serve = loaded.signatures["serving_default"]
for shape in shapes[:50]:
    serve(x=np.ones(shape, np.float32))
before = read_rss()
for i in range(5000):
    shape = shapes[i % len(shapes)]
    assert serve(x=np.ones(shape, np.float32))["y"].shape == (shape[0], 16)
stats = beforehand.stats(loaded)
report(growth=read_rss() - before, unseen=len(stats["unseen_shapes"]), calls=stats["signatures"]["serving_default"])
"""
)

RANGE = (
    MEASURE
    + """
import openvino as ov
from openvino import opset13 as op
from beforehand.backends.registry import find_backend
dims = [ov.Dimension(1, 8), ov.Dimension(8, 64), ov.Dimension(8, 64), 3]
x = op.parameter(dims, np.float32, name="x")
x.output(0).set_names({"x"})
y, channels = op.transpose(x, op.constant([0, 3, 1, 2])), 3
for _ in range(arguments["layers"]):
    kernel = rng.normal(size=(16, channels, 3, 3)).astype(np.float32) / 10
    y, channels = op.relu(op.convolution(y, op.constant(kernel), [1, 1], [1, 1], [1, 1], [1, 1])), 16
y = op.reduce_mean(y, op.constant([2, 3]), False)
y.output(0).set_names({"y"})
backend = find_backend("openvino")
exported = backend._core.compile_model(ov.Model([y], [x], "m"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).export_model()
exported = exported.getvalue() if hasattr(exported, "getvalue") else exported
engine = backend.load(np.frombuffer(exported, np.uint8).copy(), ["x"], ["y"])
for shape in shapes[:50]:
    engine.run([np.ones(shape, np.float32)])
before = read_rss()
for i in range(5000):
    shape = shapes[i % len(shapes)]
    assert engine.run([np.ones(shape, np.float32)])[0].shape == (shape[0], 16)
report(growth=read_rss() - before)
"""
)

LAZY = (
    MEASURE
    + """
import tensorflow as tf
import beforehand
loaded = tf.saved_model.load(arguments["folder"])
before = [engine["loads"] for engine in beforehand.stats(loaded)["engines"]]
loaded.signatures["serving_default"](x=np.ones((1, 8, 8, 3), np.float32))
report(before=before, after=[engine["loads"] for engine in beforehand.stats(loaded)["engines"]])
"""
)


@pytest.fixture(scope="module")
def conv_model(run_python: Runner, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A convolutional net of images of any size, with engines for two shapes."""
    folder = tmp_path_factory.mktemp("conv")
    saved = Saved(folder / "source", folder / "converted", {"x": (8, 8, 3)})
    assert run_python(MAKE, {"source": saved.source, "folder": saved.converted})["segments"] == 1
    return saved


def test_five_thousand_calls_of_five_hundred_unseen_shapes_take_little_memory(
    conv_model: Saved, run_python: Runner
) -> None:
    found = run_python(EAGER, {"folder": conv_model.converted})
    assert found["unseen"] > 400
    assert found["calls"] == {"engine_calls": 0, "native_calls": 5050}
    assert found["growth"] < MOST_GROWTH_MB


@pytest.mark.parametrize("layers", [4, pytest.param(16, marks=pytest.mark.slow)])
def test_one_range_engine_of_five_hundred_shapes_takes_little_memory(layers: int, run_python: Runner) -> None:
    """OpenVINO keeps what it made for each shape, up to a bound: 115 MB after 500 shapes, and then no more."""
    assert run_python(RANGE, {"layers": layers})["growth"] < MOST_GROWTH_MB


def test_loading_a_model_costs_the_engines_that_are_used(conv_model: Saved, run_python: Runner) -> None:
    found = run_python(LAZY, {"folder": conv_model.converted})
    assert (found["before"], found["after"]) == ([0, 0], [1, 0])
