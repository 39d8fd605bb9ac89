"""Which Keras layer, or TensorFlow name scope, a node belongs to: by its name, else by its neighbours."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence

_NUMBERED = re.compile(r"(__\d+)+$")  # of ONNX nodes that come of one TensorFlow node
# Scopes that functions of TensorFlow put around everything; nobody gave a layer such a name.
_WRAPPERS = re.compile(r"^((Stateful)?PartitionedCall(_\d+)?/)+")


def name_layers(readers: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Of each node the layer that it belongs to.

    That is the scope that its name has: `model/dense_1/MatMul` belongs to `model/dense_1`. A node without a scope, as
    translating makes several of one operation, belongs where its result goes, else where its inputs come from; failing both
    it is a layer of its own.

    Args:
        readers: Every node of the graph, in topological order, with the nodes that read what it computes.
    """
    own = {name: _read_scope(name) for name in readers}
    makers: dict[str, list[str]] = {name: [] for name in readers}
    for name, others in readers.items():
        for other in others:
            makers[other].append(name)
    after = _spread(own, makers)
    before = _spread(own, readers)
    return {
        name: scope or after.get(name, "") or before.get(name, "") or _write_name(name) for name, scope in own.items()
    }


def _read_scope(name: str) -> str:
    return _write_name(name).rpartition("/")[0]


def _write_name(name: str) -> str:
    return _WRAPPERS.sub("", _NUMBERED.sub("", name)) or name


def _spread(scopes: Mapping[str, str], edges: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Scopes handed on along edges, in one walk from all nodes that have one: each node gets that of the nearest."""
    found = {name: scope for name, scope in scopes.items() if scope}
    waiting = deque(found)
    while waiting:
        name = waiting.popleft()
        for other in edges[name]:
            if other not in found:
                found[other] = found[name]
                waiting.append(other)
    return found
