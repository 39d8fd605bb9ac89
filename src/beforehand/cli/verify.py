"""See that a converted SavedModel answers as TensorFlow does, and if it does not, which segment is the first to be off.

The reference is TensorFlow in float64, but for ops that it has in float32 alone. Every engine that runs here is compared: the outputs
of each signature, as a call gives them, and each segment by itself on the reference's own values.

  beforehand verify resnet50_engines
  beforehand verify resnet50_engines --against resnet50 --samples photos.npz
  beforehand verify resnet50_engines --samples draw.py --json found.json --keep

--against: the SavedModel that was converted; without it, the graph that the converted one holds.
--samples: a .npz file is one sample, a folder has several; a Python script defines `samples` or `input_fn`, as `build` takes them.
Without samples, inputs are drawn at random at the shapes of the engines, or at those of --shapes.

Exit code 0: engines ran, and all is within the tolerance of its precision; 1: something is not, or no engine ran; 2: an error.
"""

from __future__ import annotations

import argparse
import json
import pathlib

from beforehand.cli.format_verification import format_verification
from beforehand.cli.parse_shapes import parse_shapes
from beforehand.errors import OptionValueError
from beforehand.store import atomic
from beforehand.store.manifest import find_manifest, read_manifest
from beforehand.verification.verify_model import verify

_NOT_RIGHT = 1
STDOUT = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `beforehand verify`."""
    add = parser.add_argument
    add("folder", metavar="CONVERTED", type=pathlib.Path, help="folder of a converted SavedModel")
    add("--against", metavar="SRC", type=pathlib.Path, help="the SavedModel that it was converted from")
    add("--samples", metavar="FILE.npz|FOLDER|SCRIPT.py", type=pathlib.Path, help="inputs (default: drawn at random)")
    add("--shapes", action="append", default=[], help="shapes to draw inputs at, x=1x224x224x3; repeatable")
    add("--signature", metavar="KEY", action="append", help="which signature; repeatable (default: all)")
    add("--tolerance", type=float, help="what the largest error may be, by the output's largest magnitude")
    add("--max-samples", metavar="N", type=int, default=2, help="most samples of each shapes (default: %(default)s)")
    add("--json", metavar="FILE", nargs="?", const=STDOUT, help="write JSON, to a file or by itself to the output")
    add("--keep", action="store_true", help="also write it beside the engines, for `beforehand report`")


def run(arguments: argparse.Namespace) -> int:
    """Verify and print; 0, 1 where something is not right, or an error of beforehand."""
    if arguments.samples is not None and arguments.shapes:
        raise OptionValueError("--samples and --shapes are both given", advice="one of them")
    if arguments.max_samples < 1:
        raise OptionValueError(f"--max-samples is {arguments.max_samples}", advice="1 or more")
    signatures, shapes = arguments.signature, None
    if arguments.shapes:
        manifest = read_manifest(find_manifest(arguments.folder))
        sets = parse_shapes(arguments.shapes, manifest.signatures)
        signatures = [key for key in sets if not signatures or key in signatures][:1]
        shapes = sets[signatures[0]] if signatures else None
    found = verify(
        arguments.folder, against=arguments.against, samples=arguments.samples, shapes=shapes, signatures=signatures,
        tolerance=arguments.tolerance, max_samples=arguments.max_samples, keep=arguments.keep,
    )  # fmt: skip
    text = json.dumps(found.to_dict(), indent=1)
    if arguments.json == STDOUT:
        print(text)
    else:
        if arguments.json is not None:
            atomic.write_bytes(pathlib.Path(arguments.json), text.encode())
        print("\n".join(format_verification(found)))
    return 0 if found.ok else _NOT_RIGHT
