"""Calls on a GPU (FP16), beside TensorRT's own API, torch.compile and what the GPU can do: `python benchmarks/gpu.py`.

    python benchmarks/gpu.py --folder /tmp/bench --json gpu.json --models bert vit
    python benchmarks/gpu.py --folder /tmp/bench --json gpu.json --resume    # the other models
    python benchmarks/gpu.py --folder /tmp/bench --profile bert 8        # layer by layer
    python benchmarks/gpu.py --json gpu.json --format-only               # the section again, of what was measured

Step 1 makes and converts models with TensorFlow while torch.compile fills its cache; step 2 measures, with nothing else at
work. TensorFlow and torch never share a process; this one imports neither. Rows are printed, and the file of --json is
written, as they are found. Writes a section of RESULTS.md.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from describe_machine import describe_machine
from format_gpu import format_first, format_gpu, format_line
from gpu_models import BATCHES, LAYOUTS, MODELS, find_built
from stream_script import run_script, show_script, stream_script
from write_section import write_section

HERE = pathlib.Path(__file__).parent
START = time.monotonic()


def main() -> None:
    """Make, measure, write."""
    options = parse_arguments()
    if options.profile:
        job = {"model": options.profile[0], "batch": int(options.profile[1]), "precision": options.precision}
        sys.exit(show_script(options, "gpu_profile.py", job))
    results = read_results(options)
    if not options.format_only:
        if not options.skip_make:
            prepare(options, results)
        if options.make_only:
            return
        measure(options, results)
    text = format_gpu(results)
    print(text)
    if options.output:
        write_section(pathlib.Path(options.output), "gpu", text)


def measure(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """The ceilings, and the rows that are not there yet."""
    if "ceilings" not in results:
        found = run_script(options, "gpu_roofline.py", {})
        results.update(found if "failed" not in found else {})
        say(f"ceilings: {json.dumps(found)}")
    results["described"] = describe_machine()
    for model in options.models:
        time_model(options, results, model)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME", help=", ".join(MODELS)
    )
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), help="default 1 8 64")
    parser.add_argument(
        "--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS), help="of torch's images (default both)"
    )
    parser.add_argument("--precision", choices=("FP32", "FP16", "BF16"), default="FP16", help="of ours, and of torch")
    parser.add_argument(
        "--rounds", nargs=2, type=int, default=[60, 400], help="fewest and most rounds (default 60 400)"
    )
    parser.add_argument(
        "--seconds", type=float, default=3, help="about how long to repeat each kind of call (default 3)"
    )
    parser.add_argument(
        "--folder", help="where models, engines and torch's cache are kept; by default they are made anew"
    )
    parser.add_argument("--make-only", action="store_true", help="step 1 alone")
    parser.add_argument("--skip-make", action="store_true", help="step 2 alone, of what --folder has")
    parser.add_argument("--no-torch", action="store_true", help="step 1 without torch.compile: step 2 compiles itself")
    parser.add_argument("--at-once", type=int, default=3, help="how many models torch compiles at a time (default 3)")
    parser.add_argument(
        "--json", nargs="+", default=[], help="files for every single measurement, written after each row"
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep what the first file of --json has, and measure the rest"
    )
    parser.add_argument("--format-only", action="store_true", help="write the section of what the file of --json has")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no row after so many (a row takes about one)")
    parser.add_argument(
        "--profile", nargs=2, metavar=("NAME", "BATCH"), help="print the slowest layers and kernels, only"
    )
    parser.add_argument("--output", default=str(HERE / "RESULTS.md"), help="file of the section; '' for none")
    options = parser.parse_args()
    if options.folder is None and options.format_only:
        options.folder = "."
    elif options.folder is None:
        options.folder = tempfile.mkdtemp(prefix="beforehand-gpu-")
        print(f"models and engines: {options.folder}", file=sys.stderr)
    options.folder = str(pathlib.Path(options.folder).absolute())
    pathlib.Path(options.folder).mkdir(parents=True, exist_ok=True)
    return options


def read_results(options: argparse.Namespace) -> dict[str, Any]:
    """Those of the run before, if this one goes on with it."""
    empty: dict[str, Any] = {"precision": options.precision, "made": {}, "compiled": {}, "rows": {}, "failed": {}}
    files = [pathlib.Path(file) for file in options.json[:1] if options.resume or options.format_only]
    if not files or not files[0].is_file():
        return empty
    results = {**empty, **json.loads(files[0].read_text())}
    if options.resume:  # what failed is tried again
        results["failed"] = {}
        results["rows"] = {
            model: {batch: row for batch, row in rows.items() if not row["failed"]}
            for model, rows in results["rows"].items()
        }
    return results


def keep(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Write the files of all measurements, whole or not at all."""
    for file in map(pathlib.Path, options.json):
        part = file.with_name(file.name + ".part")
        part.write_text(json.dumps(results))
        part.replace(file)


def prepare(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Engines, one model after the other, on the CPU; and meanwhile torch.compile, several at a time."""
    jobs = [] if options.no_torch or options.make_only else list(list_compilations(options, results))
    with ThreadPoolExecutor(1) as maker, ThreadPoolExecutor(max(1, options.at_once)) as compilers:
        missing = [name for name in options.models if not is_made(options, results, name)]
        made = {name: maker.submit(make_model, options, name) for name in missing}
        compiled = {key: compilers.submit(run_script, options, "gpu_compile.py", job) for key, job in jobs}
        for kind, found in (("made", made), ("compiled", compiled)):
            for key, future in found.items():
                result = future.result()
                if "failed" in result:
                    results["failed"][f"{kind} {key}"] = result["failed"]
                else:
                    results[kind][key] = result
                say(f"{kind} {key}: {json.dumps(result)}")
                keep(options, results)


def is_made(options: argparse.Namespace, results: dict[str, Any], name: str) -> bool:
    """Whether its engines are there, or all its rows: another machine may have measured those."""
    rows = results["rows"].get(name, {})
    is_there = name in results["made"] and find_built(pathlib.Path(options.folder), name).is_dir()
    return is_there or all(str(batch) in rows for batch in options.batches)


def make_model(options: argparse.Namespace, name: str) -> dict[str, Any]:
    return run_script(
        options, "gpu_make.py", {"model": name, "batches": options.batches, "precision": options.precision}
    )


def list_compilations(options: argparse.Namespace, results: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each model, batch and layout that torch has not compiled and that is still to be timed."""
    has_cache = pathlib.Path(options.folder, "inductor").is_dir()
    for model in options.models:
        for batch in options.batches:
            for layout in choose_layouts(options, model):
                key = f"{model} {batch} {layout}"
                is_compiled = has_cache and key in results["compiled"]
                if not is_compiled and str(batch) not in results["rows"].get(model, {}):
                    job = {"model": model, "batch": batch, "layout": layout, "precision": options.precision}
                    yield key, job


def choose_layouts(options: argparse.Namespace, model: str) -> list[str]:
    """The orders of memory that torch is tried in."""
    known = MODELS[model].layouts
    return [layout for layout in known if layout in options.layouts] or list(known)


def time_model(options: argparse.Namespace, results: dict[str, Any], model: str) -> None:
    """The rows of a model that are not there yet."""
    rows = results["rows"].setdefault(model, {})
    job = {
        "model": model,
        "precision": options.precision,
        "layouts": choose_layouts(options, model),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "batches": [batch for batch in options.batches if str(batch) not in rows],
        "seconds_left": 60 * options.minutes - (time.monotonic() - START),
    }
    for found in stream_script(options, "gpu_time.py", job) if job["batches"] and job["seconds_left"] > 0 else ():
        if "failed" in found:
            results["failed"][f"timed {model}"] = found["failed"]
            say(f"{model}: {found['failed']}")
            continue
        rows[str(found["batch"])] = found["row"]
        say(format_line(model, str(found["batch"]), found["row"]))
        keep(options, results)
    for batch, row in rows.items():  # only now, when nothing else is at work on the GPU
        if "calls" not in row.get("first", {}):
            row["first"] = run_script(options, "gpu_first_call.py", {"model": model, "batch": int(batch)})
            say(format_first(model, batch, row))
            keep(options, results)


def say(text: str) -> None:
    print(f"{time.monotonic() - START:4.0f} s: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
