"""Build the engines of a converted SavedModel for this machine too, into the same SavedModel.

Every segment and shape set for which it has an engine of any target gets one for this CPU and this version of the backend.
The others stay: each machine takes its own when it loads the model. Repeated, it builds what is missing or altered, and no
more. Neither the original model nor TensorFlow is needed.

  beforehand add-target resnet50_engines
  beforehand add-target resnet50_engines --target cpu-x86_64+avx2
  beforehand add-target resnet50_engines --backend tensorrt-rtx

--backend tensorrt-rtx: engines for NVIDIA GPUs, built here whether or not there is one; each machine runs its own.
--target: a CPU with fewer instruction sets than this one. What cannot be built here is refused, with what can.
"""

from __future__ import annotations

import argparse
import pathlib

from beforehand.build_engines.build_plan import make_plan
from beforehand.cli.build_arguments import add_build_arguments, read_build_options
from beforehand.cli.format_inspection import format_table
from beforehand.cli.format_plan import format_plan
from beforehand.cli.progress import format_bytes, show_progress
from beforehand.progress.choose import choose_progress
from beforehand.report.write_report import refresh_report
from beforehand.store.cache_folder import CacheFolder
from beforehand.targets import add_target, plan_target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `beforehand add-target`."""
    add = parser.add_argument
    add("folder", metavar="DIR", type=pathlib.Path, help="folder of a converted SavedModel")
    add("--target", default="", help="what to build for (default: this machine)")
    add("--backend", default="", help="who builds: openvino, tensorrt-rtx, tensorrt (default: the conversion's)")
    add("--dry-run", action="store_true", help="build nothing: print what would be built")
    add_build_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Build and print what was built; 0, or an error of beforehand."""
    options = read_build_options(arguments)
    if arguments.dry_run:
        _, specs = plan_target(arguments.folder, arguments.target, arguments.backend)
        print("\n".join(format_plan(make_plan(specs, CacheFolder(), arguments.workers))))
        return 0
    with show_progress(choose_progress(arguments.progress)):
        engines = add_target(arguments.folder, arguments.target, backend=arguments.backend, **options)
    if not engines:
        print(f"{arguments.folder} has all engines for {arguments.target or 'this machine'}: nothing was built")
        return 0
    refresh_report(arguments.folder)
    rows = [
        (engine.segment, engine.shapes.describe(), engine.backend, engine.backend_version, engine.target,
         format_bytes(engine.bytes), f"built in {engine.build_seconds:.1f} s")
        for engine in engines
    ]  # fmt: skip
    print(
        "\n".join(
            [f"{len(engines)} engines added to {arguments.folder}", *(f"  {line}" for line in format_table(rows))]
        )
    )
    return 0
