"""Show which engines a build would make, before its first second: which are in the cache, how long the rest takes.

Nothing is built, and nothing is written. Times and memory are those of past builds on this machine; of what was never
built here, nothing is claimed.

  beforehand plan resnet50 --shapes x=1x224x224x3 --shapes x=8x224x224x3
  beforehand plan resnet50 --shapes x=1..8x224x224x3 --budget 20min
  beforehand plan resnet50 --samples samples/ --target cpu-x86_64+avx2 --target cpu-x86_64+avx512_core --json

--shapes, --samples, --batch-range, --buckets: as for `beforehand convert`.
--budget: also what of it is done within this time; the exit code is 1 if not all is.
--target: repeatable; by default this machine.
"""

from __future__ import annotations

import argparse
import json
import pathlib

from beforehand.cli.convert import add_conversion_arguments, list_wanted, plan_wanted, start_conversion
from beforehand.cli.format_plan import format_budget, format_plan
from beforehand.cli.progress import show_progress
from beforehand.errors import NoSamplesError
from beforehand.progress.choose import choose_progress
from beforehand.store.parse_size import parse_seconds

_OVER_BUDGET = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `beforehand plan`."""
    add = parser.add_argument
    add("source", metavar="SRC", type=pathlib.Path, help="folder of the SavedModel to convert; it is only read")
    add_conversion_arguments(parser)
    add("--target", action="append", default=[], help="what to plan for; repeatable (default: this machine)")
    add("--budget", metavar="20min", help="what of it is done within this time; 1 if not all is")
    add("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Convert in a temporary folder, plan, print; 0, 1 if not all fits the budget, or an error of beforehand."""
    budget = parse_seconds(arguments.budget, "--budget") if arguments.budget else None
    if not arguments.shapes and arguments.samples is None:
        raise NoSamplesError("neither --shapes nor --samples is given", advice="--shapes x=1x224x224x3")
    with show_progress(choose_progress(arguments.progress)):
        converter = start_conversion(arguments, "", None)
        plan = plan_wanted(converter, list_wanted(converter, arguments), arguments.target)
    fits = budget is None or len(plan.fit(budget)) == len(plan.engines)
    if arguments.json:
        data = plan.to_dict()
        if budget is not None:
            data |= {"budget_s": budget, "fitting": len(plan.fit(budget))}
        print(json.dumps(data, indent=1))
    else:
        print("\n".join([*format_plan(plan), *(format_budget(plan, budget) if budget is not None else [])]))
    return 0 if fits else _OVER_BUDGET
