"""Say what of a SavedModel would run in engines, what would not and why, and what would bring more in. Nothing is built.

The model is read and translated as `beforehand convert` does it, and each backend's own parser is asked: so the nodes listed
are those that a build leaves in TensorFlow. No device is needed. Of a converted SavedModel it is told what the conversion found.

  beforehand explain resnet50
  beforehand explain bert --backend tensorrt-rtx --signature serving_default
  beforehand explain detector --json

Shares are of floating-point operations, where unknown dimensions count as 1 and a loop as one iteration.
Exit code 1: nothing of the model would run in an engine.
"""

from __future__ import annotations

import argparse
import json
import pathlib

from beforehand.cli.format_explanation import format_explanation
from beforehand.cli.progress import show_progress, time_step
from beforehand.explanation.explain import explain
from beforehand.options import Options
from beforehand.progress.choose import choose_progress

_NOTHING = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `beforehand explain`."""
    default = Options()
    add = parser.add_argument
    add("source", metavar="SRC", type=pathlib.Path, help="folder of a SavedModel; it is only read")
    add("--json", action="store_true", help="as JSON, in a form that is fixed by its version")
    add("--all", action="store_true", help="every layer and every node, however many")
    add("--backend", action="append", help="a backend to ask; repeatable (default: all that are usable here)")
    add("--signature", metavar="KEY", action="append", help="a signature to explain; repeatable (default: all)")
    add("--tags", default="serve", help="tags of the MetaGraph, joined by commas (default: %(default)s)")
    add(
        "--minimum-segment-size", metavar="N", type=int, default=default.minimum_segment_size,
        help="segments with fewer nodes stay native (default: %(default)s)",
    )  # fmt: skip
    add("--progress", default=default.progress, help="auto, plain, json, log or off: what is told on stderr")


def run(arguments: argparse.Namespace) -> int:
    """Explain and print; 0, 1 if nothing would run in an engine, or an error of beforehand."""
    with show_progress(choose_progress(arguments.progress)), time_step(f"explaining {arguments.source}"):
        explanation = explain(
            arguments.source,
            backends=arguments.backend,
            tags=[tag.strip() for tag in arguments.tags.split(",")],
            signatures=arguments.signature,
            minimum_segment_size=arguments.minimum_segment_size,
        )
    if arguments.json:
        print(json.dumps(explanation.to_dict(), indent=1))
    else:
        print("\n".join(format_explanation(explanation, is_all=arguments.all)))
    found = any(graph.segments for item in explanation.backends for graph in item.graphs)
    return 0 if found else _NOTHING
