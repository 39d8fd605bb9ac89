"""The options of verbs that build engines: how they are built, and how that is shown."""

from __future__ import annotations

import argparse
from typing import Any

from beforehand.options import EXECUTORS, ON_BUILD_FAILURE, PROGRESS, Options
from beforehand.progress.choose import choose_progress
from beforehand.store.parse_size import parse_bytes, parse_seconds


def add_build_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them; none of them changes an engine."""
    default = Options()
    add = parser.add_argument_group("how engines are built").add_argument
    add(
        "--progress", metavar="HOW", default=default.progress,
        help=f"how builds are shown, on stderr: {_list(PROGRESS)} (default: live on a terminal, else plain lines)",
    )  # fmt: skip
    add(
        "--workers", metavar="N", type=int, default=default.workers,
        help="most engines built at once; memory may allow fewer (default: %(default)s)",
    )  # fmt: skip
    add("--timeout", metavar="TIME", help="deadline of one engine's build: 90, 20min, 1.5h (default: none)")
    add(
        "--max-memory", metavar="SIZE",
        help="cap of one build's memory: 8GB, 500MB (default: what is free when it starts)",
    )  # fmt: skip
    add(
        "--on-failure", metavar="WHAT", default=default.on_build_failure,
        help=f"after an engine that could not be built: {_list(ON_BUILD_FAILURE)} (default: %(default)s)",
    )  # fmt: skip
    add(
        "--executor", metavar="WHERE", default=default.executor,
        help=f"where engines are built: {_list(EXECUTORS)} (default: %(default)s)",
    )  # fmt: skip


def read_build_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given, under the names of `beforehand.options.Options`, which checks the values.

    Raises:
        OptionValueError: BH102, no time, no size, or a wrong BEFOREHAND_PROGRESS: found before long work begins.
    """
    options: dict[str, Any] = {
        "progress": arguments.progress,
        "workers": arguments.workers,
        "on_build_failure": arguments.on_failure,
        "executor": arguments.executor,
    }
    if arguments.timeout is not None:
        options["timeout_s"] = parse_seconds(arguments.timeout, "--timeout")
    if arguments.max_memory is not None:
        options["max_build_memory_bytes"] = parse_bytes(arguments.max_memory, "--max-memory")
    choose_progress(arguments.progress)
    return options


def _list(values: tuple[str, ...]) -> str:
    return ", ".join(values[:-1]) + " or " + values[-1]
