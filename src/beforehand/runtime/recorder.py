"""What came to the segments of a model while its calls ran natively: shapes, and the first values of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from beforehand.runtime.counters import Shapes

Arrays = tuple["np.ndarray[Any, Any]", ...]


class Recorder:
    """Shapes of all calls of each segment, without repeats; of the first `most` calls of each shapes also a copy of the values."""

    def __init__(self, most: int = 0) -> None:
        self._most = most
        self.calls: dict[int, dict[Shapes, list[Arrays]]] = {}

    def note(self, segment: int, shapes: Shapes, inputs: Sequence[np.ndarray[Any, Any]]) -> None:
        """A segment was called."""
        kept = self.calls.setdefault(segment, {}).setdefault(shapes, [])
        if len(kept) < self._most:
            kept.append(tuple(np.array(array) for array in inputs))  # TensorFlow may use their memory again
