"""An engine that is over its budget, with the parts responsible put back to a higher precision."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence

from beforehand.accuracy.judge import find_budget, find_excess
from beforehand.accuracy.search import Found, search_parts
from beforehand.records import Accuracy, Engine, PartSearch, list_some

_log = logging.getLogger("beforehand")
# Nothing is higher than float32.
LOW_PRECISIONS = frozenset({"FP16", "BF16", "INT8"})
Rebuild = Callable[[Engine, "tuple[str, ...] | None"], "Engine | None"]
ListParts = Callable[[Engine], Mapping[str, tuple[str, ...]]]


@dataclasses.dataclass(frozen=True)
class Tools:
    """What a search does with engines.

    Attributes:
        rebuild: Builds an engine again with these ONNX nodes kept in a higher precision, or with None in FP32; None if it cannot be
            built.
        compare: How an engine compares with TensorFlow.
        list_parts: The parts of an engine that can be put back: names for people to names of ONNX nodes.
        discard: Removes what is left of an engine that is not used.
    """

    rebuild: Rebuild
    compare: Callable[[Engine], Accuracy]
    list_parts: ListParts
    discard: Callable[[Engine], None]


class Healer:
    """Searches engine by engine; what helped an engine is tried first for the next one of the same segment."""

    def __init__(self, tools: Tools, max_error: float | None, most: int) -> None:
        self._tools, self._max_error, self._most = tools, max_error, most
        self._helped: dict[int, tuple[str, ...]] = {}

    def heal(self, engine: Engine, reason: str) -> Engine | None:
        """The engine with as few parts put back as its budget allows, compared; None if none could be had.

        Args:
            engine: One that is over its budget.
            reason: Why, for the log.
        """
        if engine.precision not in LOW_PRECISIONS or not self._most:
            return None
        parts = self._tools.list_parts(engine)
        trials = _Trials(self._tools, engine, parts, find_budget(self._max_error, engine.precision))
        found = dataclasses.replace(self._search(engine, tuple(parts), trials), trials=trials.count)
        _tell(engine, reason, found, len(parts))
        healed = trials.take(found.parts)
        if healed is None or healed.accuracy is None or found.parts is None:
            return None
        self._helped[engine.segment_index] = found.parts
        search = PartSearch(len(parts), found.trials, found.is_minimal)
        return dataclasses.replace(healed, accuracy=dataclasses.replace(healed.accuracy, search=search))

    def _search(self, engine: Engine, parts: tuple[str, ...], trials: _Trials) -> Found:
        guess = [part for part in self._helped.get(engine.segment_index, ()) if part in parts]
        if guess and self._most > 1 and trials.holds(frozenset(guess)):
            return search_parts(guess, trials.holds, self._most - trials.count, trials.results)
        order, is_ranked = parts, 1 < len(parts) <= self._most // 2
        if is_ranked:
            # The error of each alone: all others put back.
            alone = {part: trials.measure(frozenset(parts) - {part}) for part in parts}
            order = tuple(sorted(parts, key=alone.__getitem__, reverse=True))
        left = self._most - trials.count
        return search_parts(order, trials.holds, left, trials.results, is_ranked=is_ranked)


class _Trials:
    """Engines with sets of parts put back, each built once."""

    def __init__(self, tools: Tools, engine: Engine, parts: Mapping[str, Sequence[str]], budget: float | None) -> None:
        self._tools, self._engine, self._parts, self._budget = tools, engine, parts, budget
        self._engines: dict[frozenset[str], Engine] = {}
        self.results: dict[frozenset[str], bool] = {}
        self.count = 0

    def holds(self, chosen: frozenset[str]) -> bool:
        """Whether the budget holds with these put back."""
        if chosen not in self.results:
            self.measure(chosen)
        return self.results[chosen]

    def measure(self, chosen: frozenset[str]) -> float:
        """The largest error with these put back, by the largest magnitude of the output; infinite where values are lost."""
        self.count += 1
        built = self._tools.rebuild(self._engine, self._list_nodes(chosen))
        if built is None:
            self.results[chosen] = False
            return math.inf
        accuracy = self._tools.compare(built)
        told = dataclasses.replace(accuracy, put_back=tuple(part for part in self._parts if part in chosen))
        self._engines[chosen] = dataclasses.replace(built, accuracy=told)
        self.results[chosen] = bool(accuracy.outputs) and not find_excess(accuracy, self._budget)
        return math.inf if accuracy.lost or not accuracy.outputs else accuracy.max_rel

    def _list_nodes(self, chosen: frozenset[str]) -> tuple[str, ...] | None:
        if len(chosen) == len(self._parts):
            return None  # backends may leave something in low precision even so
        return tuple(node for part, nodes in self._parts.items() if part in chosen for node in nodes)

    def take(self, chosen: Sequence[str] | None) -> Engine | None:
        """The engine of a set; all others go."""
        taken = self._engines.pop(frozenset(chosen), None) if chosen is not None else None
        for other in self._engines.values():
            if taken is None or other.key != taken.key:
                self._tools.discard(other)
        return taken


def _tell(engine: Engine, reason: str, found: Found, count: int) -> None:
    who = f"{engine.segment} for {engine.shapes.describe()} in {engine.precision}"
    if found.parts is None:
        _log.warning(
            "%s: %s. No set of its %d parts that was put back to a higher precision helps, after %d rebuilds.",
            who, reason, count, found.trials,
        )  # fmt: skip
        return
    if len(found.parts) == count and count > 1:
        _log.warning(
            "%s: %s. The budget holds with all of it in FP32, and did not with less, in %d rebuilds.",
            who,
            reason,
            found.trials,
        )
        return
    least = "none of which can be spared" if found.is_minimal else "perhaps more than are needed (max_rebuilds)"
    _log.warning(
        "%s: %s. The budget holds with %d of its %d parts in a higher precision, %s, after %d rebuilds: %s",
        who, reason, len(found.parts), count, least, found.trials, list_some(found.parts),
    )  # fmt: skip
