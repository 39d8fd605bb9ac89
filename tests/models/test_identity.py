"""An engine is its graph, weights, shapes and all else: equal ones are one, others never; and two models do not mix."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from make_targets import KEY, convert, draw, make_source

import beforehand
from beforehand.store import layout
from beforehand.store.manifest import read_manifest

_KEYS = """
import json, sys
import beforehand
converter = beforehand.Converter(sys.argv[1])
converter.convert()
print(json.dumps([engine.key for engine in converter.build(shapes={"x": (2, 6)})]))
"""


def find_keys(source: pathlib.Path, **environ: str) -> list[str]:
    """The keys of a model's engines, by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _KEYS, str(source)], env={**os.environ, **environ}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    keys: list[str] = json.loads(done.stdout.strip().splitlines()[-1])
    assert keys
    return keys


def make_variant(
    folder: pathlib.Path,
    last: Callable[[Any], Any] = tf.tanh,
    *,
    nudge: float = 0.0,
    name: str = "x",
    dtype: Any = None,
) -> pathlib.Path:
    """Like `make_source`, with one thing changed."""
    rng = np.random.default_rng(3)
    dtype = dtype or np.float32
    module = tf.Module()
    first = rng.normal(0, 0.5, (6, 8))
    first[5, 7] += nudge
    module.first = tf.Variable(first.astype(dtype))

    @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.as_dtype(dtype), name=name)])
    def call(x: Any) -> dict[str, Any]:
        return {"y": last(tf.nn.relu(tf.matmul(x, module.first) + 0.1) - 0.2)}

    tf.saved_model.save(module, str(folder), signatures={KEY: call})
    return folder


def test_equal_models_have_equal_keys_in_any_process_and_each_change_another(tmp_path: pathlib.Path) -> None:
    base = find_keys(make_variant(tmp_path / "base"), PYTHONHASHSEED="1")
    assert find_keys(tmp_path / "base", PYTHONHASHSEED="2") == base
    assert find_keys(make_variant(tmp_path / "made_again" / "elsewhere")) == base
    others = {
        "one weight": find_keys(make_variant(tmp_path / "weight", nudge=1e-6)),
        "one op": find_keys(make_variant(tmp_path / "op", tf.sigmoid)),
        "a constant": find_keys(make_variant(tmp_path / "constant", lambda t: tf.tanh(t * 1.5))),
        "another target": find_keys(tmp_path / "base", ONEDNN_MAX_CPU_ISA="AVX"),
    }
    for what, keys in others.items():
        assert not set(keys) & set(base), what
    found = [key for keys in (base, *others.values()) for key in keys]
    assert len(set(found)) == len(found)


def test_a_build_that_was_done_is_not_done_again(tmp_path: pathlib.Path) -> None:
    converter = beforehand.Converter(make_source(tmp_path / "source"))
    converter.convert()
    assert len(converter.build(shapes={"x": (2, 6)})) == 1
    assert converter.build(shapes={"x": (2, 6)}) == ()
    assert len(converter.build(shapes={"x": (3, 6)})) == 1
    assert len(converter.engines) == 2


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """Two converted models of the same names and shapes, with other weights."""
    folder = tmp_path_factory.mktemp("two")
    for seed, name in ((3, "first"), (4, "second")):
        convert(make_source(folder / f"{name}_source", seed), folder / name)
    return {name: folder / name for name in ("first", "second")}


def test_two_models_of_the_same_names_have_files_of_other_names(two_models: dict[str, pathlib.Path]) -> None:
    first, second = (read_manifest(layout.find_manifest(folder)).engines for folder in two_models.values())
    assert [engine.segment for engine in first] == [engine.segment for engine in second]
    assert [engine.shapes for engine in first] == [engine.shapes for engine in second]
    assert not {engine.file for engine in first} & {engine.file for engine in second}
    assert not {engine.key for engine in first} & {engine.key for engine in second}


def load_pairs(two_models: dict[str, pathlib.Path]) -> list[tuple[Any, Any]]:
    """Of each model what TensorFlow loads, and its source's signature."""
    return [
        (
            tf.saved_model.load(str(folder)),
            tf.saved_model.load(str(folder.with_name(f"{name}_source"))).signatures[KEY],
        )
        for name, folder in two_models.items()
    ]


def test_two_models_of_the_same_names_in_one_process_do_not_mix(two_models: dict[str, pathlib.Path]) -> None:
    pairs = load_pairs(two_models)
    for _ in range(4):
        for batch in (2, 5, 3):  # 3 has no engine
            x = tf.constant(draw(batch))
            answers = []
            for loaded, plain in pairs:
                answers.append(loaded.signatures[KEY](x=x)["y"].numpy())
                np.testing.assert_allclose(answers[-1], plain(x=x)["y"], rtol=1e-3, atol=1e-4)
            assert np.abs(answers[0] - answers[1]).max() > 0.01
    for loaded, _ in pairs:
        stats = beforehand.stats(loaded)
        assert stats["signatures"][KEY] == {"engine_calls": 8, "native_calls": 4}
        assert [item["count"] for item in stats["unseen_shapes"]] == [4]


@pytest.mark.parametrize("how", ["direct", "by the graph"])
def test_two_models_called_by_many_threads_do_not_mix(two_models: dict[str, pathlib.Path], how: str) -> None:
    pairs = load_pairs(two_models)
    calls = [
        tf.function(loaded.signatures[KEY]) if how == "by the graph" else loaded.signatures[KEY] for loaded, _ in pairs
    ]
    faults: list[str] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        rng = np.random.default_rng()
        start.wait()
        for step in range(24):
            which, batch = (number + step) % 2, (2, 5, 3)[step % 3]
            x = tf.constant(rng.normal(size=(batch, 6)).astype(np.float32))
            have, want = calls[which](x=x)["y"].numpy(), pairs[which][1](x=x)["y"].numpy()
            if not np.allclose(have, want, rtol=1e-3, atol=1e-4):
                faults.append(f"thread {number}, step {step}: {np.abs(have - want).max()}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    for loaded, _ in pairs:
        assert beforehand.stats(loaded)["signatures"][KEY] == {"engine_calls": 64, "native_calls": 32}


def test_a_model_loaded_twice_counts_and_closes_apart(two_models: dict[str, pathlib.Path]) -> None:
    """The same files, two loads: one of them going away takes nothing from the other."""
    import gc

    folder = two_models["first"]
    one, other = tf.saved_model.load(str(folder)), tf.saved_model.load(str(folder))
    x = tf.constant(draw(2))
    want = other.signatures[KEY](x=x)["y"].numpy()
    np.testing.assert_array_equal(one.signatures[KEY](x=x)["y"], want)
    del one
    gc.collect()
    np.testing.assert_array_equal(other.signatures[KEY](x=x)["y"], want)
    assert beforehand.stats(other)["signatures"][KEY] == {"engine_calls": 2, "native_calls": 0}
