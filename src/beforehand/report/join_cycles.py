"""Blocks that read of each other both ways become one, so that what is drawn has a direction."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping

_Key = tuple[str, str]


def join_cycles(
    members: Mapping[_Key, list[str]], reads: Mapping[_Key, set[_Key]]
) -> tuple[dict[_Key, list[str]], dict[_Key, set[_Key]]]:
    """The same blocks and edges, each strongly connected part as its first block. Method: Tarjan's, without recursion."""
    first = {key: part[0] for part in _find_parts(reads, list(members)) for key in part}
    joined: dict[_Key, list[str]] = {}
    edges: dict[_Key, set[_Key]] = {}
    for key, names in members.items():
        joined.setdefault(first[key], []).extend(names)
        edges.setdefault(first[key], set()).update(first[other] for other in reads[key] if first[other] != first[key])
    return joined, edges


def sort_blocks(reads: Mapping[_Key, set[_Key]]) -> list[_Key]:
    """Topological order, the same for equal graphs."""
    place = {key: index for index, key in enumerate(reads)}
    ordered = {key: sorted(before, key=place.__getitem__) for key, before in reads.items()}
    return list(graphlib.TopologicalSorter(ordered).static_order())


def _find_parts(reads: Mapping[_Key, set[_Key]], order: list[_Key]) -> list[list[_Key]]:
    """Strongly connected parts, each in the order given."""
    place = {key: index for index, key in enumerate(order)}
    number: dict[_Key, int] = {}
    low: dict[_Key, int] = {}
    stack: list[_Key] = []
    on_stack: set[_Key] = set()
    parts = []
    for root in order:
        work = [(root, iter(sorted(reads[root], key=place.__getitem__)))] if root not in number else []
        if work:
            number[root] = low[root] = len(number)
            stack.append(root)
            on_stack.add(root)
        while work:
            key, others = work[-1]
            for other in others:
                if other not in number:
                    number[other] = low[other] = len(number)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(sorted(reads[other], key=place.__getitem__))))
                    break
                if other in on_stack:
                    low[key] = min(low[key], number[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[key])
                if low[key] == number[key]:
                    part: list[_Key] = []
                    while not part or part[-1] != key:
                        part.append(stack.pop())
                        on_stack.discard(part[-1])
                    parts.append(sorted(part, key=place.__getitem__))
    return parts
