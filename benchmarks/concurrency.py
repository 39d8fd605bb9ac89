"""Throughput with 1 and 4 callers, against bare OpenVINO's own pool of requests; and what counting costs a call.

Usage: python benchmarks/concurrency.py [--models NAME ...] [--rounds FEWEST MOST] [--seconds S]

Both run the same engine file with the same hint, in one process. A caller of ours is a thread that calls the loaded
signature and gets tensors of its own; OpenVINO's `AsyncInferQueue` has as many requests as there are callers, and its
outputs are left where they are. In each round either answers the same number of calls, in random turns.
"""

import argparse
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile
import timeit
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from describe_machine import describe_machine
from make_models import MODELS
from write_section import write_section

from beforehand.benchmark.alternate_calls import Times, alternate_calls, list_ratios
from beforehand.speed.estimate_median import Estimate, estimate_median

HERE = pathlib.Path(__file__).parent
OURS, BARE = "beforehand", "OpenVINO"
CALLERS = (1, 4)
HINTS = ("latency", "throughput")
CALLS = 24  # of one way in one round
NEAR = 0.95
HEAD = (
    f"| model | hint | callers | {BARE}, calls/s | {OURS}, calls/s | ratio (95 %) | within 5 % |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


def convert(source: pathlib.Path, folder: pathlib.Path, shape: tuple[int, ...]) -> None:
    import beforehand  # noqa: PLC0415 (TensorFlow, imported below it, is slow)

    converter = beforehand.Converter(source, min_speedup=None)
    converter.convert()
    converter.build(shapes={converter.signatures[0].inputs[0].name: shape})
    converter.save(folder)


def make_ours(folder: pathlib.Path, hint: str, callers: int, inputs: list[np.ndarray]) -> Any:
    """A function that answers all inputs, by as many threads as there are callers."""
    import tensorflow as tf  # noqa: PLC0415

    import beforehand  # noqa: PLC0415

    loaded = tf.saved_model.load(str(folder))
    beforehand.set_policies(loaded, performance_hint=hint)
    serve = loaded.signatures["serving_default"]
    [name] = serve.structured_input_signature[1]
    tensors = [tf.constant(x) for x in inputs]
    pool = concurrent.futures.ThreadPoolExecutor(callers)

    def call_some(first: int) -> None:
        for x in tensors[first::callers]:
            serve(**{name: x})

    def call_all() -> None:
        list(pool.map(call_some, range(callers)))

    call_all()
    assert all(counts["native_calls"] == 0 for counts in beforehand.stats(loaded)["signatures"].values())
    return call_all


def make_bare(folder: pathlib.Path, hint: str, callers: int, inputs: list[np.ndarray]) -> Any:
    """The same by OpenVINO alone."""
    import openvino  # noqa: PLC0415

    [file] = (folder / "assets").glob("*.openvino")
    data = np.frombuffer(file.read_bytes(), np.uint8).copy()
    config = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": hint.upper()}
    compiled = openvino.Core().import_model(openvino.Tensor(data, shared_memory=True), "CPU", config)
    queue = openvino.AsyncInferQueue(compiled, callers)

    def call_all() -> None:
        for x in inputs:
            queue.start_async({0: x}, share_inputs=True)
        queue.wait_all()

    call_all.data = data  # the model shares its memory
    return call_all


def measure(folder: pathlib.Path, hint: str, callers: int, inputs: list[np.ndarray], options: Any) -> Times:
    ways = {
        OURS: make_ours(folder, hint, callers, inputs),
        BARE: make_bare(folder, hint, callers, inputs),
    }
    return alternate_calls(ways, is_decided, rounds=tuple(options.rounds), seconds=options.seconds)


def is_decided(times: Times) -> bool:
    return judge(times).judge(NEAR, at_most=False) != "inconclusive"


def judge(times: Times) -> Estimate:
    """Of our throughput over OpenVINO's."""
    return estimate_median(list_ratios(times, OURS, BARE))


def format_row(model: str, hint: str, callers: int, times: Times) -> str:
    rates = {way: 1000 * CALLS / estimate_median(times[way]).median for way in (BARE, OURS)}
    found = judge(times)
    verdict = {"met": "within 5 %"}.get(found.judge(NEAR, at_most=False), found.judge(NEAR, at_most=False))
    return (
        f"| {model} | {hint} | {callers} | {rates[BARE]:.1f} | {rates[OURS]:.1f} | {found.median:.3f} "
        f"[{found.low:.3f}, {found.high:.3f}] | {verdict} ({found.count} rounds) |"
    )


def time_counting(calls: int = 200_000) -> str:
    """What counting adds to a call of an engine, in microseconds; of a call that no engine serves, too."""
    from beforehand.runtime.counters import CallCounts, UnseenShapes  # noqa: PLC0415

    counts, unseen, shapes = CallCounts(), UnseenShapes(), ((1, 224, 224, 3),)
    # What LoadedEngine.run does for its counters: two looks at the clock, one of which is also the LRU's, and an addition.
    code = "start = clock(); last = clock(); counts.add(0, clock() - start)"
    names = {"counts": counts, "unseen": unseen, "shapes": shapes}
    setup = "from time import perf_counter as clock"
    engine = min(timeit.repeat(code, setup, number=calls, repeat=5, globals=names)) / calls * 1e6
    native = min(timeit.repeat("unseen.add(0, shapes)", setup, number=calls, repeat=5, globals=names)) / calls * 1e6
    worst = max(engine, native)
    return (
        f"Counting costs a call of an engine {engine:.2f} microseconds, and one of an unseen shape {native:.2f} "
        f"(at most 5: {'met' if worst <= 5 else 'missed'})."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["MobileNetV2", "ResNet50"])
    parser.add_argument("--rounds", nargs=2, type=int, default=[20, 100], help="fewest and most rounds")
    parser.add_argument("--seconds", type=float, default=60, help="about how long to repeat what is undecided")
    parser.add_argument("--folder", help="where the models are kept; by default they are made anew")
    parser.add_argument("--output", default=str(HERE / "RESULTS.md"), help="file of the section; '' for none")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        sources = pathlib.Path(options.folder or scratch)
        subprocess.run([sys.executable, str(HERE / "make_models.py"), str(sources), *options.models], check=True)
        for model in options.models:
            size, scale = MODELS[model]
            rng = np.random.default_rng(1)
            inputs = [(scale * rng.random((1, size, size, 3))).astype(np.float32) for _ in range(CALLS)]
            folder = pathlib.Path(scratch, f"{model}-converted")
            convert(sources / model, folder, (1, size, size, 3))
            for hint in HINTS:
                for callers in CALLERS:
                    rows.append(format_row(model, hint, callers, measure(folder, hint, callers, inputs, options)))
                    print(rows[-1], flush=True)
    heading = "## Several callers at once (FP32, batch 1)"
    text = "\n\n".join([heading, describe_machine(), "\n".join([HEAD, *rows]), time_counting()])
    print(text)
    if options.output:
        write_section(pathlib.Path(options.output), "concurrency", text)


if __name__ == "__main__":
    main()
