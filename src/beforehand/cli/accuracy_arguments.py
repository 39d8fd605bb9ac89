"""The options of verbs that convert which say how accurate engines must be."""

from __future__ import annotations

import argparse
from typing import Any

from beforehand.options import ON_INACCURATE, Options


def add_accuracy_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them; docs/accuracy.md says what each is measured by."""
    default = Options()
    add = parser.add_argument_group("how accurate and how fast engines must be").add_argument
    add(
        "--max-error", metavar="X", type=float, default=default.max_error,
        help="most that an output may differ from TensorFlow's, by its largest magnitude (default: 0.1 for FP32, else none)",
    )  # fmt: skip
    add(
        "--on-inaccurate", metavar="WHAT", default=default.on_inaccurate,
        help=f"what becomes of an engine beyond that, if nothing helps: {' or '.join(ON_INACCURATE)} (default: %(default)s)",
    )  # fmt: skip
    add(
        "--compare-samples", metavar="N", type=int, default=default.compare_samples,
        help="samples of each set of shapes that engines are compared on; 0 compares nothing (default: %(default)s)",
    )  # fmt: skip
    add(
        "--max-rebuilds", metavar="N", type=int, default=default.max_rebuilds,
        help="how often an engine beyond that is built again, with parts in a higher precision (default: %(default)s)",
    )  # fmt: skip
    add(
        "--min-speedup", metavar="X", type=float,
        help="how many times as fast as TensorFlow an engine must be, or TensorFlow answers; 0 times nothing "
        f"(default: {default.min_speedup})",
    )  # fmt: skip


def read_accuracy_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given, under the names of `beforehand.options.Options`, which checks the values."""
    return {
        "max_error": arguments.max_error,
        "on_inaccurate": arguments.on_inaccurate,
        "compare_samples": arguments.compare_samples,
        "max_rebuilds": arguments.max_rebuilds,
        **({} if arguments.min_speedup is None else {"min_speedup": arguments.min_speedup}),
    }
