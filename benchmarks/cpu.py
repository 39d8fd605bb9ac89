"""Calls, conversion and memory on this CPU, beside TensorFlow, ONNX Runtime and bare OpenVINO: `python benchmarks/cpu.py`.

Every measurement runs in a process of its own; this one imports nothing large, and writes a section of RESULTS.md.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from format_results import format_results
from make_models import MODELS, SIX, TEXTS
from write_section import write_section

HERE = pathlib.Path(__file__).parent
PRECISIONS = ("FP32", "BF16", "FP16", "INT8")
SECTIONS = {"FP32": "cpu", "INT8": "cpu-int8"}
NAMES = (*MODELS, *TEXTS)
MEASUREMENTS = ("calls", "conversion", "memory", "import")


def main() -> None:
    """Make the models, measure, write."""
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(options.folder or made)
        run_script("make_models.py", str(folder), *options.models)
        results: dict[str, Any] = {name: {} for name in MEASUREMENTS}
        for model in options.models:
            for what in options.only:
                if what != "import":
                    print(f"{model}: {what}", file=sys.stderr, flush=True)
                    results[what][model] = measure_model(what, model, folder, options)
        if "import" in options.only:
            results["import"] = {"seconds": time_import()}
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results))
    text = format_results(results, options.precision)
    print(text)
    if options.output:
        write_section(pathlib.Path(options.output), SECTIONS.get(options.precision, "cpu-half"), text)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models",
        nargs="+",
        choices=NAMES,
        metavar="NAME",
        help=f"{', '.join(NAMES)}; default: six for images, and for INT8 {', '.join(TEXTS)}",
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="FP32", help="of beforehand and of bare OpenVINO; all else is FP32"
    )
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8], help="batch sizes (default 1 8)")
    parser.add_argument(
        "--rounds", nargs=2, type=int, default=[15, 200], help="fewest and most rounds (default 15 200)"
    )
    parser.add_argument("--seconds", type=float, default=20, help="about how long to repeat what is undecided")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS), help="what to measure")
    parser.add_argument("--folder", help="where the models are kept; by default they are made anew")
    parser.add_argument("--json", help="a file for every single measurement")
    parser.add_argument("--output", default=str(HERE / "RESULTS.md"), help="file of the section; '' for none")
    options = parser.parse_args()
    options.models = options.models or [*SIX, *(TEXTS if options.precision == "INT8" else ())]
    return options


def measure_model(what: str, model: str, folder: pathlib.Path, options: argparse.Namespace) -> Any:
    """What a process that does nothing else found."""
    job: dict[str, Any] = {"model": model, "source": str(folder / model), "precision": options.precision}
    with tempfile.TemporaryDirectory() as scratch:
        job["scratch"] = scratch
        if what == "calls":
            job |= {"batches": options.batch, "rounds": options.rounds, "seconds": options.seconds}
            return run_script("time_calls.py", json.dumps(job))
        return run_script("time_conversion.py", json.dumps({**job, "what": "time" if what == "conversion" else what}))


def time_import(repeats: int = 7) -> list[float]:
    """Seconds of `import beforehand`, each in a fresh process."""
    code = "import time; start = time.perf_counter(); import beforehand; print(time.perf_counter() - start)"
    command = [sys.executable, "-c", code]
    return [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(repeats + 1)
    ][1:]  # the first one may compile


def run_script(name: str, *arguments: str) -> Any:
    """The JSON of the last line that a script of this folder prints; None if it prints nothing."""
    command = [sys.executable, str(HERE / name), *arguments]
    environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(f"{name} failed:\n{process.stderr[-4000:]}")
    lines = process.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else None


if __name__ == "__main__":
    main()
