"""What is counted at every call: it costs about a microsecond, so that it can stay on (benchmarks/counting.py)."""

from __future__ import annotations

import enum
import threading

from beforehand.records import Shape

Shapes = tuple[Shape, ...]
# Distinct unseen shapes that are counted apart: some 300 bytes each; a service that sees more wants a range.
MOST_UNSEEN = 1000


class CallCounts:
    """Calls and their seconds, by the index of the signature where they came from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[int, tuple[int, float]] = {}

    def add(self, signature: int, seconds: float) -> None:
        """Count one call."""
        with self._lock:
            calls, before = self._counts.get(signature, (0, 0.0))
            self._counts[signature] = calls + 1, before + seconds

    def read(self) -> dict[int, tuple[int, float]]:
        """Calls and seconds by signature."""
        with self._lock:
            return dict(self._counts)

    @property
    def calls(self) -> int:
        """Calls of all signatures."""
        return sum(calls for calls, _ in self.read().values())

    @property
    def seconds(self) -> float:
        """Seconds of all signatures."""
        return sum(seconds for _, seconds in self.read().values())

    def reset(self) -> None:
        """Count from zero."""
        with self._lock:
            self._counts = {}


class Seen(enum.Enum):
    """Whether the shapes of an unserved call were met before."""

    NEW = "new"
    BEFORE = "before"
    FIRST_TOO_MANY = "first too many"  # said once: from here on new shapes are not told apart
    TOO_MANY = "too many"


class UnseenShapes:
    """How often shapes came that no engine serves; beyond the first thousand distinct ones, all together."""

    def __init__(self, most: int = MOST_UNSEEN) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._counts: dict[tuple[int, Shapes], int] = {}
        self._more = 0
        self._told_more = False

    def add(self, segment: int, shapes: Shapes) -> Seen:
        """Count one call."""
        with self._lock:
            count = self._counts.get((segment, shapes))
            if count is None and len(self._counts) >= self._most:
                self._more += 1
                told, self._told_more = self._told_more, True
                return Seen.TOO_MANY if told else Seen.FIRST_TOO_MANY
            self._counts[segment, shapes] = (count or 0) + 1
            return Seen.NEW if count is None else Seen.BEFORE

    def read(self) -> tuple[dict[tuple[int, Shapes], int], int]:
        """The counts by segment and shapes, and the calls that are not told apart."""
        with self._lock:
            return {key: count for key, count in self._counts.items() if count}, self._more

    def reset(self) -> None:
        """Count from zero. What was met stays known, so that whoever resets often does not have each shape told again."""
        with self._lock:
            self._counts = dict.fromkeys(self._counts, 0)
            self._more = 0
