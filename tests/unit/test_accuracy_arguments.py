"""How accurate engines must be, at the command line."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from beforehand.cli.accuracy_arguments import add_accuracy_arguments, read_accuracy_options
from beforehand.errors import OptionValueError
from beforehand.options import Options, make_options


def read(*argv: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_accuracy_arguments(parser)
    return read_accuracy_options(parser.parse_args(argv))


def test_nothing_given_is_the_options_defaults() -> None:
    assert make_options(read()) == Options()


def test_what_is_given_reaches_the_options() -> None:
    argv = ["--max-error", "0.01", "--on-inaccurate", "error", "--compare-samples", "5", "--max-rebuilds", "7"]
    found = make_options(read(*argv))
    assert found == Options(max_error=0.01, on_inaccurate="error", compare_samples=5, max_rebuilds=7)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--max-error", "0"], "max_error is 0.0"),
        (["--max-error", "nan"], "max_error is nan"),
        (["--on-inaccurate", "cry"], "on_inaccurate is 'cry'"),
        (["--compare-samples", "-1"], "compare_samples is -1"),
        (["--max-rebuilds", "-1"], "max_rebuilds is -1"),
    ],
)
def test_what_the_options_cannot_have_is_refused(argv: list[str], told: str) -> None:
    with pytest.raises(OptionValueError, match=f"BH102 {told}"):
        make_options(read(*argv))
