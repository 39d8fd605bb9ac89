"""How engines are built, at the command line: times, sizes, and the options that they become."""

from __future__ import annotations

import argparse
import json
import logging
import re
from typing import Any

import pytest

from beforehand.cli.build_arguments import add_build_arguments, read_build_options
from beforehand.cli.progress import log, show_progress
from beforehand.errors import OptionValueError
from beforehand.options import Options, make_options


def read(*argv: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_build_arguments(parser)
    return read_build_options(parser.parse_args(argv))


@pytest.mark.parametrize(
    ("option", "advice"), [("--timeout", "a time such as 90s, 20min"), ("--max-memory", "a size such as 500MB")]
)
@pytest.mark.parametrize("text", ["", "min", "1e3", "nan", "inf", "5 minutes", "1,5h", "8GB8"])
def test_what_is_no_time_or_size_is_refused_by_name_with_examples(option: str, advice: str, text: str) -> None:
    with pytest.raises(OptionValueError, match=re.escape(f"BH102 {option} is {text!r}. Try: {advice}")):
        read(option, text)


def test_nothing_given_is_the_options_defaults() -> None:
    assert make_options(read()) == Options()


def test_what_is_given_reaches_the_options() -> None:
    argv = [
        "--progress=log",
        "--workers=3",
        "--timeout=2min",
        "--max-memory=1GB",
        "--on-failure=retry",
        "--executor=ray",
    ]
    assert make_options(read(*argv)) == Options(
        progress="log", workers=3, timeout_s=120, max_build_memory_bytes=10**9, on_build_failure="retry", executor="ray"
    )


def test_a_wrong_environment_is_refused_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEFOREHAND_PROGRESS", "loud")
    with pytest.raises(OptionValueError, match="BEFOREHAND_PROGRESS is 'loud'"):
        read()


@pytest.mark.parametrize(
    ("progress", "shown"),
    [("auto", ["beforehand: a step", "beforehand: WARNING: a doubt"]), ("off", ["beforehand: WARNING: a doubt"])],
)
def test_the_log_of_a_command_is_shown_as_progress_is(
    progress: str, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with show_progress(progress):
        log.info("a step")
        log.warning("a doubt")
    log.warning("after it")
    assert capsys.readouterr().err.splitlines() == shown


def test_the_log_of_a_command_is_json_where_its_events_are(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("json"):
        log.info("a %s", "step")
    line = json.loads(capsys.readouterr().err)
    assert line.pop("time") > 1e9
    assert line == {"kind": "log", "level": "INFO", "message": "a step"}
    assert logging.getLogger("beforehand").handlers == []
