"""Buckets: every shape is covered, no bucket is wider than its limit, and there are as few as can be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beforehand.errors import OptionValueError
from beforehand.profiles.measure_shapes import measure_volume
from beforehand.profiles.plan_buckets import MOST_TO_SEARCH, Limit, plan_buckets, read_limit
from beforehand.records import ShapeSet

LIMITS = st.sampled_from([Limit("max_spread", value) for value in (1.0, 1.5, 2.0, 4.0)]) | st.sampled_from(
    [Limit("max_padding", value) for value in (0.0, 0.25, 1.0, 3.0)]
)
SIZE = st.integers(1, 9)
PAIRS = st.tuples(SIZE, SIZE).map(lambda shape: ShapeSet(("a",), (shape,)))
TWO_INPUTS = st.tuples(SIZE, SIZE).map(lambda sizes: ShapeSet(("a", "b"), ((sizes[0], 3), (sizes[1],))))
LENGTHS = st.integers(1, 500).map(lambda length: ShapeSet(("a", "b"), ((1, length), (1, length, 8))))
ANY = st.lists(PAIRS, max_size=30) | st.lists(TWO_INPUTS, max_size=30) | st.lists(LENGTHS, max_size=60)


def is_within(bucket: ShapeSet, seen: list[ShapeSet], limit: Limit) -> bool:
    """The limit, as the documentation has it."""
    largest = bucket.max_shapes or bucket.shapes
    if limit.name == "max_spread":
        pairs = zip(bucket.shapes, largest, strict=True)
        return all(b / a <= limit.value for low, high in pairs for a, b in zip(low, high, strict=True))
    # A member of another bucket may lie within this one too: the least padded way counts, so ask only for some members.
    members = [item for item in seen if bucket.contains(item.shapes)]
    paddings = [measure_volume(largest) / measure_volume(item.shapes) - 1 for item in members]
    return min(paddings) <= limit.value


def count_fewest(seen: list[ShapeSet], limit: Limit) -> int:
    """The least number of groups, by trying every way to divide the shapes."""
    best = len(seen)

    def place(left: list[ShapeSet], groups: list[list[ShapeSet]]) -> None:
        nonlocal best
        if len(groups) >= best and left:
            return
        if not left:
            best = min(best, len(groups))
            return
        for group in groups:
            if limit.admits([*group, left[0]]):
                group.append(left[0])
                place(left[1:], groups)
                group.pop()
        place(left[1:], [*groups, [left[0]]])

    place(seen, [])
    return best


@given(ANY, LIMITS)
def test_every_shape_is_covered_within_the_limit(seen: list[ShapeSet], limit: Limit) -> None:
    buckets = plan_buckets(seen, limit)
    assert len(buckets) == len(set(buckets)) <= len(set(seen))
    assert all(is_within(bucket, seen, limit) for bucket in buckets)
    for shapes in seen:
        holding = [bucket for bucket in buckets if bucket.contains(shapes.shapes)]
        assert holding
        if limit.name == "max_padding":
            least = min(measure_volume(bucket.max_shapes or bucket.shapes) for bucket in holding)
            assert least <= (1 + limit.value) * measure_volume(shapes.shapes) * (1 + 1e-12)


@settings(deadline=None, max_examples=60)
@given(st.lists(PAIRS, max_size=7, unique=True) | st.lists(TWO_INPUTS, max_size=7, unique=True), LIMITS)
def test_few_shapes_have_the_fewest_buckets_of_all(seen: list[ShapeSet], limit: Limit) -> None:
    assert len(plan_buckets(seen, limit)) == count_fewest(seen, limit)


@settings(deadline=None)
@given(st.lists(LENGTHS, max_size=8, unique=True), LIMITS)
def test_shapes_of_one_varying_dimension_have_the_fewest_buckets(seen: list[ShapeSet], limit: Limit) -> None:
    assert len(plan_buckets(seen, limit)) == count_fewest(seen, limit)


def test_fifty_lengths_of_a_text_within_twofold() -> None:
    seen = [ShapeSet(("ids",), ((1, length),)) for length in range(8, 513, 8)]
    assert [bucket.describe() for bucket in plan_buckets(seen, Limit("max_spread", 2))] == [
        "ids=1x8..16", "ids=1x24..48", "ids=1x56..112", "ids=1x120..240", "ids=1x248..496", "ids=1x504..512",
    ]  # fmt: skip


def test_twelve_shapes_are_divided_better_than_greedily() -> None:
    """The largest takes (4, 5), which the others need."""
    seen = [ShapeSet(("a",), (shape,)) for shape in ((8, 5), (4, 5), (4, 10), (2, 10), (8, 3))]
    assert len(seen) <= MOST_TO_SEARCH
    assert len(plan_buckets(seen, Limit("max_spread", 2))) == count_fewest(seen, Limit("max_spread", 2)) == 2


def test_ranks_are_never_mixed_and_ranges_stay() -> None:
    ranged = ShapeSet(("a",), ((1, 3),), ((9, 3),))
    seen = [ShapeSet(("a",), ((2, 3),)), ranged, ShapeSet(("a",), ((3, 3, 1),)), ShapeSet(("a",), ((3, 3),)), ranged]
    found = [bucket.describe() for bucket in plan_buckets(seen, Limit("max_padding", 1.0))]
    assert found == ["a=1..9x3", "a=2..3x3", "a=3x3x1"]


@pytest.mark.parametrize(
    ("buckets", "words"),
    [
        ({}, "it names one limit"),
        ({"max_spread": 2, "max_padding": 1}, "it names one limit"),
        ({"spread": 2}, "it names one limit"),
        (2, "it names one limit"),
        ({"max_spread": 0.5}, "max_spread of buckets is 0.5. it is at least 1"),
        ({"max_padding": -1}, "max_padding of buckets is -1. it is at least 0"),
        ({"max_padding": "1"}, "max_padding of buckets is '1'"),
        ({"max_padding": float("nan")}, "max_padding of buckets is nan"),
        ({"max_spread": True}, "max_spread of buckets is True"),
    ],
)
def test_what_is_no_limit_is_refused(buckets: Any, words: str) -> None:
    with pytest.raises(OptionValueError, match="BH102") as caught:
        read_limit(buckets)
    assert words in str(caught.value)
    assert "max_spread" in str(caught.value)


def test_limits_are_read() -> None:
    assert read_limit({"max_spread": 2}) == Limit("max_spread", 2.0)
    assert read_limit({"max_padding": 0}) == Limit("max_padding", 0.0)
