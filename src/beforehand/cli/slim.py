"""Take engines out of a converted SavedModel, for instance those of other machines.

By default the engines that fit this machine stay. saved_model.pb and the weights are not touched: where an engine is
missing, TensorFlow answers.

  beforehand slim resnet50_engines
  beforehand slim resnet50_engines --keep-target cpu-x86_64+avx2 --keep-target cpu-x86_64+avx512
  beforehand slim resnet50_engines --no-engines
"""

from __future__ import annotations

import argparse
import pathlib

from beforehand.cli.progress import format_bytes
from beforehand.report.write_report import refresh_report
from beforehand.targets import slim


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `beforehand slim`."""
    add = parser.add_argument
    add("folder", metavar="DIR", type=pathlib.Path, help="folder of a converted SavedModel")
    add("--keep-target", metavar="TARGET", action="append", help="a target whose engines stay; repeatable")
    add("--no-engines", action="store_true", help="take out all engines: the model then runs natively, in TensorFlow")
    add("--no-sources", action="store_true", help="take out what engines are built of: none can be added then")


def run(arguments: argparse.Namespace) -> int:
    """Print what was taken out; 0, or an error of beforehand."""
    found = slim(
        arguments.folder, arguments.keep_target, engines=not arguments.no_engines, sources=not arguments.no_sources
    )
    refresh_report(arguments.folder)
    print(
        "\n".join(
            [
                *(f"removed  {name}" for name in found.files),
                f"{len(found.files)} files removed, {format_bytes(found.bytes)} freed",
            ]
        )
    )
    return 0
