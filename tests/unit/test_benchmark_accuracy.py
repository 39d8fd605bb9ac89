"""The table of accuracies, on made-up answers: points, verdicts, precisions that a machine has not, engines that did not run."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
REFUSED = {
    "refused": "BH103 precision_mode INT8 is not available with the backend openvino on cpu-x86_64+avx2.\nTry: FP32"
}


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])


def describe_result(right: int = 950, **more: Any) -> dict[str, Any]:
    return {
        "precision": "BF16", "segments": 2, "engines": 2, "bytes": 12345, "seconds": 1.0, "right": right, "native": 954,
        "of": 1000, "same": 990, "error": 0.25, "spread": 20.0, "cosine": 0.99987654, "calls": 10, "engine_calls": 20,
        "native_calls": 0, **more,
    }  # fmt: skip


def test_a_row_tells_right_answers_points_agreement_errors_and_the_verdict() -> None:
    from format_accuracy import HEAD, write_row

    row = dict(zip(HEAD, write_row("net", "FP16", describe_result()), strict=True))
    assert row == {
        "model": "net",
        "asked for": "FP16",
        "runs in": "BF16",
        "right, %": "95.00",
        "points": "-0.40",
        "alike": "99.00 %",
        "error": "2.5e-01 of 2.0e+01",
        "cosine": "0.999877",
        "engines": "12 kB",
        "verdict": "**missed**",
    }
    assert write_row("net", "FP16", describe_result(right=952))[-1] == "met"
    assert write_row("net", "FP16", describe_result(right=980))[-1] == "met"
    assert write_row("net", "INT8", describe_result())[-1] == "met"
    assert write_row("net", "another", describe_result())[-1] == ""
    search = {"parts": 44, "rebuilds": 22, "is_minimal": True}
    searched = write_row("net", "INT8, searched", describe_result(put_back=["block_1", "top"], search=search))
    told = "met; in a higher precision, 2 of 44 parts, none can be spared, after 22 rebuilds: block_1, top"
    assert searched[-1] == told
    search["is_minimal"] = False
    searched = write_row("net", "INT8, searched", describe_result(put_back=["top"], search=search))
    assert "1 of 44 parts, perhaps more than are needed, after" in searched[-1]


def test_a_precision_that_the_machine_has_not_is_told_once_and_is_no_row() -> None:
    from format_accuracy import format_accuracy

    found = {"BF16": describe_result(), "INT8": REFUSED}
    text = format_accuracy({"first": found, "second": found}, "openvino", 100)
    assert text.count("- INT8: BH103 precision_mode INT8 is not available") == 1
    assert "cpu-x86_64+avx2. Try: FP32" in text
    assert [line.count("|") for line in text.splitlines() if line.startswith("| ")] == [11] * 4
    assert "NVIDIA" not in text
    assert "\n- NVIDIA H100, driver 580\n" in format_accuracy(
        {"first": found}, "tensorrt-rtx", 100, "NVIDIA H100, driver 580"
    )
    assert "first 1000 (one is 0.100 points), second 1000 (one is 0.100 points)" in text


def test_a_failure_is_a_row_with_its_error() -> None:
    from format_accuracy import write_row

    text = 'Traceback (most recent call last):\n  File "a.py", line 1\n    x\nbeforehand.errors.BuildError: BH401 no | yes\n'
    row = write_row("net", "INT8", {"failed": text})
    assert row[:2] == ["net", "INT8"]
    assert row[-1] == "**failed**: BuildError: BH401 no / yes"


@pytest.mark.parametrize("more", [{"engine_calls": 19}, {"native_calls": 1}])
def test_calls_that_engines_did_not_answer_are_a_failure(more: dict[str, int]) -> None:
    from accuracy import check_engines_ran

    assert "failed" not in check_engines_ran(describe_result())
    assert "10 calls" in check_engines_ran(describe_result(**more))["failed"]


def test_the_command_refuses_what_it_does_not_know_and_says_what_there_is() -> None:
    command = [sys.executable, str(BENCHMARKS / "accuracy.py"), "--models", "net"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "trained_cnn" in done.stderr


def test_all_that_is_trained_in_the_tests_is_measured() -> None:
    from accuracy import MODELS

    text = "".join(file.read_text() for file in (BENCHMARKS.parent / "tests/models/makers").glob("trained_*.py"))
    assert sorted(MODELS) == sorted(
        line.removeprefix("def make_").partition("(")[0]
        for line in text.splitlines()
        if line.startswith("def make_trained_")
    )
