"""Show what a converted SavedModel holds, and check its engine files.

Lists signatures, segments (also those without an engine), engines with their shapes, backend, precision, target, file,
bytes and SHA-256, and the nodes that stay in TensorFlow, by reason. Each engine file is read and its hash compared with
the manifest's. TensorFlow is not needed.

Exit code 0: all is there and unaltered; 1: a file is missing or altered; 2: DIR is no converted SavedModel.
"""

from __future__ import annotations

import argparse
import json
import pathlib

from beforehand.cli.collect_inspection import collect_inspection, is_whole
from beforehand.cli.format_inspection import format_inspection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `beforehand inspect`."""
    parser.add_argument("folder", metavar="DIR", type=pathlib.Path, help="folder of a converted SavedModel")
    parser.add_argument("--json", action="store_true", help="write JSON, in a form that is fixed by its format_version")


def run(arguments: argparse.Namespace) -> int:
    """Print it; 0 if everything is there and unaltered, else 1.

    Raises:
        SourceNotFoundError: BH201, there is no SavedModel. ManifestError: BH502, it was not converted, or not readable.
    """
    found = collect_inspection(arguments.folder)
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(format_inspection(found, arguments.folder)))
    return 0 if is_whole(found) else 1
