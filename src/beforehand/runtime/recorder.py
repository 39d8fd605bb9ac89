"""What came to the segments of a model while its calls ran natively: shapes, and the first values of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from beforehand.runtime.counters import Shapes

Arrays = tuple["np.ndarray[Any, Any]", ...]
AddInputs = Callable[[int, Sequence[Any]], None]


class Recorder:
    """Shapes of all calls of each segment, without repeats.

    Args:
        most: Of so many calls of each shapes also a copy of the values.
        add: Is told of each call: the segment, and its values, which are to be copied.
    """

    def __init__(self, most: int = 0, add: AddInputs | None = None) -> None:
        self._most, self._add = most, add
        self.calls: dict[int, dict[Shapes, list[Arrays]]] = {}

    def note(self, segment: int, shapes: Shapes, inputs: Sequence[np.ndarray[Any, Any]]) -> None:
        """A segment was called."""
        kept = self.calls.setdefault(segment, {}).setdefault(shapes, [])
        if len(kept) < self._most:
            kept.append(tuple(np.array(array) for array in inputs))  # TensorFlow may use their memory again
        if self._add is not None:
            self._add(segment, inputs)
