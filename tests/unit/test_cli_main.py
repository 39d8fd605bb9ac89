"""The command itself: help of each verb, wrong options, exit codes, and who gets a traceback."""

from __future__ import annotations

import importlib
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from beforehand.cli import main as command
from beforehand.cli.main import VERBS, main


def make_verb(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """`inspect` that raises `error`."""

    def run(arguments: Any) -> int:
        raise error

    monkeypatch.setattr(importlib.import_module(VERBS["inspect"]), "run", run)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_is_the_docstring_of_its_module(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    docstring = importlib.import_module(VERBS[verb]).__doc__
    assert docstring
    assert docstring.strip() in shown


def test_the_help_lists_every_verb_with_its_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for verb, path in VERBS.items():
        docstring = importlib.import_module(path).__doc__ or ""
        assert f"{verb} {docstring.partition(chr(10))[0]}" in shown


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("beforehand ")


@pytest.mark.parametrize("argv", [[], ["fly"], ["inspect"], ["convert"], ["inspect", "a", "b"]])
def test_a_wrong_command_line_gives_exit_code_2_and_the_usage(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    told = capsys.readouterr().err
    assert told.startswith("usage: beforehand")
    assert "Traceback" not in told


def test_convert_needs_a_folder_to_write_unless_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "a"]) == 2
    assert "BH102 -o OUT is missing. Try: a folder to write, or --dry-run." in capsys.readouterr().err


def test_an_unknown_option_names_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "a", "-o", "b", "--presicion=FP16"]) == 2
    assert "BH101 there is no option `--presicion`. Try: did you mean `--precision`?" in capsys.readouterr().err


def test_options_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "a", "--js"]) == 2
    assert "there is no option `--js`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--shapes", "x=1xx3"], "BH102 --shapes is 'x=1xx3'"),
        (["--samples", "/nowhere.npz"], "BH122 there is no sample file or folder /nowhere.npz"),
        (["--precision", "FP7"], "BH102 precision_mode is 'FP7'"),
        (["--precision", "tf32"], "BH103 precision_mode TF32 is not available"),
        (["--backend", "abacus"], "BH701 there is no backend 'abacus'"),
        (["--minimum-segment-size", "0"], "BH102 minimum_segment_size is 0"),
        (["--progress", "loud"], "BH102 progress is 'loud'"),
        (["--workers", "0"], "BH102 workers is 0"),
        (["--timeout", "soon"], "BH102 --timeout is 'soon'. Try: a time such as 90s"),
        (["--max-memory", "8GG"], "BH102 --max-memory is '8GG'. Try: a size such as 500MB"),
        (["--max-memory", "0"], "BH102 max_build_memory_bytes is 0"),
        (["--on-failure", "cry"], "BH102 on_build_failure is 'cry'"),
        (["--executor", "cloud"], "BH102 executor is 'cloud'"),
        ([], "BH201 there is no SavedModel in "),
    ],
)
def test_what_can_be_refused_without_tensorflow_is_refused_before_it_is_imported(
    argv: list[str], words: str, tmp_path: pathlib.Path
) -> None:
    code = (
        "import sys; from beforehand.cli.main import main; code = main(sys.argv[1:]); "
        "assert 'tensorflow' not in sys.modules; sys.exit(code)"
    )
    command_line = [sys.executable, "-c", code, "convert", str(tmp_path), "-o", str(tmp_path / "out"), *argv]
    done = subprocess.run(command_line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_gives_a_traceback_the_command_and_where_to_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_verb(monkeypatch, ZeroDivisionError("a bug"))
    assert main(["inspect", "a folder"]) == command.EXIT_BUG
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "ZeroDivisionError: a bug" in told
    assert "Please report it" in told
    assert "beforehand inspect 'a folder'" in told


def test_an_interrupted_command_gives_exit_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_verb(monkeypatch, KeyboardInterrupt())
    assert main(["inspect", "a"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_every_module_of_the_command_imports_without_tensorflow() -> None:
    code = f"import importlib, sys; [importlib.import_module(path) for path in {list(VERBS.values())}]; "
    subprocess.run([sys.executable, "-c", code + "assert 'tensorflow' not in sys.modules"], check=True)
