"""The search for a minimal set of parts, over budgets that are monotonic and such as are not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beforehand.accuracy.search import Found, count_trials, search_parts

NAMES = tuple(f"p{i}" for i in range(40))


class Counted:
    """A budget that notes which sets were tried."""

    def __init__(self, holds: Callable[[frozenset[str]], bool]) -> None:
        self._holds = holds
        self.tried: list[frozenset[str]] = []

    def __call__(self, chosen: frozenset[str]) -> bool:
        self.tried.append(chosen)
        return self._holds(chosen)


def check_minimal(found: Found, holds: Callable[[frozenset[str]], bool]) -> None:
    assert found.parts is not None
    chosen = frozenset(found.parts)
    assert holds(chosen)
    assert not any(chosen and holds(chosen - {part}) for part in chosen)


@given(st.sets(st.sampled_from(NAMES), min_size=1, max_size=6), st.permutations(NAMES), st.booleans())
def test_planted_culprits_are_found_and_nothing_else(culprits: set[str], order: list[str], is_ranked: bool) -> None:
    holds = Counted(lambda chosen: culprits <= chosen)
    found = search_parts(order, holds, 1000, is_ranked=is_ranked)
    assert found == Found(tuple(part for part in order if part in culprits), len(holds.tried), is_minimal=True)
    # All once; for each culprit a bisection, a galloping one of ranked parts; for each the check without it.
    galloping = 1 + len(culprits) * (2 * math.ceil(math.log2(len(NAMES))) + 3)
    assert found.trials <= (galloping if is_ranked else count_trials(len(NAMES), len(culprits)))
    assert len(set(holds.tried)) == len(holds.tried)
    assert frozenset() not in holds.tried


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 1))
def test_of_errors_that_add_up_a_set_is_left_of_which_all_are_needed(errors: list[float], share: float) -> None:
    parts = {f"p{i}": error for i, error in enumerate(errors)}
    budget = share * sum(errors)

    def holds(chosen: frozenset[str]) -> bool:
        return sum(error for part, error in parts.items() if part not in chosen) <= budget

    if holds(frozenset()):
        return
    found = search_parts(sorted(parts, key=parts.__getitem__, reverse=True), holds, 1000)
    assert found.is_minimal
    check_minimal(found, holds)


@given(st.integers(1, 6), st.data())
@settings(max_examples=300)
def test_also_where_more_parts_can_break_it_again_the_set_is_minimal(size: int, data: st.DataObject) -> None:
    names = NAMES[:size]
    subsets = [frozenset(n for i, n in enumerate(names) if bits >> i & 1) for bits in range(1, 2**size)]
    table = {subset: data.draw(st.booleans()) for subset in subsets}
    table[frozenset()] = False
    found = search_parts(names, table.__getitem__, 1000)
    if not table[frozenset(names)]:
        assert found == Found(None, 1, is_minimal=False)
        return
    assert found.is_minimal
    check_minimal(found, table.__getitem__)


@given(st.sets(st.sampled_from(NAMES), min_size=1, max_size=8), st.integers(0, 30))
def test_the_bound_holds_and_what_is_known_by_then_is_right(culprits: set[str], most: int) -> None:
    holds = Counted(lambda chosen: culprits <= chosen)
    found = search_parts(NAMES, holds, most)
    assert found.trials == len(holds.tried) <= most
    assert (found.parts is None) == (most == 0)
    if found.parts is not None:
        assert culprits <= set(found.parts)
    if found.is_minimal:
        assert culprits == set(found.parts or ())


def test_a_likely_culprit_first_in_the_order_costs_two_trials() -> None:
    holds = Counted(lambda chosen: "p7" in chosen)
    assert search_parts(["p7", *NAMES], holds, 20) == Found(("p7",), 2, is_minimal=True)


@pytest.mark.parametrize("parts", [(), NAMES])
def test_where_nothing_helps_one_trial_says_so(parts: tuple[str, ...]) -> None:
    found = search_parts(parts, lambda chosen: False, 20)
    assert (found.parts, found.is_minimal) == (None, False)
    assert found.trials == (1 if parts else 0)
