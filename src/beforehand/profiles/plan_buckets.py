"""The fewest profiles that cover given shapes, each no wider than a limit."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from beforehand.errors import OptionValueError
from beforehand.profiles.measure_shapes import list_ranks, make_hull, measure_volume
from beforehand.records import ShapeSet

# So many distinct shapes are divided by trying every way: 177,000 steps, a tenth of a second. More would be three times
# that for each.
MOST_TO_SEARCH = 12
_LEAST = {"max_spread": 1.0, "max_padding": 0.0}


@dataclasses.dataclass(frozen=True)
class Limit:
    """How wide a bucket may be.

    `name` is "max_spread": in each dimension, the largest size is at most `value` times the smallest; or "max_padding": a
    shape filled up to the bucket's largest shape (the number of elements of all inputs together) grows by at most `value`
    times its own size.
    """

    name: str
    value: float

    def admits(self, members: Sequence[ShapeSet]) -> bool:
        """Whether one bucket may hold these; if so, it may hold any part of them."""
        hull = make_hull(members)
        largest = hull.max_shapes or hull.shapes
        if self.name == "max_padding":
            most, least = measure_volume(largest), min(measure_volume(item.shapes) for item in members)
            return most <= least * (1.0 + self.value)
        pairs = zip(hull.shapes, largest, strict=True)
        return all(b <= a * self.value for low, high in pairs for a, b in zip(low, high, strict=True))


def read_limit(buckets: Any) -> Limit:
    """The limit that `buckets={"max_spread": 2}` or `buckets={"max_padding": 0.5}` names.

    Raises:
        OptionValueError: BH102.
    """
    advice = '{"max_spread": 2} (sizes within a bucket differ at most twofold), or {"max_padding": 0.5}'
    if not isinstance(buckets, Mapping) or len(buckets) != 1 or next(iter(buckets)) not in _LEAST:
        raise OptionValueError(f"buckets is {buckets!r}", why="it names one limit", advice=advice)
    [(name, value)] = buckets.items()
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not _LEAST[name] <= value < float("inf"):
        raise OptionValueError(f"{name} of buckets is {value!r}", why=f"it is at least {_LEAST[name]:g}", advice=advice)
    return Limit(name, float(value))


def plan_buckets(seen: Iterable[ShapeSet], limit: Limit) -> list[ShapeSet]:
    """Profiles that cover these sets of shapes of one segment, each within the limit.

    Each is the hull of its members. Their number is the least possible where all sets are in order, as they are where
    they vary in one dimension, or in several that grow together; and where there are at most 12 different sets. Beyond,
    they are filled greedily, the largest set first, which may need more. Sets of different ranks are never in one
    bucket. Ranges stay as they are.
    """
    distinct = list(dict.fromkeys(seen))
    planned = [shapes for shapes in distinct if shapes.is_range]
    groups: dict[tuple[int, ...], list[ShapeSet]] = {}
    for shapes in distinct:
        if not shapes.is_range:
            groups.setdefault(list_ranks(shapes), []).append(shapes)
    for group in groups.values():
        ordered = sorted(group, key=lambda item: (measure_volume(item.shapes), item.shapes))
        planned.extend(map(make_hull, _divide(ordered, limit)))
    return planned


def _divide(ordered: list[ShapeSet], limit: Limit) -> list[list[ShapeSet]]:
    """Groups of the sets, which are in the order of their volume."""
    if all(_is_within(a, b) for a, b in itertools.pairwise(ordered)):
        return _divide_chain(ordered, limit)
    return _search(ordered, limit) if len(ordered) <= MOST_TO_SEARCH else _fill(ordered, limit)


def _is_within(smaller: ShapeSet, larger: ShapeSet) -> bool:
    pairs = zip(smaller.shapes, larger.shapes, strict=True)
    return all(a <= b for low, high in pairs for a, b in zip(low, high, strict=True))


def _divide_chain(ordered: list[ShapeSet], limit: Limit) -> list[list[ShapeSet]]:
    """From the smallest on, each group as long as it can be: the hull of neighbours has the hull of any that skip some."""
    groups = [[ordered[0]]]
    for shapes in ordered[1:]:
        if limit.admits([groups[-1][0], shapes]):
            groups[-1].append(shapes)
        else:
            groups.append([shapes])
    return groups


def _search(ordered: list[ShapeSet], limit: Limit) -> list[list[ShapeSet]]:
    """Of all ways to divide the sets one with the fewest groups. A number stands for a group: bit i for set i."""
    everything = (1 << len(ordered)) - 1
    admitted = [False] * (everything + 1)
    for group in range(1, everything + 1):
        rest = group & (group - 1)  # without its lowest member: a part of a group that is too wide
        if rest == 0 or admitted[rest]:
            admitted[group] = limit.admits(_take(ordered, group))
    fewest, last = [0] * (everything + 1), [0] * (everything + 1)
    for left in range(1, everything + 1):
        lowest, fewest[left] = left & -left, len(ordered) + 1
        others = part = left ^ lowest
        while True:  # every group of those left that has the lowest of them
            group = part | lowest
            if admitted[group] and fewest[left ^ group] + 1 < fewest[left]:
                fewest[left], last[left] = fewest[left ^ group] + 1, group
            if part == 0:
                break
            part = (part - 1) & others
    groups, left = [], everything
    while left:
        groups.append(_take(ordered, last[left]))
        left ^= last[left]
    return groups


def _take(ordered: list[ShapeSet], group: int) -> list[ShapeSet]:
    return [shapes for index, shapes in enumerate(ordered) if group >> index & 1]


def _fill(ordered: list[ShapeSet], limit: Limit) -> list[list[ShapeSet]]:
    groups: list[list[ShapeSet]] = []
    left = ordered[::-1]
    while left:
        group: list[ShapeSet] = []
        for shapes in left:
            if limit.admits([*group, shapes]):
                group.append(shapes)
        groups.append(group)
        left = [shapes for shapes in left if shapes not in group]
    return groups
