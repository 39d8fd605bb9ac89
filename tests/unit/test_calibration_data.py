"""Calibration data: what is refused, what is warned of, and what is kept of it."""

from __future__ import annotations

import itertools
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from beforehand.calibrate.capture_inputs import InputCapture
from beforehand.calibrate.check_samples import FEW_ROWS, SampleChecks
from beforehand.errors import CalibrationError
from beforehand.records import Signature, TensorSpec

IMAGE, IDS = TensorSpec("image", "float32", (None, 4)), TensorSpec("ids", "int32", (None, 3))
BOTH = Signature("serving_default", (IMAGE, IDS), ())
Sample = dict[str, "np.ndarray[Any, Any]"]


def draw(count: int, rows: int = 1) -> Iterator[Sample]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield {
            "image": rng.normal(size=(rows, 4)).astype(np.float32),
            "ids": rng.integers(0, 9, (rows, 3)).astype(np.int32),
        }


def check(samples: Any, signature: Signature = BOTH) -> list[Sample]:
    return list(SampleChecks(signature).check(iter(samples)))  # type: ignore[arg-type]


def test_good_samples_pass_as_they_are_and_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    given = list(draw(FEW_ROWS))
    assert check(given) == given
    assert caplog.records == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_refused_with_its_place(value: float) -> None:
    samples = list(draw(3))
    samples[1]["image"][0, 2] = value
    with pytest.raises(
        CalibrationError, match=r"BH123 calibration sample 2 has 1 of 4 values of `image` that are NaN or inf"
    ):
        check(samples)


def test_samples_of_one_number_are_refused() -> None:
    zeros = [{"image": np.zeros((1, 4), np.float32), "ids": np.ones((1, 3), np.int32)} for _ in range(40)]
    with pytest.raises(CalibrationError, match="BH123 every value of all 40 calibration samples is the same"):
        check(zeros)


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (list(draw(4)), "4 samples with 4 rows are few"),
        (list(draw(1)) * 40, "all 40 samples are equal"),
        (
            [{**s, "image": np.zeros((1, 4), np.float32)} for s in draw(40)],
            "every value of `image` is the same in all 40",
        ),
    ],
)
def test_samples_that_tell_little_are_warned_of(
    samples: list[Sample], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "beforehand")
    check(samples)
    [record] = caplog.records
    assert told in record.getMessage()


def test_whole_numbers_that_are_all_the_same_are_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    """Types of tokens, masks."""
    check([{**sample, "ids": np.ones((1, 3), np.int32)} for sample in draw(FEW_ROWS)])
    assert caplog.records == []


def test_a_batch_counts_by_its_rows(caplog: pytest.LogCaptureFixture) -> None:
    check(draw(2, rows=FEW_ROWS // 2))
    assert caplog.records == []


def test_inputs_are_kept_as_they_came_up_to_a_number(tmp_path: pathlib.Path) -> None:
    capture = InputCapture(tmp_path, most_calls=3)
    given = [list(sample.values()) for sample in draw(5)]
    for arrays in given:
        capture.add(7, arrays)
    found = capture.find(7)
    assert found is not None
    assert found.calls == 3
    for call in range(3):
        for place in range(2):
            kept = np.load(found.folder / f"{call}_{place}.npy")
            assert kept.dtype == given[call][place].dtype
            np.testing.assert_array_equal(kept, given[call][place])
    assert not (found.folder / "3_0.npy").exists()
    assert capture.find(0) is None


def test_inputs_are_kept_up_to_so_many_bytes_but_one_call_always(tmp_path: pathlib.Path) -> None:
    capture = InputCapture(tmp_path, most_bytes=2 * 28)
    for segment, rows in ((0, 1), (1, 100)):
        for sample in draw(4, rows):
            capture.add(segment, list(sample.values()))
    assert [capture.find(segment).calls for segment in (0, 1)] == [2, 1]  # type: ignore[union-attr]


def test_calls_with_an_empty_tensor_are_left_out(tmp_path: pathlib.Path) -> None:
    capture = InputCapture(tmp_path)
    capture.add(0, [np.zeros((0, 4), np.float32)])
    assert capture.find(0) is None


def test_a_digest_is_of_values_dtypes_shapes_and_their_order(tmp_path: pathlib.Path) -> None:
    numbers = itertools.count()

    def digest(*calls: list[np.ndarray[Any, Any]]) -> str:
        capture = InputCapture(tmp_path / str(next(numbers)))
        for arrays in calls:
            capture.add(0, arrays)
        found = capture.find(0)
        assert found is not None
        return found.digest

    a, b = np.arange(4, dtype=np.float32), np.arange(4, 8, dtype=np.float32)
    same = [digest([a], [b]), digest([a.copy()], [b])]
    others = [
        digest([b], [a]),
        digest([a]),
        digest([a, b]),
        digest([a.reshape(2, 2)], [b]),
        digest([a.astype(np.int32)], [b]),
    ]
    assert same[0] == same[1]
    assert len({same[0], *others}) == 6
