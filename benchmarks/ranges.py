"""Is an engine of a batch range as fast as one of a single shape? Paired, alternating calls; medians of differences.

Usage: python benchmarks/ranges.py [--rounds N] [--models NAME ...]. Weights are Keras's random ones.

Engines are called as the runtime calls them (copies included), without TensorFlow around them. Of each batch size, a
static engine and the range 1..8 answer the same input in turn; the interval is that of the median of the paired
differences (95 %, by order statistics). "mixed" calls the range with another batch size every time, against the static
engine of that size: what a change of shape costs the range engine is in it.
"""

from __future__ import annotations

import argparse
import math
import pathlib
import tempfile
import time

import keras
import numpy as np

import beforehand
from beforehand.backends.registry import find_backend

BATCHES = (1, 4, 8)
LENGTH, WIDTH = 128, 256


def make_transformer():
    """Four encoder layers over token ids of a fixed length: batch (?), 128 tokens, width 256, 4 heads, 7 MB of weights."""
    layers = keras.layers
    ids = keras.Input((LENGTH,), dtype="int32", name="ids")
    x = layers.Embedding(4000, WIDTH)(ids)
    for _ in range(4):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, WIDTH // 4)(y, y)])
        y = layers.Dense(4 * WIDTH, activation="relu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(WIDTH)(y)])
    return keras.Model(ids, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def make_model(name, folder):
    """The SavedModel of a model."""
    keras.utils.set_random_seed(1)
    model = make_transformer() if name == "transformer" else getattr(keras.applications, name)(weights=None)
    model.export(str(folder), verbose=False)


def load_engine(engine, folder):
    data = np.frombuffer((folder / "assets" / engine.file).read_bytes(), np.uint8).copy()
    return find_backend(engine.backend).load(data, engine.input_names, engine.output_names)


def build_engines(name, folder):
    """The static engines by batch size, the engine of the range, and a function that makes inputs."""
    make_model(name, folder / "source")
    converter = beforehand.Converter(folder / "source", min_speedup=None)
    converter.convert()
    [spec] = converter.signatures[0].inputs
    rest = spec.shape[1:]
    static = converter.build(shapes=[{spec.name: (batch, *rest)} for batch in range(1, max(BATCHES) + 1)])
    [ranged] = converter.build(shapes={spec.name: ((1, max(BATCHES)), *rest)})
    converter.save(folder / "converted")
    sizes = [engine.bytes / 1e6 for engine in static]
    print(
        f"{name}: static {sizes[0]:.1f} MB each, range {ranged.bytes / 1e6:.1f} MB, weights "
        f"{converter.segments[0].weight_bytes / 1e6:.1f} MB; built in {static[0].build_seconds:.1f} and "
        f"{ranged.build_seconds:.1f} s"
    )
    rng = np.random.default_rng(1)

    def make_input(batch):
        if spec.dtype == "int32":
            return rng.integers(0, 4000, (batch, *rest)).astype(np.int32)
        return rng.uniform(0, 255, (batch, *rest)).astype(np.float32)

    loaded = {batch: load_engine(engine, folder / "converted") for batch, engine in enumerate(static, 1)}
    return loaded, load_engine(ranged, folder / "converted"), make_input


def time_call(engine, given):
    start = time.perf_counter()
    [found, *_] = engine.run([given])
    return 1000 * (time.perf_counter() - start), found


def compare(static, ranged, given):
    """One pair in milliseconds, in either order; and that the answers are the same."""
    engines = [(0, static), (1, ranged)]
    if compare.flip:
        engines.reverse()
    compare.flip = not compare.flip
    found = {place: time_call(engine, given) for place, engine in engines}
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-3, atol=1e-5)
    return found[0][0], found[1][0]


compare.flip = False


def find_interval(differences):
    """The median's 95 % interval, by order statistics."""
    ordered, count = np.sort(differences), len(differences)
    reach = math.ceil(0.98 * math.sqrt(count))
    low, high = count // 2 - reach, count // 2 + reach
    return ordered[max(0, low)], ordered[min(count - 1, high)]


def report(name, what, pairs):
    static, ranged = np.array(pairs).T
    low, high = find_interval(ranged - static)
    median = np.median(static)
    verdict = "slower" if low > 0 else "faster" if high < 0 else "no difference seen"
    print(
        f"| {name} | {what} | {median:.2f} | {np.median(ranged):.2f} | {np.median(ranged - static):+.2f} "
        f"({low:+.2f} to {high:+.2f}) | {100 * np.median(ranged - static) / median:+.1f} % | {verdict} |",
        flush=True,
    )


def measure_model(name, rounds):
    with tempfile.TemporaryDirectory() as folder:
        static, ranged, make_input = build_engines(name, pathlib.Path(folder))
        rng = np.random.default_rng(2)
        for batch in BATCHES:
            given = make_input(batch)
            for _ in range(5):
                compare(static[batch], ranged, given)
            report(name, f"batch {batch}", [compare(static[batch], ranged, given) for _ in range(rounds)])
        inputs = {batch: make_input(batch) for batch in static}
        for batch in static:
            compare(static[batch], ranged, inputs[batch])
        order = rng.permutation(list(static) * math.ceil(rounds / len(static)))
        report(name, "mixed 1 to 8", [compare(static[batch], ranged, inputs[batch]) for batch in order])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--models", nargs="*", default=["MobileNetV2", "EfficientNetB0", "transformer"])
    arguments = parser.parse_args()
    print(
        "| model | what | static ms | range ms | difference ms (95 %) | of static | |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    for name in arguments.models:
        measure_model(name, arguments.rounds)


if __name__ == "__main__":
    main()
