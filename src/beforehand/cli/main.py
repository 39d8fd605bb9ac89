"""The command `beforehand`: finds the verb, runs it, and tells a user's error (a message) from a bug (a traceback)."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import platform
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from beforehand.errors import BeforehandError
from beforehand.options import check_names

# verb: its module, which has `add_arguments(parser)` and `run(arguments) -> exit code`; its docstring is the help.
VERBS = {
    "convert": "beforehand.cli.convert",
    "plan": "beforehand.cli.plan",
    "explain": "beforehand.cli.explain",
    "inspect": "beforehand.cli.inspect",
    "report": "beforehand.cli.report",
    "verify": "beforehand.cli.verify",
    "bench": "beforehand.cli.bench",
    "add-target": "beforehand.cli.add_target",
    "slim": "beforehand.cli.slim",
    "cache": "beforehand.cli.cache",
    "doctor": "beforehand.cli.doctor",
    "demo": "beforehand.cli.demo",
}

EXIT_USER_ERROR = 2
EXIT_BUG = 70  # EX_SOFTWARE; 1 is a verb's own "no"
EXIT_INTERRUPTED = 130

_EPILOG = """\
exit codes: 0 all is well; 1 the verb's own "no" (inspect, cache verify: a file is missing or altered; doctor: not usable here;
plan: not all fits the budget; explain: nothing would run in an engine; verify: an output is off, or no engine ran;
convert: saved without engines that could not be built;
bench: slower than TensorFlow; demo: wrong answers); 2 an error of usage or input; 70 a bug in beforehand; 130 interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command line `argv` (default: this process's)."""
    # TensorFlow's C++ code logs INFO and WARNING lines that no user of a command needs. Must stand before its import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run_verb(given)
    except BeforehandError as error:
        print(f"beforehand: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except SystemExit as error:  # argparse ends so: 0 after help, 2 after a wrong command line
        return error.code if isinstance(error.code, int) else 0
    except KeyboardInterrupt:
        print("beforehand: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `beforehand inspect DIR | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # noqa: BLE001 (whatever it is, it is ours, and is told as such)
        traceback.print_exc()
        print(_describe_bug(given), file=sys.stderr)
        return EXIT_BUG


def _run_verb(given: list[str]) -> int:
    parser, verbs = _make_parser()
    arguments, extra = parser.parse_known_args(given)
    if extra:
        _refuse_extra(extra, verbs[arguments.verb])
    return int(importlib.import_module(VERBS[arguments.verb]).run(arguments))


def _make_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="beforehand",
        description="Builds the inference engines of a TensorFlow SavedModel before runtime.",
        epilog=_EPILOG,
        formatter_class=form,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"beforehand {find_version()}")
    table = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs: dict[str, argparse.ArgumentParser] = {}
    for name, path in VERBS.items():
        module = importlib.import_module(path)
        text = (module.__doc__ or "").strip()
        verbs[name] = table.add_parser(
            name, help=text.partition("\n")[0], description=text, formatter_class=form, allow_abbrev=False
        )
        module.add_arguments(verbs[name])
    return parser, verbs


def _refuse_extra(extra: list[str], verb: argparse.ArgumentParser) -> None:
    """Say which option was meant; argparse alone would not.

    Raises:
        UnknownOptionError: BH101.
    """
    given = [text.partition("=")[0] for text in extra if text.startswith("-")]
    check_names(given, list_options(verb))
    verb.error("too many arguments: " + " ".join(extra))


def list_options(parser: argparse.ArgumentParser) -> list[str]:
    """The option strings that a verb's parser knows, those of verbs of its own included."""
    actions: list[Any] = parser._actions
    inner = [sub for action in actions if isinstance(action.choices, dict) for sub in action.choices.values()]
    own = [text for action in actions for text in action.option_strings]
    return list(dict.fromkeys([*own, *(text for sub in inner for text in list_options(sub))]))


def find_version() -> str:
    """The version installed; `(not installed)` where it runs from its source folder alone."""
    try:
        return importlib.metadata.version("beforehand")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _describe_bug(given: list[str]) -> str:
    return (
        "\nThis is a bug in beforehand, not in your model or command. Please report it to its developers,\n"
        "with the traceback above, the output of `beforehand doctor --json`, and the command that repeats it:\n"
        f"  beforehand {shlex.join(given)}\n"
        f"beforehand {find_version()}, Python {platform.python_version()}, {platform.platform()}"
    )
