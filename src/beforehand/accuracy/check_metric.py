"""A budget in the user's own terms: how much a metric of theirs may drop from TensorFlow to the converted model."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from beforehand.accuracy.heal import Tools
from beforehand.accuracy.search import search_parts
from beforehand.errors import OptionValueError
from beforehand.records import Engine, PartSearch, list_some

_log = logging.getLogger("beforehand")
Metric = Callable[[Any], float]


@dataclasses.dataclass(frozen=True)
class Drop:
    """The metric of TensorFlow and of the converted model, and how much lower the second may be."""

    native: float
    converted: float
    most: float

    @property
    def is_over(self) -> bool:
        """Whether it is lower than that, or no number where TensorFlow's is one."""
        return math.isfinite(self.native) and not self.native - self.converted <= self.most

    def describe(self) -> str:
        """For messages."""
        return f"the metric is {self.native + 0.0:.6g} by TensorFlow and {self.converted + 0.0:.6g} converted, and may drop by {self.most:g}"


@dataclasses.dataclass(frozen=True)
class MetricBudget:
    """A function of a model (as `LiveModel.make_model` gives it) that is higher for a better one; and its largest drop."""

    metric: Metric
    max_drop: float

    def measure(self, model: Any) -> float:
        """The metric of a model."""
        return float(self.metric(model))

    def judge(self, native: float, converted: float) -> Drop:
        """Whether a drop is over the budget."""
        return Drop(native, converted, self.max_drop)


def make_metric_budget(metric: Any, max_drop: Any) -> MetricBudget | None:
    """The budget of the arguments of `build`; None if there is none.

    Raises:
        OptionValueError: BH102, one without the other, or of the wrong kind.
    """
    if metric is None and max_drop is None:
        return None
    if not callable(metric) or not isinstance(max_drop, (int, float)) or not max_drop >= 0:
        raise OptionValueError(
            f"metric is {metric!r} and max_drop is {max_drop!r}",
            advice="a function that takes a model and returns a number, higher for a better one, and how much that may drop: "
            "0 or more",
        )
    return MetricBudget(metric, float(max_drop))


def heal_by_metric(
    engines: Sequence[Engine], tools: Tools, most: int, holds: Callable[[Sequence[Engine]], bool]
) -> list[Engine] | None:
    """The engines with as few parts put back as it takes; None if none does, or they have no parts.

    Args:
        engines: All that may be responsible; engines of one segment, for whatever shapes, have the same parts put back.
        tools: What is done with engines.
        most: How many sets of parts may be tried.
        holds: Whether the metric is within its budget with these engines in their stead.
    """
    parts: dict[str, tuple[int, str, tuple[str, ...]]] = {}
    for engine in {engine.segment_index: engine for engine in engines}.values():
        for part, nodes in tools.list_parts(engine).items():
            parts[f"{engine.segment}: {part}"] = engine.segment_index, part, nodes
    made: dict[tuple[str, frozenset[str]], Engine | None] = {}

    def rebuild(engine: Engine, chosen: frozenset[str]) -> Engine | None:
        own = {name for name in chosen if parts[name][0] == engine.segment_index}
        if not own:
            return engine
        nodes = [*engine.kept, *(node for name in parts if name in own for node in parts[name][2])]
        is_all = len(own) == sum(index == engine.segment_index for index, _, _ in parts.values())
        place = f"{engine.segment_index}/{engine.key}", frozenset(own)
        if place not in made:
            built = tools.rebuild(engine, None if is_all else tuple(dict.fromkeys(nodes)))
            before = engine.accuracy.put_back if engine.accuracy is not None else ()
            names = tuple(dict.fromkeys([*before, *(parts[name][1] for name in parts if name in own)]))
            made[place] = built and dataclasses.replace(
                built, accuracy=dataclasses.replace(tools.compare(built), put_back=names)
            )
        return made[place]

    def try_set(chosen: frozenset[str]) -> bool:
        tried = [rebuild(engine, chosen) for engine in engines]
        return None not in tried and holds([engine for engine in tried if engine is not None])

    found = search_parts(tuple(parts), try_set, most, is_ranked=False)
    if found.parts is None:
        _log.warning(
            "no set of %d parts in a higher precision keeps the metric, after %d trials", len(parts), found.trials
        )
        return None
    least = "none of which can be spared" if found.is_minimal else "perhaps more than are needed (max_rebuilds)"
    _log.warning(
        "the metric is kept with %d of %d parts in a higher precision, %s, after %d trials: %s",
        len(found.parts), len(parts), least, found.trials, list_some(found.parts),
    )  # fmt: skip
    told = PartSearch(len(parts), found.trials, found.is_minimal)
    healed = [rebuild(engine, frozenset(found.parts)) for engine in engines]
    keys = {engine.key for engine in (*engines, *healed) if engine is not None}
    for other in made.values():
        if other is not None and other.key not in keys:
            tools.discard(other)
    return [_tell_search(engine, told) for engine in healed if engine is not None]


def _tell_search(engine: Engine, search: PartSearch) -> Engine:
    """Engines of which nothing was put back stay as they are."""
    if engine.accuracy is None or not engine.accuracy.put_back:
        return engine
    return dataclasses.replace(engine, accuracy=dataclasses.replace(engine.accuracy, search=search))
