"""Which nodes a refusal is about: found by trials, few of them, and never taken on a name alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from beforehand.backends.protocol import Refusal
from beforehand.segment.find_refused import find_refused, match_names

NODES = [f"scope/n{i}" for i in range(100)]


class Backend:
    """Refuses what holds one of these sets of nodes, and names what it was told to name."""

    def __init__(self, *refused: frozenset[str] | set[str], names: Sequence[str] = ()) -> None:
        self.refused = refused
        self.names = tuple(names)
        self.trials: list[tuple[str, ...]] = []

    def say(self, nodes: Sequence[str]) -> Refusal | None:
        held = [group for group in self.refused if group <= set(nodes)]
        return Refusal("no " + ", ".join(sorted(held[0])), self.names) if held else None

    def try_nodes(self, nodes: Sequence[str]) -> Refusal | None:
        self.trials.append(tuple(nodes))
        return self.say(nodes)

    def find(self, nodes: Sequence[str] = NODES) -> dict[str, str]:
        refusal = self.say(nodes)
        assert refusal
        return find_refused(nodes, refusal, self.try_nodes)


def test_a_node_that_is_named_is_tried_alone_and_nothing_else() -> None:
    backend = Backend({NODES[41]}, names=[f"{NODES[41]}__7"])
    assert backend.find() == {NODES[41]: "no scope/n41"}
    assert backend.trials == [(NODES[41],)]


def test_a_node_that_is_named_wrongly_is_not_refused() -> None:
    backend = Backend({NODES[41]}, names=["scope/n7", "made_by_the_writer"])
    assert backend.find() == {NODES[41]: "no scope/n41"}
    assert backend.trials[0] == ("scope/n7",)


def test_without_names_a_node_among_a_hundred_is_found_in_14_trials() -> None:
    for number in (0, 41, 99):
        backend = Backend({NODES[number]})
        assert backend.find() == {NODES[number]: f"no {NODES[number]}"}
        assert len(backend.trials) <= 14


def test_nodes_refused_only_together_count_as_the_last_of_them() -> None:
    backend = Backend({NODES[10], NODES[80]})
    assert backend.find() == {NODES[80]: "no scope/n10, scope/n80"}
    assert len(backend.trials) <= 2 + math.ceil(math.log2(len(NODES)))


def test_a_segment_of_one_node_needs_no_trial() -> None:
    for names in ((), ("only",)):
        backend = Backend({"only"}, names=names)
        assert backend.find(["only"]) == {"only": "no only"}
        assert backend.trials == []


@given(st.integers(1, 60), st.data())
def test_all_nodes_refused_for_themselves_are_found_at_once_and_always_the_same(size: int, data: st.DataObject) -> None:
    nodes = NODES[:size]
    bad = data.draw(st.sets(st.sampled_from(nodes), min_size=1))
    backend, again = Backend(*({name} for name in bad)), Backend(*({name} for name in bad))
    found = backend.find(nodes)
    assert found == {name: f"no {name}" for name in bad}
    assert again.find(nodes) == found
    assert again.trials == backend.trials
    assert len(backend.trials) <= 2 * len(bad) * (math.ceil(math.log2(size)) or 1)
    runs = [nodes[nodes.index(trial[0]) :][: len(trial)] for trial in backend.trials]
    assert [tuple(run) for run in runs] == backend.trials  # runs of the order: convex


@given(st.sets(st.integers(0, 30), min_size=1, max_size=6))
def test_whatever_is_refused_something_is_found_and_without_it_less_is_refused(members: set[int]) -> None:
    nodes = NODES[:31]
    group = {nodes[i] for i in members}
    [found] = Backend(group).find(nodes)
    assert found in group


def test_names_are_matched_as_they_are_first_and_without_a_number_then() -> None:
    assert match_names(["a__2", "a__2", "b__3", "c", "weights"], ["a__2", "a", "b", "c"]) == ["a__2", "b", "c"]
