"""Every segment's shapes to its profiles, by one rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from beforehand.profiles.apply_strategy import apply_strategy
from beforehand.profiles.plan_buckets import Limit, plan_buckets
from beforehand.profiles.plan_static import plan_static
from beforehand.records import SegmentRecord, ShapeSet

EXACT, STATIC, BUCKETS = "exact", "static", "buckets"
# What these do with a model that cannot have a range is what TF-TRT's users expect of them; the others promised more.
_BATCH_RULES = (STATIC, "ImplicitBatchModeCompatible")
_OPTIMAL = ("Optimal", "Range+Optimal")


@dataclasses.dataclass(frozen=True)
class Rule:
    """How shapes become profiles: "exact", "static", "buckets" (with its limit) or one of TF-TRT's strategies."""

    name: str = EXACT
    limit: Limit | None = None

    @property
    def opens_batches(self) -> bool:
        """Whether it makes ranges of batches only."""
        return self.name in _BATCH_RULES


def plan_profiles(
    seen: Sequence[tuple[int, ShapeSet]],
    rule: Rule,
    segments: Sequence[SegmentRecord],
    built: Mapping[int, Sequence[ShapeSet]],
) -> list[tuple[int, ShapeSet]]:
    """What to build. As in TF-TRT, the rule is applied to each segment by itself, to the shapes that came to it.

    Args:
        seen: A segment, by its index in the manifest, and shapes that came to it; in order, with repetitions.
        rule: How shapes become profiles.
        segments: All segments.
        built: Of a segment, what there are engines for; what these serve is not built again.

    Raises:
        SampleError: BH122, see `apply_strategy`.
    """
    if rule.name == EXACT:
        return list(dict.fromkeys(seen))
    planned: list[tuple[int, ShapeSet]] = []
    for index in dict.fromkeys(index for index, _ in seen):
        sets = [shapes for segment, shapes in seen if segment == index]
        engines = built.get(index, ())
        planned.extend((index, shapes) for shapes in _plan_segment(sets, rule, segments[index], engines))
    return planned


def _plan_segment(
    seen: Sequence[ShapeSet], rule: Rule, segment: SegmentRecord, built: Sequence[ShapeSet]
) -> list[ShapeSet]:
    if rule.name == STATIC:
        return plan_static(seen, segment.inputs, built)
    if rule.limit is not None:
        left = [shapes for shapes in seen if not any(engine.holds(shapes) for engine in built)]
        return plan_buckets(left, rule.limit)
    profiles = apply_strategy(rule.name, seen, segment.inputs)
    # A shape that is to be an optimum has an engine of its own, though a range may hold it too.
    wants_exact = rule.name in _OPTIMAL
    return [
        item
        for item in profiles
        if (wants_exact and not item.is_range) or not any(engine.holds(item) for engine in built)
    ]
