"""Every model of the tests' tables, converted, compared and timed beside TensorFlow: `python benchmarks/models.py`.

Models are made, converted and called in three processes; small ones share them, as they do in the tests. A model that fails is
a row that says so. Writes a section of RESULTS.md.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from format_models import format_models
from write_section import write_section

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "models"))
import life_cycle  # noqa: E402 (found only now; it imports nothing large)
from expect_structures import STRUCTURES  # noqa: E402
from expectations import EXPECTATIONS, Expectation  # noqa: E402

TABLE: Mapping[str, Expectation] = {**EXPECTATIONS, **STRUCTURES}
TOGETHER = 12  # models that share processes
Result = dict[str, Any]


def main() -> None:
    """Measure, write."""
    options = parse_arguments()
    names = options.models or [name for name, expected in TABLE.items() if options.slow or not expected.slow]
    results: dict[str, Result] = {}
    start = time.monotonic()
    for group in list_groups(names):
        print(f"{time.monotonic() - start:4.0f} s: {', '.join(group)}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="beforehand-models-") as folder:
            os.environ["BEFOREHAND_CACHE"] = str(pathlib.Path(folder, "cache"))
            found = run_models(group, pathlib.Path(folder), options)
        results.update((name, hide_folder(result, folder)) for name, result in found.items())
    ordered = {name: results[name] for name in TABLE if name in results}
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(ordered))
    text = format_models(ordered, TABLE, time.monotonic() - start)
    print(text)
    if options.output:
        write_section(pathlib.Path(options.output), "models", text)
    sys.exit(any("failed" in result for result in results.values()))


def hide_folder(result: Result, folder: str) -> Result:
    """A failure without the path where the model lay for a minute."""
    return {**result, "failed": result["failed"].replace(f"{folder}/", "")} if "failed" in result else result


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=TABLE, metavar="NAME", help=", ".join(TABLE))
    parser.add_argument("--slow", action="store_true", help="also the models whose tests are marked slow")
    parser.add_argument("--rounds", nargs=2, type=int, default=[15, 60], help="fewest and most rounds (default 15 60)")
    parser.add_argument(
        "--seconds", type=float, default=2, help="about how long to repeat what is undecided (default 2)"
    )
    parser.add_argument("--json", help="a file for every single measurement")
    parser.add_argument("--output", default=str(HERE / "RESULTS.md"), help="file of the section; '' for none")
    return parser.parse_args()


def list_groups(names: Sequence[str]) -> Iterator[list[str]]:
    """Large models alone, the others by the dozen."""
    yield from ([name] for name in names if TABLE[name].alone)
    small = [name for name in names if not TABLE[name].alone]
    yield from (small[start : start + TOGETHER] for start in range(0, len(small), TOGETHER))


def run_models(names: Sequence[str], folder: pathlib.Path, options: argparse.Namespace) -> dict[str, Result]:
    """What was measured of each model, or {"failed": text}."""
    results, made = make_each(names, folder)
    jobs = {
        name: life_cycle.describe_conversion(
            model, folder / "converted" / name, TABLE[name].built, api="own", **TABLE[name].options
        )
        for name, model in made.items()
    }
    converted = run_each("convert_model.py", jobs)
    good = [name for name in made if "failed" not in converted[name]]
    jobs = {
        name: life_cycle.describe_check(
            made[name],
            folder / "converted" / name,
            TABLE[name].built,
            {},
            rtol=TABLE[name].rtol,
            atol=TABLE[name].atol,
            rounds=options.rounds,
            seconds=options.seconds,
        )
        for name in good
    }
    timed = run_each(str(HERE / "time_models.py"), jobs, BEFOREHAND_FORBID_BUILD="1")
    return {**results, **{name: {**converted[name], **timed.get(name, {})} for name in made}}


def make_each(names: Sequence[str], folder: pathlib.Path) -> tuple[dict[str, Result], dict[str, life_cycle.MadeModel]]:
    """The models that could not be made, and those that could: together at first, one by one if that fails."""
    try:
        return {}, life_cycle.make_models(names, folder)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        if len(names) == 1:
            last = str(error).strip().splitlines()[-1]  # of the maker's traceback
            return {names[0]: {"failed": f"it cannot be made: {last}"}}, {}
    failed, made = {}, {}
    for name in names:
        (folder / name / "alone").mkdir(parents=True)
        more_failed, more_made = make_each([name], folder / name / "alone")
        failed.update(more_failed)
        made.update(more_made)
    return failed, made


def run_each(script: str, jobs: Mapping[str, Result], **environment: str) -> dict[str, Result]:
    """The result of each job, in one process; in one each if that takes too long."""
    if not jobs:
        return {}
    try:
        results = life_cycle.run_jobs(script, list(jobs.values()), **environment)
    except subprocess.TimeoutExpired as error:
        if len(jobs) == 1:
            return {name: {"failed": f"{script} took longer than {error.timeout:.0f} s"} for name in jobs}
        return {name: run_each(script, {name: job}, **environment)[name] for name, job in jobs.items()}
    return dict(zip(jobs, results, strict=True))


if __name__ == "__main__":
    main()
