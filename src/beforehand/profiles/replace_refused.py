"""What to build instead of a profile that a backend could not build."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from beforehand.errors import BuildError
from beforehand.profiles.plan_profiles import EXACT, Rule
from beforehand.records import EngineSpec, ShapeSet

_log = logging.getLogger("beforehand")
# A build that was killed, or took too long, would be again.
_CAUSES = ("range", "failed")


def replace_refused(
    spec: EngineSpec, error: BuildError, rule: Rule, seen: Iterable[tuple[int, ShapeSet]], built: Sequence[ShapeSet]
) -> list[tuple[int, ShapeSet]] | None:
    """The shapes seen that the refused range stood for and nothing else serves, one by one; None if it must be told.

    It must where the user named the range, and where other shapes would fail as well.

    A segment may hold its batch as a constant inside, or an op that takes no other sizes: then it has no range, but
    engines of the very shapes. A line in the log says so: INFO where the rule is one of batches, as TF-TRT's users
    asked for engines and not for ranges; else WARNING.

    Args:
        spec: The range.
        error: Why it was refused.
        rule: By which rule it was planned.
        seen: All shapes seen.
        built: What the segment has engines for.
    """
    if rule.name == EXACT or not spec.shapes.is_range or error.cause not in _CAUSES:
        return None
    own = dict.fromkeys(shapes for index, shapes in seen if index == spec.segment_index)
    others = [
        shapes
        for shapes in own
        if shapes != spec.shapes and spec.shapes.holds(shapes) and not any(other.holds(shapes) for other in built)
    ]
    _log.log(
        logging.INFO if rule.opens_batches else logging.WARNING,
        "%s has no engine for the range %s, but one for each set of shapes seen in it: %s",
        spec.segment, spec.shapes.describe(), error.why or error.what,
    )  # fmt: skip
    return [(spec.segment_index, shapes) for shapes in others]
