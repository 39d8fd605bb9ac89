"""When an output is right."""

from __future__ import annotations

import math

import pytest

from beforehand.options import AUTO, PRECISION_MODES
from beforehand.records import OutputAccuracy
from beforehand.verification.tolerances import TOLERANCES, find_coarsest, judge_output


def make(max_rel: float = 0.0, **more: object) -> OutputAccuracy:
    return OutputAccuracy("y", max_rel, max_rel, max_rel, 1.0, **more)  # type: ignore[arg-type]


def test_every_precision_has_a_tolerance_and_the_coarser_the_larger() -> None:
    assert tuple(TOLERANCES) == ("FP32", "TF32", "FP16", "BF16", "INT8")
    assert set(TOLERANCES) == set(PRECISION_MODES) - {AUTO}
    assert list(TOLERANCES.values()) == sorted(TOLERANCES.values())
    assert find_coarsest(("FP32", "INT8", "BF16")) == "INT8"
    assert find_coarsest(()) == "FP32"


@pytest.mark.parametrize(("precision", "error", "is_right"), [
    ("FP32", 9e-4, True), ("FP32", 1.1e-3, False), ("BF16", 1.1e-3, True), ("BF16", 0.05, False), ("INT8", 0.1, True),
    ("INT8", 0.31, False), ("FP32", math.nan, False),
])  # fmt: skip
def test_an_output_is_judged_by_its_precision(precision: str, error: float, is_right: bool) -> None:
    assert judge_output(make(error), precision).is_right is is_right


def test_where_float32_itself_is_off_an_engine_may_be_so_eight_times_over() -> None:
    assert judge_output(make(0.07), "FP32", make(0.01)).is_right
    assert judge_output(make(0.09), "FP32", make(0.01)).why == "off by 9.0e-02, may be by 8.0e-02"
    assert not judge_output(make(0.07), "FP32", make(0.01), tolerance=0.01).is_right


def test_values_lost_and_whole_numbers_have_rules_of_their_own() -> None:
    assert "3 values are NaN" in judge_output(make(lost=3), "INT8").why
    assert judge_output(make(5.0, unequal=0.0), "FP32").is_right
    assert judge_output(make(5.0, unequal=0.02), "FP32").why == "2.0% of whole numbers are not equal"
