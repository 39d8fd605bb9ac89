"""What `precision_mode="auto"` takes on this CPU, by speed alone: `python benchmarks/auto.py`.

Weights are random, and so are errors: the budget is wide open (`max_error`), and only times decide. Accuracy is measured on
trained models (accuracy.py). Each model is converted in a process of its own. Writes a section of RESULTS.md.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from describe_machine import describe_machine
from format_results import format_table
from make_models import CALIBRATED, SIX, TEXTS, draw_inputs
from write_section import write_section

HERE = pathlib.Path(__file__).parent
OPEN = 1e6  # max_error
PRECISIONS = ("FP32", "FP16", "BF16", "INT8")


def main() -> None:
    """Make the models, measure each, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*SIX, *TEXTS], metavar="NAME")
    parser.add_argument("--folder", help="where the models are kept; by default they are made anew")
    parser.add_argument("--output", default=str(HERE / "RESULTS.md"), help="file of the section; '' for none")
    parser.add_argument("--one", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, pathlib.Path(options.folder) / options.one)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or scratch
        subprocess.run([sys.executable, str(HERE / "make_models.py"), folder, *options.models], check=True)
        found = {name: run_one(name, folder) for name in options.models}
    text = format_found(found)
    print(text)
    if options.output:
        write_section(pathlib.Path(options.output), "auto", text)


def run_one(name: str, folder: str) -> dict[str, Any]:
    """One model in a new process."""
    command = [sys.executable, __file__, "--one", name, "--folder", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    print(f"{name}: {done.stdout.splitlines()[-1]}", file=sys.stderr, flush=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(name: str, folder: pathlib.Path) -> dict[str, Any]:
    """Convert, and what was taken and left."""
    import numpy as np  # noqa: PLC0415 (the process that starts others imports nothing large)

    import beforehand  # noqa: PLC0415 (as above)

    rng = np.random.default_rng(11)
    converter = beforehand.Converter(
        folder, signatures=["serving_default"], precision_mode="auto", max_error=OPEN, min_speedup=None, progress="off"
    )
    names = ["image"]
    converter.convert(calibration_input_fn=lambda: (draw_inputs(name, names, 1, rng) for _ in range(CALIBRATED)))
    engines = converter.build(lambda: [draw_inputs(name, names, 1, rng)])
    assert len(engines) == 1, engines
    [engine] = engines
    speed = engine.speed
    assert speed is not None
    times = {engine.precision: speed.engine_us, **{lost.precision: lost.engine_us for lost in speed.lost}}
    return {
        "taken": engine.precision, "native_us": speed.native_us, "speedup": [speed.low, speed.speedup, speed.high],
        "others": speed.others, "times": times, "why": {lost.precision: lost.why for lost in speed.lost},
    }  # fmt: skip


def format_found(found: dict[str, dict[str, Any]]) -> str:
    """The section."""
    table = [
        [
            "model",
            "TensorFlow, ms",
            *[f"{precision}, ms" for precision in PRECISIONS],
            "taken",
            "times TensorFlow",
            "others",
        ]
    ]
    for name, one in found.items():
        times = [f"{one['times'][p] / 1000:.2f}" if one["times"].get(p) else "-" for p in PRECISIONS]
        low, middle, high = one["speedup"]
        table.append(
            [name, f"{one['native_us'] / 1000:.2f}", *times, one["taken"], f"{middle:.2f} [{low:.2f}, {high:.2f}]",
             f"{100 * one['others']:.0f} %"]
        )  # fmt: skip
    return (
        f"## What auto takes\n\n{describe_machine()}\n\nSegments alone, batch 1, medians of calls in random turns; by speed alone, as the "
        "weights are random (`max_error` is out of the way). FP16 that runs in BF16 is one with it. `others`: what other processes used of all "
        f"CPUs meanwhile.\n\n{format_table(table)}"
    )


if __name__ == "__main__":
    main()
