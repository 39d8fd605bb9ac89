"""Calls on a GPU (FP16), beside TensorRT's own API, torch.compile and what the GPU can do: `python benchmarks/gpu.py`.

    python benchmarks/gpu.py --folder /tmp/bench --json $OUT/gpu.json --models bert vit
    python benchmarks/gpu.py --folder /tmp/bench --json $OUT/gpu.json --resume        # the other models
    python benchmarks/gpu.py --folder /tmp/bench --profile bert 8                     # layer by layer

Step 1 makes and converts models with TensorFlow while torch.compile fills its cache; step 2 measures, with nothing else at
work. TensorFlow and torch never share a process; this one imports neither. Rows are printed, and the file of --json is
written, as they are found. Writes a section of RESULTS.md.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from format_gpu import format_first, format_gpu, format_line
from gpu_models import BATCHES, MODELS
from write_section import write_section

HERE = pathlib.Path(__file__).parent
START = time.monotonic()


def main() -> None:
    """Make, measure, write."""
    options = parse_arguments()
    if options.profile:
        job = {"model": options.profile[0], "batch": int(options.profile[1]), "precision": options.precision}
        run_script(options, "gpu_profile.py", job, show=True)
        return
    results = read_results(options)
    if not options.skip_make:
        prepare(options, results)
    if options.make_only:
        return
    if not options.resume or "ceilings" not in results:
        found = run_script(options, "gpu_roofline.py", {})
        results.update(found if "failed" not in found else {})
        say(f"ceilings: {json.dumps(found)}")
    keep(options, results)
    for model in options.models:
        time_model(options, results, model)
    text = format_gpu(results)
    print(text)
    if options.output:
        write_section(pathlib.Path(options.output), "gpu", text)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME", help=", ".join(MODELS)
    )
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), help="default 1 8 64")
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
    parser.add_argument("--json", help="a file for every single measurement, written after each row")
    parser.add_argument("--resume", action="store_true", help="keep what the file of --json has, and measure the rest")
    parser.add_argument(
        "--profile", nargs=2, metavar=("NAME", "BATCH"), help="print the slowest layers and kernels, only"
    )
    parser.add_argument("--output", default=str(HERE / "RESULTS.md"), help="file of the section; '' for none")
    options = parser.parse_args()
    if options.folder is None:
        options.folder = tempfile.mkdtemp(prefix="beforehand-gpu-")
        print(f"models and engines: {options.folder}", file=sys.stderr)
    options.folder = str(pathlib.Path(options.folder).absolute())
    pathlib.Path(options.folder).mkdir(parents=True, exist_ok=True)
    return options


def read_results(options: argparse.Namespace) -> dict[str, Any]:
    """Those of the run before, if this one goes on with it."""
    empty: dict[str, Any] = {"precision": options.precision, "made": {}, "compiled": {}, "rows": {}, "failed": {}}
    if not (options.resume and options.json and pathlib.Path(options.json).is_file()):
        return empty
    return {**empty, **json.loads(pathlib.Path(options.json).read_text()), "failed": {}}


def keep(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Write the file of all measurements, whole or not at all."""
    if options.json:
        file = pathlib.Path(options.json)
        part = file.with_name(file.name + ".part")
        part.write_text(json.dumps(results))
        part.replace(file)


def prepare(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Engines, one model after the other, on the CPU; and meanwhile torch.compile, several at a time."""
    jobs = [] if options.no_torch or options.make_only else list(list_compilations(options, results))
    with ThreadPoolExecutor(1) as maker, ThreadPoolExecutor(max(1, options.at_once)) as compilers:
        made = {name: maker.submit(make_model, options, name) for name in options.models if name not in results["made"]}
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


def make_model(options: argparse.Namespace, name: str) -> dict[str, Any]:
    return run_script(
        options, "gpu_make.py", {"model": name, "batches": options.batches, "precision": options.precision}
    )


def list_compilations(options: argparse.Namespace, results: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each model, batch and layout that torch has not compiled and that is still to be timed."""
    for model in options.models:
        for batch in options.batches:
            for layout in MODELS[model].layouts:
                key = f"{model} {batch} {layout}"
                if key not in results["compiled"] and str(batch) not in results["rows"].get(model, {}):
                    job = {"model": model, "batch": batch, "layout": layout, "precision": options.precision}
                    yield key, job


def time_model(options: argparse.Namespace, results: dict[str, Any], model: str) -> None:
    """The rows of a model that are not there yet."""
    rows = results["rows"].setdefault(model, {})
    job = {"model": model, "precision": options.precision, "rounds": options.rounds, "seconds": options.seconds}
    batches = [batch for batch in options.batches if str(batch) not in rows]
    for found in stream_script(options, "gpu_time.py", {**job, "batches": batches}) if batches else ():
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


def run_script(options: argparse.Namespace, name: str, job: dict[str, Any], *, show: bool = False) -> dict[str, Any]:
    """The JSON of the last line that a script of this folder prints, or {"failed": text}; with `show` it prints for us."""
    if show:
        code = subprocess.run(write_command(options, name, job), env=make_environment(options), check=False).returncode
        sys.exit(code)
    *_, last = [{"failed": f"{name} printed nothing"}, *stream_script(options, name, job)]
    return last


def stream_script(options: argparse.Namespace, name: str, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each line of JSON that a script prints, when it does; last {"failed": text} if it fails. Its log lies in the folder."""
    log = pathlib.Path(options.folder, f"{name.removesuffix('.py')}-{job.get('model', '')}-{time.monotonic_ns()}.log")
    with (
        log.open("w") as errors,
        subprocess.Popen(
            write_command(options, name, job),
            env=make_environment(options),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
    if process.returncode:
        last = [line for line in log.read_text().splitlines() if line.strip()][-1:] or ["it said nothing"]
        yield {"failed": f"{name} ended with {process.returncode}: {last[0][:400]} ({log})"}


def write_command(options: argparse.Namespace, name: str, job: dict[str, Any]) -> list[str]:
    return [sys.executable, str(HERE / name), json.dumps({"folder": options.folder, **job})]


def make_environment(options: argparse.Namespace) -> dict[str, str]:
    """Caches of this run alone; Inductor's workers share the cores."""
    cores = len(os.sched_getaffinity(0))
    return {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TORCHINDUCTOR_COMPILE_THREADS": str(max(1, cores // max(1, options.at_once))),
        **os.environ,
        "BEFOREHAND_CACHE": str(pathlib.Path(options.folder, "cache")),
        "TORCHINDUCTOR_CACHE_DIR": str(pathlib.Path(options.folder, "inductor")),
        "PYTHONPATH": os.pathsep.join([str(HERE.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


if __name__ == "__main__":
    main()
