"""The nodes for which a backend, or the lowering, refuses a segment: found by trying parts of it.

A run of nodes in topological order that lies within a convex segment is convex itself, so it can be tried alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from beforehand.backends.protocol import Refusal

# What comes of trying some nodes as segments of their own; None if nothing is refused.
TryNodes = Callable[[Sequence[str]], "Refusal | None"]

_NUMBERED = re.compile(r"__\d+$")


def find_refused(nodes: Sequence[str], refusal: Refusal, try_nodes: TryNodes) -> dict[str, str]:
    """Of each node that is refused, the reason; never empty, and the same for the same segment.

    Nodes that the refusal names are tried alone, each once: a name is a hint, not a proof. If that explains nothing,
    the segment is halved: with k of n nodes refused it takes about 2 k log2(n / k) trials. Nodes that are refused only
    together with others count as one, the last of them in order.

    Args:
        nodes: All nodes of the refused segment, in topological order.
        refusal: What was said of the whole segment.
        try_nodes: Tries a run of these nodes.
    """
    found: dict[str, str] = {}
    for name in match_names(refusal.nodes, nodes):
        alone = refusal if len(nodes) == 1 else try_nodes([name])
        if alone:
            found[name] = alone.reason
    return found or _halve(nodes, refusal, try_nodes)


def match_names(onnx_names: Iterable[str], nodes: Iterable[str]) -> list[str]:
    """The TensorFlow nodes that ONNX nodes came from, each once: the writer may have added a number, `name__2`."""
    known = set(nodes)
    names = (name if name in known else _NUMBERED.sub("", name) for name in onnx_names)
    return [name for name in dict.fromkeys(names) if name in known]


def _halve(nodes: Sequence[str], refusal: Refusal, try_nodes: TryNodes) -> dict[str, str]:
    if len(nodes) == 1:
        return {nodes[0]: refusal.reason}
    middle = len(nodes) // 2
    found: dict[str, str] = {}
    for half in (nodes[:middle], nodes[middle:]):
        refused = try_nodes(half)
        if refused:
            found.update(_halve(half, refused, try_nodes))
    return found or _find_last(nodes, middle, refusal, try_nodes)


def _find_last(nodes: Sequence[str], accepted: int, refusal: Refusal, try_nodes: TryNodes) -> dict[str, str]:
    """Where neither half is refused alone: the node with which the nodes from the first on come to be refused."""
    refused = len(nodes)
    while refused - accepted > 1:
        middle = (accepted + refused) // 2
        told = try_nodes(nodes[:middle])
        if told:
            refused, refusal = middle, told
        else:
            accepted = middle
    return {nodes[refused - 1]: refusal.reason}
