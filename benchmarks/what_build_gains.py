"""What is lost without `build()`: load, first call and later calls in fresh processes, for the same model in three states.

    python benchmarks/what_build_gains.py [--models ResNet50 MobileNetV2] [--rounds 12]

Never converted (and without beforehand in the process); converted and not built; built. Every figure is of a process of its own, in random turns, imports apart;
medians, and the ratio to the model never converted with the 95 % interval of the median of paired rounds. The section is
written into RESULTS.md.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from describe_machine import describe_machine
from make_models import MODELS
from write_section import write_section

from beforehand.speed.estimate_median import estimate_median

HERE = pathlib.Path(__file__).parent
STATES = ("never converted", "converted, build() not called", "converted and built")
STEPS = ("load", "first call", "second call", "later calls")
LATER = 30
HEAD = (
    "| model | state | load, s | first call, ms | second call, ms | later calls, ms | times faster (95 %) | cold start (95 %) |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def measure_here(folder: str, shape: list[int], scale: float, *, with_beforehand: bool) -> dict[str, float]:
    """In a fresh process: seconds of each step."""
    import tensorflow as tf  # noqa: PLC0415

    if with_beforehand:
        import beforehand  # noqa: F401, PLC0415 (whose import makes engines run)

    x = tf.constant((scale * np.random.default_rng(1).random(shape)).astype(np.float32))
    begun = time.perf_counter()
    loaded = tf.saved_model.load(folder)
    serve = loaded.signatures["serving_default"]
    [name] = serve.structured_input_signature[1]
    seconds = {"load": time.perf_counter() - begun}
    calls = []
    for _ in range(2 + LATER):
        begun = time.perf_counter()
        [value.numpy() for value in serve(**{name: x}).values()]
        calls.append(time.perf_counter() - begun)
    return {**seconds, "first call": calls[0], "second call": calls[1], "later calls": float(np.median(calls[2:]))}


def convert(source: pathlib.Path, folder: pathlib.Path, shape: list[int], *, build: bool) -> float:
    """Convert and save; how long `build` took."""
    import beforehand  # noqa: PLC0415

    converter = beforehand.Converter(source, progress="off", min_speedup=None)
    converter.convert()
    begun = time.perf_counter()
    if build:
        converter.build(shapes={converter.signatures[0].inputs[0].name: shape})
    seconds = time.perf_counter() - begun
    converter.save(folder)
    return seconds


def measure(folders: dict[str, pathlib.Path], shape: list[int], scale: float, rounds: int) -> dict[str, list[dict]]:
    """Of each state a list of what its processes told, one a round."""
    turns, told = random.Random(1), {state: [] for state in folders}  # noqa: S311 (no secret)
    for _ in range(1 + rounds):
        for state in turns.sample(list(folders), len(folders)):
            told[state].append(run_process(folders[state], shape, scale, with_beforehand=state != STATES[0]))
    return {state: found[1:] for state, found in told.items()}  # the first round found the files not yet read


def run_process(folder: pathlib.Path, shape: list[int], scale: float, *, with_beforehand: bool) -> dict:
    command = [
        sys.executable,
        __file__,
        "--here",
        str(folder),
        json.dumps(shape),
        str(scale),
        str(int(with_beforehand)),
    ]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{command} failed")
    return json.loads(done.stdout.splitlines()[-1])


def format_rows(model: str, told: dict[str, list[dict]]) -> list[str]:
    rows = []
    for state in STATES:
        medians = {step: float(np.median([one[step] for one in told[state]])) for step in STEPS}
        pairs = list(zip(told[STATES[0]], told[state], strict=True))
        faster = estimate_median([base["later calls"] / one["later calls"] for base, one in pairs])
        cold = estimate_median(
            [(base["load"] + base["first call"]) / (one["load"] + one["first call"]) for base, one in pairs]
        )
        ratios = (
            ["1", "1"]
            if state == STATES[0]
            else [f"{r.median:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in (faster, cold)]
        )
        calls = " | ".join(f"{1000 * medians[step]:.1f}" for step in STEPS[1:])
        rows.append(f"| {model} | {state} | {medians['load']:.2f} | {calls} | {ratios[0]} | {ratios[1]} |")
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--here"]:
        print(
            json.dumps(
                measure_here(
                    sys.argv[2], json.loads(sys.argv[3]), float(sys.argv[4]), with_beforehand=sys.argv[5] == "1"
                )
            )
        )
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["ResNet50", "MobileNetV2", "tiny"])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--output", default=str(HERE / "RESULTS.md"), help="file of the section; '' for none")
    options = parser.parse_args()
    rows, built = [], []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["BEFOREHAND_CACHE"] = str(pathlib.Path(scratch, "cache"))
        subprocess.run([sys.executable, str(HERE / "make_models.py"), scratch, *options.models], check=True)
        for model in options.models:
            size, scale = MODELS[model]
            shape = [1, size, size, 3]
            places = [pathlib.Path(scratch, model), *(pathlib.Path(scratch, f"{model}-{n}") for n in (1, 2))]
            convert(places[0], places[1], shape, build=False)
            built.append(f"{model} {convert(places[0], places[2], shape, build=True):.1f} s")
            rows += format_rows(model, measure(dict(zip(STATES, places, strict=True)), shape, scale, options.rounds))
            print("\n".join(rows[-3:]), flush=True)
    told = (
        f"Batch 1, {options.rounds} processes a row. Times faster: later calls against the model never converted; cold start: load "
        f"and first call together. `build()` took, once: {', '.join(built)}."
    )
    text = "\n\n".join(["## What is lost without build()", describe_machine(), told, "\n".join([HEAD, *rows])])
    print(text)
    if options.output:
        write_section(pathlib.Path(options.output), "build", text)


if __name__ == "__main__":
    main()
