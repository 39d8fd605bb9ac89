"""The engines of one segment: which of them serve given shapes, and which of them are open."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Iterator

from beforehand.records import Engine, Policies
from beforehand.runtime.counters import Shapes
from beforehand.runtime.loaded_engine import LoadedEngine

_log = logging.getLogger("beforehand")
# Reloads are told from so many calls on: the first calls of a model reload nothing or say nothing.
FEWEST_CALLS_TO_JUDGE = 100
MOST_RELOADS = 0.1  # of calls
_tables: weakref.WeakSet[EngineTable] = weakref.WeakSet()


class EngineTable:
    """Engines of one segment. All methods may be called by several threads at once.

    With `maximum_cached_engines`, at most so many are open at once: the one used longest ago is closed for another,
    and opened again from its file when it is needed. Calls under way keep what they run.
    """

    def __init__(self, segment: str, policies: Policies) -> None:
        self.lock = threading.RLock()  # of all that opens or closes; a call of an open engine does not ask for it
        self._segment = segment
        self._exact: dict[Shapes, LoadedEngine] = {}
        self._ranges: tuple[LoadedEngine, ...] = ()  # the narrowest first
        self._replaced: list[LoadedEngine] = []  # their counts still count
        self._opened: list[LoadedEngine] = []
        self._most = policies.maximum_cached_engines
        self._reloads = 0
        self._warned = False
        self.performance_hint = policies.performance_hint
        self.device = policies.device
        self.what_follows = "Such calls run natively, in TensorFlow."  # where an engine fails, for the log
        _tables.add(self)

    def add(self, engine: LoadedEngine) -> None:
        """Serve the engine's shapes with it from now on; a range only where there is no engine of that very shape."""
        shapes = engine.record.shapes
        with self.lock:
            # New containers: calls under way, and searches, go through the old ones.
            if shapes.is_range:
                old = [other for other in self._ranges if other.record.shapes == shapes]
                kept = [other for other in self._ranges if other not in old]
                self._ranges = tuple(sorted([*kept, engine], key=lambda item: item.record.shapes.count_shapes()))
            else:
                old = [self._exact[shapes.shapes]] if shapes.shapes in self._exact else []
                self._exact = {**self._exact, shapes.shapes: engine}
            for other in old:
                other.close()
            self._replaced += old

    def remove(self, record: Engine) -> None:
        """Ask the engine of this record no more; one that was put in its place stays."""
        with self.lock:
            gone = [engine for engine in self.list_engines() if engine.record.key == record.key]
            self._exact = {shapes: engine for shapes, engine in self._exact.items() if engine not in gone}
            self._ranges = tuple(engine for engine in self._ranges if engine not in gone)
            for engine in gone:
                engine.close()
            self._replaced += gone

    def find_engines(self, shapes: Shapes) -> Iterator[LoadedEngine]:
        """All that serve these shapes, the one to ask first: that of the very shapes, then the narrowest range."""
        exact = self._exact.get(shapes)
        if exact is not None:
            yield exact
        for engine in self._ranges:  # few, so a search costs microseconds
            if engine.record.shapes.contains(shapes):
                yield engine

    def list_engines(self) -> list[LoadedEngine]:
        """Those that may be asked."""
        return [*self._exact.values(), *self._ranges]

    def list_all(self) -> list[LoadedEngine]:
        """Those too that others have replaced: for the sums of counters."""
        with self.lock:
            return [*self.list_engines(), *self._replaced]

    def describe(self, most: int = 8) -> str:
        """For messages: the shapes that are served."""
        texts = [engine.record.shapes.describe() for engine in self.list_engines()]
        more = f" and {len(texts) - most} more" if len(texts) > most else ""
        return "; ".join(texts[:most]) + more if texts else "nothing"

    def count_kinds(self) -> tuple[int, int]:
        """How many engines serve one shape set, and how many a range."""
        return len(self._exact), len(self._ranges)

    def set_policies(self, policies: Policies) -> None:
        """Keep to these from now on. Engines that are open keep their performance hint until they are opened again."""
        with self.lock:
            self._most = policies.maximum_cached_engines
            self.performance_hint = policies.performance_hint
            self.device = policies.device
            self._close_oldest(0)

    def make_room(self, engine: LoadedEngine) -> None:
        """Count `engine` among the open ones; close those used longest ago, as far as the bound asks."""
        with self.lock:
            self._close_oldest(1)
            self._opened.append(engine)

    def _close_oldest(self, coming: int) -> None:
        while self._most is not None and len(self._opened) + coming > self._most:
            min(self._opened, key=lambda other: other.last_used).evict()

    def leave_room(self, engine: LoadedEngine) -> None:
        """Count `engine` no longer among the open ones."""
        with self.lock:
            if engine in self._opened:
                self._opened.remove(engine)

    def count_reload(self) -> None:
        """An engine was opened again that had been closed for another; say once that this happens too often."""
        with self.lock:
            self._reloads += 1
            calls = sum(engine.counts.calls for engine in self.list_engines())
            if self._warned or calls < FEWEST_CALLS_TO_JUDGE or self._reloads <= MOST_RELOADS * calls:
                return
            self._warned = True
        _log.warning(
            "%s opened an engine again in %d of %d calls, because maximum_cached_engines is %s and its calls have the "
            "shapes of more engines. Try: a larger maximum_cached_engines, or one engine for a range of shapes.",
            self._segment,
            self._reloads,
            calls,
            self._most,
        )

    def reset(self) -> None:
        """Set all counters to zero."""
        with self.lock:
            self._reloads = 0
            self._replaced = []
            for engine in self.list_engines():
                engine.reset()


def _free_locks() -> None:
    """In a forked child: a thread of the parent's that was opening an engine is not there to give its lock back."""
    for table in tuple(_tables):
        table.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_locks)
