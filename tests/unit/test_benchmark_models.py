"""The table of models: every model of the tests' tables once, failures as rows, verdicts, what stays native."""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), str(ROOT / "tests" / "models"), *before])


def describe_result(**more: Any) -> dict[str, Any]:
    """Of a model with two segments of one signature, each with an engine for two shape sets."""
    names = ("TRTEngineOp_000_000", "TRTEngineOp_000_001")
    return {
        "segments": [{"name": name, "signature": "serving_default", "nodes": 5, "share": 0.45} for name in names],
        "engines": [{"segment": name} for name in names for _ in range(2)],
        "left_out": [["serving_default", {"reason": "op denied"}]] * 2 + [["serving_default", {"reason": "a | b"}]],
        "error": 1.5e-6,
        "size": 3.0,
        "outside": [],
        "engine_calls": 4,
        "native_calls": 0,
        "times": {"TensorFlow": [4.0] * 9, "beforehand": [2.0] * 9},
        **more,
    }


def describe_expected(native: str = "") -> Any:
    from expectations import KEY, Expectation

    # The first shape set twice, as lists and as tuples: it is one.
    built = [{"x": [1, 8]}, {"x": (1, 8)}, {"x": [2, 8]}]
    return Expectation(built={KEY: built}, unseen={}, native=native)


def test_a_row_tells_engines_for_each_shape_set_work_error_speed_and_what_stays_native() -> None:
    from format_models import HEAD, write_row

    row = dict(zip(HEAD, write_row("net", describe_result(), describe_expected("strings")), strict=True))
    assert row == {
        "model": "net",
        "segments": "2",
        "engines": "2",
        "work": "90.0 %",
        "error": "1.5e-06 of 3.0e+00",
        "TensorFlow ms": "4.00",
        "converted ms": "2.00",
        "speed-up": "2.00 [2.00, 2.00]",
        "native": "strings; op denied: 2, a / b: 1",
    }


@pytest.mark.parametrize(
    ("times", "verdict"),
    [([2.0] * 9, "faster"), ([8.0] * 9, "slower"), ([2.0, 8.0] * 8, "inconclusive"), ([2.0] * 4, "inconclusive")],
)
def test_a_speed_up_is_inconclusive_where_its_interval_holds_one(times: list[float], verdict: str) -> None:
    from format_models import find_speed_up, judge, write_row

    result = describe_result(times={"TensorFlow": [4.0] * len(times), "beforehand": times})
    assert judge(find_speed_up(result)) == verdict
    assert write_row("net", result, describe_expected())[-2].endswith("inconclusive") == (verdict == "inconclusive")


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (
            {
                "failed": 'Traceback (most recent call last):\n  File "a.py", line 1\n    f()\nValueError: one\n\nDuring:\n'
                'Traceback (most recent call last):\n  File "b.py", line 2\n    g()\n    ^^^\nBH301 two\n  more of it'
            },
            "BH301 two",
        ),
        ({"failed": "convert_model.py ended by -9:\nmuch"}, "convert_model.py ended by -9:"),
        (describe_result(outside=["serving_default: y is outside"]), "serving_default: y is outside"),
        (describe_result(native_calls=3), "at built shapes 3 native and 4 engine calls"),
        (describe_result(engine_calls=0), "at built shapes 0 native and 0 engine calls"),
    ],
)
def test_a_failure_is_a_row_that_says_why_and_is_not_counted(result: dict[str, Any], told: str) -> None:
    from format_models import HEAD, format_models, write_row

    row = write_row("net", result, describe_expected())
    assert len(row) == len(HEAD)
    assert row[-1] == f"**failed**: {told}"
    table = {"net": describe_expected(), "good": describe_expected()}
    text = format_models({"net": result, "good": describe_result()}, table, 7.0)
    assert "1 of 2 models, in 7 s. 1 faster; geometric mean of the speed-up 2.00 [2.00, 2.00]." in text


def test_every_model_of_the_tables_is_in_one_group_and_large_ones_are_alone() -> None:
    from models import TABLE, TOGETHER, list_groups

    groups = list(list_groups(list(TABLE)))
    assert sorted(name for group in groups for name in group) == sorted(TABLE)
    assert all(len(group) <= TOGETHER for group in groups)
    assert all(len(group) == 1 for group in groups if any(TABLE[name].alone for name in group))
