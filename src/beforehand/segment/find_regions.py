"""TensorFlow 1's control flow (Switch, Merge, Enter, Exit): which nodes must stay together.

What lies between Switch and Merge runs on one side only, what lies between Enter and Exit once for each iteration: an
engine there, or one that holds such a node and one from outside, would be run when it must not be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_LOOP_STARTS = frozenset({"Enter", "RefEnter"})
_LOOP_ENDS = frozenset({"Exit", "RefExit"})
_SWITCHES = frozenset({"Switch", "RefSwitch", "_SwitchN", "SwitchN"})
_MERGES = frozenset({"Merge", "RefMerge"})
_BACK = frozenset({"NextIteration", "RefNextIteration"})
_OPS = _LOOP_STARTS | _LOOP_ENDS | _SWITCHES | _MERGES | _BACK


def find_regions(nodes: Mapping[str, Any]) -> dict[str, str]:
    """Of each node that belongs to a loop or branch of TensorFlow 1, the region: a name that all of one region share.

    Args:
        nodes: The nodes of a flat graph by name, in topological order but for the back edges of loops.
    """
    if not any(node.op in _OPS for node in nodes.values()):
        return {}
    before = {name: [t.lstrip("^").partition(":")[0] for t in node.input] for name, node in nodes.items()}
    loops = _find_loops(nodes, before)
    inside = loops | _find_branches(nodes, before, loops)
    return _close_regions(nodes, before, _join(inside, before))


def _find_loops(nodes: Mapping[str, Any], before: Mapping[str, list[str]]) -> set[str]:
    """What can be reached from an Enter without passing an Exit, both included."""
    after: dict[str, list[str]] = {name: [] for name in nodes}
    for name, inputs in before.items():
        for other in inputs:
            after[other].append(name)
    waiting = [name for name, node in nodes.items() if node.op in _LOOP_STARTS]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            if nodes[name].op not in _LOOP_ENDS:
                waiting.extend(after[name])
    return found


def _find_branches(nodes: Mapping[str, Any], before: Mapping[str, list[str]], loops: set[str]) -> set[str]:
    """What lies between a Switch and its Merge, both included, outside of loops."""
    depth: dict[str, int] = {}
    found: set[str] = set()
    for name, node in nodes.items():
        level = max((depth.get(other, 0) for other in before[name]), default=0)
        if name not in loops and node.op in _SWITCHES:
            level += 1
        if level:
            found.add(name)
        if name not in loops and node.op in _MERGES:
            level = max(0, level - 1)
            found.add(name)
        depth[name] = level
    return found


def _join(inside: set[str], before: Mapping[str, list[str]]) -> dict[str, str]:
    """Connected parts of `inside`, each named after its first node."""
    region = {name: name for name in before if name in inside}

    def find(name: str) -> str:
        while region[name] != name:
            region[name] = region[region[name]]
            name = region[name]
        return name

    for name in region:
        for other in before[name]:
            if other in region:
                region[find(name)] = find(other)
    return {name: find(name) for name in region}


def _close_regions(
    nodes: Mapping[str, Any], before: Mapping[str, list[str]], region: Mapping[str, str]
) -> dict[str, str]:
    """Regions with all nodes on paths from a region back to itself, so that the regions have an order.

    Method: a region is one vertex; the strongly connected components (Tarjan 1972) are the closed regions.
    """
    unit = {name: region.get(name, name) for name in nodes}
    edges: dict[str, dict[str, None]] = {unit[name]: {} for name in nodes}
    for name, inputs in before.items():
        edges[unit[name]].update((unit[other], None) for other in inputs if unit[other] != unit[name])
    closed: dict[str, str] = {}
    for component in _find_components(edges):
        if len(component) > 1 or component[0] in region:
            closed.update(dict.fromkeys(component, min(component)))
    return {name: closed[unit[name]] for name in nodes if unit[name] in closed}


def _find_components(edges: Mapping[str, Iterable[str]]) -> list[list[str]]:
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    held: list[str] = []
    is_held: set[str] = set()
    components: list[list[str]] = []
    for root in edges:
        work = [(root, iter(edges[root]))] if root not in index else []
        if work:
            index[root] = low[root] = len(index)
            held.append(root)
            is_held.add(root)
        while work:
            name, rest = work[-1]
            other = next((o for o in rest if o not in index or o in is_held), None)
            if other is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    start = held.index(name)
                    components.append(held[start:])
                    is_held.difference_update(held[start:])
                    del held[start:]
            elif other in index:
                low[name] = min(low[name], index[other])
            else:
                index[other] = low[other] = len(index)
                held.append(other)
                is_held.add(other)
                work.append((other, iter(edges[other])))
    return components
