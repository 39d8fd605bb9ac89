"""The numbers of the comparison: each against what NumPy says of the same arrays, and at the edges of what there is."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from beforehand.accuracy.compare_outputs import SMALLEST_MAGNITUDE, compare_output, take_worst
from beforehand.accuracy.draw_inputs import draw_inputs
from beforehand.accuracy.judge import find_budget, find_doubts, find_excess
from beforehand.accuracy.keep_samples import KeptSamples, has_values
from beforehand.records import Accuracy, OutputAccuracy
from beforehand.saved_model.sample_range import SampleRange

floats = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(2, 7)), elements=st.floats(-1e6, 1e6, width=32)
)


@given(floats, st.integers(0, 2**32 - 1))
def test_every_number_is_what_numpy_says(expected: Any, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.1, expected.shape).astype(np.float32)
    found = expected + noise
    result = compare_output("y", expected, found)
    off = np.abs(found.astype(np.float64) - expected)
    assert result.max_abs == off.max()
    assert result.max_rel == pytest.approx(off.max() / max(np.abs(expected).max(), SMALLEST_MAGNITUDE))
    assert result.mean_abs == pytest.approx(off.mean())
    a, b = expected.ravel().astype(np.float64), found.ravel().astype(np.float64)
    if np.abs(a).max() > 1e-3:
        assert result.cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert (result.lost, result.unequal) == (0, None)
    tops = [row[np.argmax(other)] == row.max() for row, other in zip(expected, found, strict=True)]
    assert result.top1 == pytest.approx(np.mean(tops))


@given(floats)
def test_equal_outputs_differ_in_nothing(array: Any) -> None:
    result = compare_output("y", array, array.copy())
    assert (result.max_abs, result.max_rel, result.mean_abs, result.lost, result.top1) == (0, 0, 0, 0, 1)
    assert result.cosine == pytest.approx(1)


def test_large_outputs_are_compared_in_pieces_to_the_last_value() -> None:
    expected = np.ones((3, 1_000_001), np.float32)
    found = expected.copy()
    found[-1, -1] = 3
    result = compare_output("y", expected, found)
    assert (result.max_abs, result.top1) == (2, None)
    assert result.mean_abs == pytest.approx(2 / expected.size)


def test_what_is_nan_or_infinite_in_the_engine_alone_is_lost_and_in_tensorflow_does_not_count() -> None:
    nan, inf = math.nan, math.inf
    expected = np.array([1, nan, inf, 4, 5, 6], np.float32)
    found = np.array([1, 2, nan, nan, inf, 6.5], np.float32)
    result = compare_output("y", expected, found)
    assert (result.lost, result.max_abs) == (2, 0.5)
    assert result.max_rel == pytest.approx(0.5 / 6)
    assert find_excess(Accuracy((result,), 1), None).startswith("2 values are NaN, infinite or missing")


def test_an_output_of_another_shape_is_lost_as_a_whole() -> None:
    assert compare_output("y", np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)).lost == 6
    assert compare_output("y", np.ones((0,), np.int32), np.ones((3,), np.int32)).lost == 1


def test_outputs_of_nothing_and_of_zeros() -> None:
    empty = compare_output("y", np.ones((0, 4), np.float32), np.ones((0, 4), np.float32))
    assert (empty.max_rel, empty.cosine, empty.top1) == (0, 1, None)
    zeros = compare_output("y", np.zeros(4, np.float32), np.full(4, 1e-9, np.float32))
    assert (zeros.max_rel, zeros.cosine) == (pytest.approx(1e-3), 1)
    assert compare_output("y", np.zeros(4, np.float32), np.ones(4, np.float32)).cosine == 0


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.uint8])
def test_whole_numbers_and_truths_are_equal_or_not(dtype: Any) -> None:
    result = compare_output("y", np.array([[0, 1, 1, 0]], dtype), np.array([[0, 1, 0, 0]], dtype))
    assert (result.unequal, result.top1) == (0.25, None)
    accuracy = Accuracy((result,), 1)
    assert accuracy.max_rel == 0  # a budget is one of floating-point outputs
    assert find_doubts(accuracy)[0].endswith("25.0% of whole numbers not equal")


def test_bfloat16_is_compared_too() -> None:
    expected = np.array([1, 2], ml_dtypes.bfloat16)
    assert compare_output("y", expected, np.array([1, 2.5], ml_dtypes.bfloat16)).max_rel == 0.25


def test_of_equal_largest_values_any_counts_as_the_top() -> None:
    expected = np.array([[2, 2, 0], [1, 0, 0]], np.float32)
    assert compare_output("y", expected, np.array([[1, 2, 0], [0, 1, 0]], np.float32)).top1 == 0.5


def test_the_worst_of_several_samples_is_kept() -> None:
    first = OutputAccuracy("y", 1, 0.5, 0.2, 0.9, 0, 1.0)
    second = OutputAccuracy("y", 2, 0.1, 0.4, 0.99, 3, 0.5)
    assert take_worst([first, second]) == OutputAccuracy("y", 2, 0.5, pytest.approx(0.3), 0.9, 3, 0.75)


def test_a_budget_of_the_users_holds_for_all_and_else_fp32_alone_has_one() -> None:
    assert [find_budget(None, "FP32"), find_budget(None, "BF16"), find_budget(0.5, "FP32")] == [0.1, None, 0.5]
    off = Accuracy((OutputAccuracy("y", 1, 0.2, 0.1, 0.95),), 1)
    assert find_excess(off, None) == ""
    assert find_excess(off, 0.2) == ""
    assert find_excess(off, 0.1) == "it is off by 0.2 of the largest magnitude of an output, and may be by 0.1"
    assert find_excess(None, 0.1) == ""
    assert find_doubts(off) == ("y: cosine 0.9500",)
    assert find_doubts(Accuracy((OutputAccuracy("y", 1, 0.2, 0.1, 0.999, 0, 0.98),), 1)) == (
        "y: cosine 0.9990, top-1 the same in 98.0%",
    )


def test_what_has_nothing_to_do_with_tensorflows_is_not_used_in_any_precision() -> None:
    expected = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    noise = np.random.default_rng(1).normal(size=(8, 64)).astype(np.float32)
    for found in (np.zeros_like(expected), noise, -expected):
        excess = find_excess(Accuracy((compare_output("y", expected, found),), 1), None)
        assert excess.startswith("y has nothing to do with TensorFlow's: cosine ")
    for found in (expected + noise, expected * 2):  # far off, but of the same function
        assert find_excess(Accuracy((compare_output("y", expected, found),), 1), None) == ""
    zeros = Accuracy((compare_output("y", np.zeros((8, 64), np.float32), noise * 1e-4),), 1)
    assert find_excess(zeros, None) == ""
    assert find_excess(Accuracy((compare_output("y", expected, noise),), 1), 100.0) == ""  # the user's budget


def test_drawn_values_are_the_same_for_the_same_shapes_and_fit_their_dtypes() -> None:
    zeros = {
        "x": np.zeros((2, 50), np.float32), "n": np.zeros((2, 50), np.int64), "b": np.zeros((20,), bool),
        "h": np.zeros((30,), ml_dtypes.bfloat16), "s": np.full((2,), b"", object),
    }  # fmt: skip
    drawn, again = draw_inputs(zeros), draw_inputs(zeros)
    for name, array in drawn.items():
        assert (array.dtype, array.shape) == (zeros[name].dtype, zeros[name].shape)
        np.testing.assert_array_equal(array, again[name])
    assert len(np.unique(drawn["x"])) > 90
    assert set(np.unique(drawn["n"])) == set(np.unique(drawn["b"])) == {0, 1}
    assert drawn["x"].min() >= 0
    assert drawn["x"].max() < 1


def test_a_few_samples_of_each_shapes_are_kept_and_of_shapes_alone_one() -> None:
    kept = KeptSamples(2)
    buffer = np.zeros((1, 3), np.float32)

    def generate() -> Any:
        for number in range(5):
            buffer[...] = np.arange(3) + number  # a generator may fill the same array again
            sample = {"x": buffer}
            yield SampleRange(sample, sample)
        zeros = {"x": np.zeros((4, 3), np.float32)}
        for _ in range(3):
            yield SampleRange(zeros, zeros)

    assert len(list(kept.watch(generate()))) == 8
    assert [sample["x"][0, 0] for sample in kept.samples] == [0, 1, 0]
    assert [has_values(sample) for sample in kept.samples] == [True, True, False]
    nothing = KeptSamples(0)
    list(nothing.watch(generate()))
    assert nothing.samples == []
