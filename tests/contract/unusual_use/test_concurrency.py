"""Threads, processes and forks: what one model answers to many callers at once."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.contract.unusual_use.conftest import Runner, Saved, assert_close

Load = Callable[[pathlib.Path], Any]
Expect = Callable[..., dict[str, np.ndarray]]
THREADS, CALLS = 16, 200


@pytest.mark.parametrize("way", ["direct", "graph"])
@pytest.mark.parametrize("most", [1, None])
def test_sixteen_threads_of_mixed_shapes_get_the_answers_of_one(
    most: int | None, way: str, module_model: Saved, load: Load, rng: np.random.Generator, expect: Expect
) -> None:
    """16 x 200 calls, a third of shapes that no engine serves, with evictions (at most one engine open) and without."""
    import tensorflow as tf

    import beforehand

    loaded = load(module_model.converted)
    serve = loaded.signatures["serving_default"]
    if way == "graph":
        serve = tf.function(lambda x, serve=serve: serve(x=x))
    beforehand.set_policies(loaded, maximum_cached_engines=most)
    cases = [module_model.make_inputs(rng, batch) for batch in (1, 2, 5, 1, 2, 7)]
    expected = [expect(module_model, inputs) for inputs in cases]
    single = [{name: value.numpy() for name, value in serve(**inputs).items()} for inputs in cases]
    for found, wanted in zip(single, expected, strict=True):
        assert_close(found, wanted)
    beforehand.reset_stats(loaded)

    def call_many(thread: int) -> int:
        order = np.random.default_rng(thread).integers(0, len(cases), CALLS)
        for i in order:
            found = serve(**cases[i])
            assert_close({name: value.numpy() for name, value in found.items()}, single[i], exact=True)
        return sum(len(cases[i]["x"]) <= 2 for i in order)

    with ThreadPoolExecutor(THREADS) as pool:
        served = sum(pool.map(call_many, range(THREADS)))
    stats = beforehand.stats(loaded)
    assert stats["signatures"]["serving_default"] == {
        "engine_calls": served,
        "native_calls": THREADS * CALLS - served,
    }
    evictions = sum(engine["evictions"] for engine in stats["engines"])
    assert evictions > 10 if most else evictions == 0


LOAD = """
import time
import numpy as np, tensorflow as tf
import beforehand
x, expected = np.load(arguments["x"]), np.load(arguments["y"])
open(arguments["ready"] + "." + str(os.getpid()), "w").close()
while len([n for n in os.listdir(os.path.dirname(arguments["ready"])) if n.startswith("ready.")]) < 4:
    time.sleep(0.01)
loaded = tf.saved_model.load(arguments["folder"])
found = loaded.signatures["serving_default"](x=x)["y"].numpy()
report(right=bool(np.allclose(found, expected, rtol=1e-3, atol=1e-4)), stats=beforehand.stats(loaded)["signatures"])
"""


def test_four_processes_load_one_read_only_folder_at_once_and_answer_right(
    module_model: Saved, run_python: Runner, rng: np.random.Generator, expect: Expect, tmp_path: pathlib.Path
) -> None:
    folder = module_model.copy_to(tmp_path / "model")
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    for file in [folder, *folder.rglob("*")]:
        file.chmod(0o555 if file.is_dir() else 0o444)
    inputs = module_model.make_inputs(rng, 2)
    np.save(tmp_path / "x.npy", inputs["x"])
    np.save(tmp_path / "y.npy", expect(module_model, inputs)["y"])
    arguments = {"folder": folder, "x": tmp_path / "x.npy", "y": tmp_path / "y.npy", "ready": tmp_path / "ready"}
    try:
        with ThreadPoolExecutor(4) as pool:
            reports = list(pool.map(lambda _: run_python(LOAD, arguments), range(4)))
    finally:
        for file in [folder, *folder.rglob("*")]:
            file.chmod(0o755 if file.is_dir() else 0o644)
    for found in reports:
        assert found["right"]
        assert found["stats"]["serving_default"] == {"engine_calls": 1, "native_calls": 0}
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


FORK = """
import time
import numpy as np, tensorflow as tf
import beforehand
x = np.load(arguments["x"])
load = lambda: tf.saved_model.load(arguments["folder"]).signatures["serving_default"]
if arguments["load"] == "before":
    serve = load()
    serve(x=x)
child = os.fork()
if child == 0:
    if arguments["load"] == "after":
        serve = load()
    try:
        np.save(arguments["out"], serve(x=x)["y"].numpy())
    except beforehand.errors.EngineRunError as error:
        os._exit(7 if "forked" in str(error) else 8)
    os._exit(0)
end, ended = time.monotonic() + 60, 0
while time.monotonic() < end and not ended:
    ended, code = os.waitpid(child, os.WNOHANG)
    time.sleep(0.05)
if not ended:
    os.kill(child, 9)
report(ended=bool(ended), code=os.waitstatus_to_exitcode(code) if ended else None)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_forked_child_that_loads_gets_right_answers_and_another_is_told(
    when: str, module_model: Saved, run_python: Runner, rng: np.random.Generator, expect: Expect, tmp_path: pathlib.Path
) -> None:
    """Called before the fork: OpenVINO refuses, and what went by TensorFlow's graph would hang (docs/running.md)."""
    inputs = module_model.make_inputs(rng, 2)
    np.save(tmp_path / "x.npy", inputs["x"])
    arguments = {"folder": module_model.converted, "x": tmp_path / "x.npy", "out": tmp_path / "y.npy", "load": when}
    found = run_python(FORK, arguments)
    assert (found["ended"], found["code"]) == (True, 7 if when == "before" else 0)
    if when == "after":
        assert_close(np.load(tmp_path / "y.npy"), expect(module_model, inputs)["y"])
