"""What each precision does to the accuracy of trained models: `python benchmarks/accuracy.py`.

    python benchmarks/accuracy.py --make-only FOLDER                        # train, on a machine that has scikit-learn
    python benchmarks/accuracy.py --folder FOLDER --backend tensorrt-rtx    # all else, where the GPU is

The models are those of tests/models/makers/trained_*.py, trained here (a minute each) unless they lie in the folder. Each is
converted in every precision, in a process of its own, and its whole test set goes through TensorFlow and through the saved
model in another one. Where too much is lost, it is built once more with `metric=` and `max_drop=`. A precision that this machine
has not is a line with the reason. Writes a section of RESULTS.md.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from format_accuracy import MISSED, find_verdict, format_accuracy
from write_section import write_section

from beforehand.options import PRECISION_MODES

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "models"))
import life_cycle  # noqa: E402 (found only now; it imports nothing large)

MODELS = ("trained_cnn", "trained_mbconv", "trained_encoder")
BACKENDS = ("openvino", "tensorrt-rtx", "tensorrt")
PACKAGES = ("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu12-libs", "tensorrt")
BATCH = 100
MAX_DROP = 0.005  # of answers, no more may differ from TensorFlow's, on images and texts that the search may look at
START = time.monotonic()


def main() -> None:
    """Train, convert, run the test sets, write."""
    options = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="beforehand-accuracy-") as scratch:
        os.environ["BEFOREHAND_CACHE"] = str(pathlib.Path(scratch, "cache"))
        folder = pathlib.Path(options.make_only or options.folder or scratch).absolute()
        make_missing(folder, options.models)
        if options.make_only:
            return
        results = {
            model: measure_model(folder / model, pathlib.Path(scratch, "converted", model), options)
            for model in options.models
        }
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results))
    text = format_accuracy(results, options.backend, BATCH, "" if options.backend == "openvino" else describe_gpu())
    print(text)
    if options.output:
        section = "accuracy" if options.backend == "openvino" else f"accuracy-{options.backend}"
        write_section(pathlib.Path(options.output), section, text)
    sys.exit(any("failed" in result for found in results.values() for result in found.values()))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--backend", choices=BACKENDS, default="openvino", help="default openvino")
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISION_MODES, default=PRECISION_MODES, metavar="MODE",
        help=", ".join(PRECISION_MODES),
    )  # fmt: skip
    parser.add_argument("--folder", help="where trained models and their data are kept; by default they are made anew")
    parser.add_argument("--make-only", metavar="FOLDER", help="train into this folder, and end")
    parser.add_argument("--json", help="a file for every single figure")
    parser.add_argument("--output", default=str(HERE / "RESULTS.md"), help="file of the section; '' for none")
    return parser.parse_args()


def make_missing(folder: pathlib.Path, models: tuple[str, ...]) -> None:
    """Train the models that do not lie in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for model in models:
        # The data are written last: without them it was not finished.
        if not (folder / model / "data.npz").is_file():
            life_cycle.make_models([model], folder)
            say(f"{model}: trained")


def measure_model(made: pathlib.Path, folder: pathlib.Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """By precision what was measured, or {"refused": text}, or {"failed": text}."""
    job = {"source": str(made / "source"), "data": str(made / "data.npz"), "batch": BATCH}
    results: dict[str, dict[str, Any]] = {}
    for mode in options.precisions:
        found = convert_and_measure({**job, "output": str(folder / mode), "precision": mode}, options)
        results[mode] = found
        if find_verdict(mode, found) == MISSED:
            searched = {**job, "output": str(folder / f"{mode}-searched"), "precision": mode, "max_drop": MAX_DROP}
            results[f"{mode}, searched"] = convert_and_measure(searched, options)
    return results


def convert_and_measure(job: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """One model in one precision."""
    [converted] = life_cycle.run_jobs("convert_trained.py", [{**job, "backend": options.backend}])
    told = converted.get("refused") or converted.get("failed") or f"{converted['seconds']:.1f} s"
    say(f"{pathlib.Path(job['source']).parent.name} {job['precision']}: {told}")
    if "engines" not in converted:
        return converted
    jobs = [{**job, "converted": job["output"]}]
    [measured] = life_cycle.run_jobs("measure_trained.py", jobs, BEFOREHAND_FORBID_BUILD="1")
    return check_engines_ran({**converted, **measured})


def check_engines_ran(result: dict[str, Any]) -> dict[str, Any]:
    """The same, as failed unless engines, and nothing but engines, answered every call."""
    if "failed" not in result and (
        result["engine_calls"] != result["calls"] * result["segments"] or result["native_calls"]
    ):
        told = f"{result['calls']} calls, {result['engine_calls']} of engines and {result['native_calls']} native ones"
        return {**result, "failed": told}
    return result


def describe_gpu() -> str:
    """The first GPU and its driver, and the versions of both TensorRTs; nothing where there is no GPU."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        gpus = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        gpus = []
    found = [f"{package} {find_version(package)}" for package in PACKAGES if find_version(package)]
    return ", ".join([*(f"{line.replace(', ', ', driver ')}" for line in gpus[:1]), *found])


def find_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def say(text: str) -> None:
    print(f"{time.monotonic() - START:4.0f} s: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
