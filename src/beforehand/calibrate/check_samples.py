"""What calibration samples must be before anything slow is done with them: finite, and not all one number."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from beforehand.errors import CalibrationError
from beforehand.records import Signature

_log = logging.getLogger("beforehand")
# Fewer rows say little about the ranges of values: a WARNING.
FEW_ROWS = 32
_ADVICE = "some hundreds of inputs such as the model will be called with, prepared in the same way"


class SampleChecks:
    """Looks at samples as they pass, and says at the end what is wrong with all of them together."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._first: dict[str, np.ndarray[Any, Any]] = {}
        self._constant = {spec.name: True for spec in signature.inputs}
        self._is_same = True
        self.count = self.rows = 0

    def check(self, samples: Iterator[Mapping[str, np.ndarray[Any, Any]]]) -> Iterator[Mapping[str, Any]]:
        """The same samples, one after the other.

        Raises:
            CalibrationError: BH123, a value is not finite; after the last, every value of every sample is the same.
        """
        for sample in samples:
            self.count += 1
            self._look(sample)
            yield sample
        self._conclude()

    def _look(self, sample: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.rows += max((array.shape[0] if array.ndim > 1 else 1 for array in sample.values()), default=1)
        for name, array in sample.items():
            if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
                bad = array.size - int(np.isfinite(array).sum())
                raise CalibrationError(
                    f"calibration sample {self.count} has {bad} of {array.size} values of `{name}` that are NaN or infinite",
                    why="ranges of values are taken from the samples", advice=_ADVICE,
                )  # fmt: skip
            first = self._first.setdefault(name, array)
            self._is_same = self._is_same and np.array_equal(first, array)
            if self._constant[name] and array.size:
                self._constant[name] = bool(first.size and (array == first.reshape(-1)[0]).all())

    def _conclude(self) -> None:
        floats = [spec.name for spec in self._signature.inputs if spec.dtype.startswith(("float", "bfloat"))]
        if all(self._constant.values()):
            raise CalibrationError(
                f"every value of all {self.count} calibration samples is the same",
                why="ranges of values are taken from the samples, and these have none", advice=_ADVICE,
            )  # fmt: skip
        for name in floats:
            if self._constant[name]:
                _log.warning("calibration: every value of `%s` is the same in all %d samples", name, self.count)
        if self.count > 1 and self._is_same:
            _log.warning("calibration: all %d samples are equal, which tells no more than one does", self.count)
        elif self.rows < FEW_ROWS:
            _log.warning(
                "calibration: %d samples with %d rows are few; %s give better ranges", self.count, self.rows, _ADVICE
            )
