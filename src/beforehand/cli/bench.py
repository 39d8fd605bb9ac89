"""Time a converted SavedModel beside TensorFlow's own ways to run it, and what a cold start costs with and without build().

Ways, each in a process of its own, called in random turns: native (the signature as TensorFlow loads it), frozen (its variables as
constants), xla (jit_compile), converted (a plain tf.saved_model.load), standalone (beforehand.load, without TensorFlow). Then new processes:
never converted, converted and not built, converted and built, without TensorFlow. Nothing is built.

  beforehand bench resnet50_engines --against resnet50
  beforehand bench resnet50_engines --against resnet50 --callers 1 --callers 8 --processes 10 --json bench.json --keep
  beforehand bench resnet50_engines --way native --way converted --processes 0

--against: the SavedModel that was converted; frozen and xla need it, and without it native is the converted model without its engines.
--samples: a .npz file, a folder of them, or a Python script, as for `beforehand verify`; one of each set of shapes is called with. Without
them inputs are drawn at random at the shapes of the engines, or at those of --shapes.

Exit code 0, also where a way could not run (its row says why) or nothing could be told; 1: the converted model is slower than TensorFlow at
some shapes; 2: an error.
"""

from __future__ import annotations

import argparse
import json
import pathlib

from beforehand.benchmark.bench_model import Settings, bench
from beforehand.benchmark.open_way import CONVERTED, WAYS
from beforehand.cli.format_bench import format_bench
from beforehand.cli.parse_shapes import parse_shapes
from beforehand.errors import OptionValueError
from beforehand.store import atomic
from beforehand.store.manifest import find_manifest, read_manifest

_SLOWER = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `beforehand bench`."""
    add, default = parser.add_argument, Settings()
    add("folder", metavar="CONVERTED", type=pathlib.Path, help="folder of a converted SavedModel")
    add("--against", metavar="SRC", type=pathlib.Path, help="the SavedModel that it was converted from")
    add("--samples", metavar="FILE.npz|FOLDER|SCRIPT.py", type=pathlib.Path, help="inputs (default: drawn at random)")
    add("--shapes", action="append", default=[], help="shapes to call at, x=1x224x224x3; repeatable")
    add("--signature", metavar="KEY", help="which signature (default: the default one)")
    add("--way", choices=WAYS, action="append", help="which ways; repeatable (default: all)")
    add(
        "--callers",
        metavar="N",
        type=int,
        action="append",
        help="threads that call at once; repeatable (default: 1, 4)",
    )
    add("--rounds", metavar="N", type=int, nargs=2, default=default.rounds, help="fewest and most (default: 7 30)")
    add("--seconds", type=float, default=default.seconds, help="about how long each row may take (default: 20)")
    add(
        "--processes", metavar="N", type=int, default=default.processes, help="of each cold start (default: 5; 0: none)"
    )
    add(
        "--timeout",
        metavar="S",
        type=float,
        default=default.timeout_s,
        help="of one answer of a process (default: 600)",
    )
    add("--json", metavar="FILE", type=pathlib.Path, help="also write JSON")
    add("--keep", action="store_true", help="also write it beside the engines, for `beforehand report`")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 0, 1 where the converted model is slower, or an error of beforehand."""
    if arguments.samples is not None and arguments.shapes:
        raise OptionValueError("--samples and --shapes are both given", advice="one of them")
    settings = Settings(  # refuses what cannot be
        ways=tuple(arguments.way or WAYS), callers=tuple(arguments.callers or Settings.callers),
        rounds=(arguments.rounds[0], arguments.rounds[1]), seconds=arguments.seconds, processes=arguments.processes,
        timeout_s=arguments.timeout,
    )  # fmt: skip
    signature, shapes = arguments.signature, None
    if arguments.shapes:
        sets = parse_shapes(arguments.shapes, read_manifest(find_manifest(arguments.folder)).signatures)
        signature = signature if signature in sets else next(iter(sets))
        shapes = sets[signature]
    found = bench(
        arguments.folder, against=arguments.against, samples=arguments.samples, shapes=shapes, signature=signature,
        **vars(settings), keep=arguments.keep,
    )  # fmt: skip
    if arguments.json is not None:
        atomic.write_bytes(arguments.json, json.dumps(found.to_dict(), indent=1).encode())
    print("\n".join(format_bench(found)))
    is_slower = any(
        row.way == CONVERTED and row.speedup is not None and row.speedup.verdict == "slower" for row in found.rows
    )
    return _SLOWER if is_slower and found.steady.ok else 0
