"""What would bring more of a graph into engines: each change is tried, by dividing the graph again as if it were made.

Nothing is lowered for it: of nodes that come in then, the translation or the backend may still refuse some.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from beforehand.backends.protocol import Backend
from beforehand.divide_graph import find_limits, find_support
from beforehand.explanation.advise_change import advise_change
from beforehand.explanation.explanation import Change
from beforehand.explanation.view_parts import PartView
from beforehand.options import Options
from beforehand.records import LeftOut, Partition, TensorSpec
from beforehand.runtime.tensorflow_private import find_op_def
from beforehand.segment import reasons
from beforehand.segment.find_candidates import Support, find_crossing_lists, find_left_out
from beforehand.segment.segment_graph import SegmentLimits, segment_graph

# Causes that are tried, those of the most nodes first; more would not be read.
MOST_CHANGES = 20
# Why these stay native follows from what is around them.
_NOT_TRIED = (reasons.NO_INPUT, reasons.TOO_LITTLE)
# What the lowering says of each node by name, before it says why; and what tf2onnx adds for its developers.
_NAMED = re.compile(r"^BH302 an engine would not compute exactly [^.]*\. ")
_FAILED = ": Failed to convert node"
_TAKEN_OUT = (reasons.RESOURCE_OR_STRING, reasons.STATEFUL)
_SIZES = {reasons.TOO_SMALL: "minimum_segment_size", reasons.TOO_MANY: "max_engines"}


@dataclasses.dataclass(frozen=True)
class _Cause:
    reason: str
    what: str


@dataclasses.dataclass(frozen=True)
class _Trial:
    """How a part would be divided: what may enter, how large segments are, and which nodes are let in whatever they are."""

    support: Support
    limits: SegmentLimits
    tensors: Mapping[str, TensorSpec]
    freed: frozenset[str] = frozenset()


def find_changes(top: PartView, options: Options, backend: Backend) -> tuple[Change, ...]:
    """The changes that would help, the most operations first, then the most nodes.

    Args:
        top: The graph of a signature.
        options: Of the conversion.
        backend: Who is to build the engines.
    """
    support, views = find_support(options, backend), list(top.walk())
    causes: dict[_Cause, list[tuple[PartView, LeftOut]]] = {}
    for view in views:
        for node in view.part.left_out:
            if node.reason not in _NOT_TRIED:
                causes.setdefault(_name_cause(node, support), []).append((view, node))
    asked = sorted(causes, key=lambda cause: -len(causes[cause]))[:MOST_CHANGES]
    changes = [_try_change(cause, causes[cause], views, options, backend) for cause in asked]
    return tuple(sorted(changes, key=lambda change: (-change.flops_share, -change.nodes, change.what)))


def _name_cause(node: LeftOut, support: Support) -> _Cause:
    what = node.op
    if node.reason in _SIZES:
        what = _SIZES[node.reason]
    elif node.reason == reasons.EXCLUDED:
        what = node.op if node.op in support.denied_ops else "nodes_denylist"
    elif node.reason in (reasons.DTYPE, reasons.RESOURCE_OR_STRING):
        what = node.detail.rpartition(" is ")[2]
        what = "variant" if " " in what else what  # of a list that native nodes use the detail has no dtype
    elif node.reason == reasons.UNKNOWN_RANK:
        what = "the rank of a tensor is not known"
    elif node.reason == reasons.REFUSED:
        what = _shorten(node)
    elif node.reason == reasons.CONTROL_FLOW:
        what = node.detail
    return _Cause(node.reason, what or node.op)


def _shorten(node: LeftOut) -> str:
    """Why a node is refused, without what differs from one node to the next, so that they count as one cause."""
    text = _NAMED.sub("", node.detail.replace(node.name, node.op))
    return " ".join(text.partition(_FAILED)[0].split()).removeprefix("BH302 ").rstrip(". ")


def _try_change(
    cause: _Cause,
    nodes: list[tuple[PartView, LeftOut]],
    views: list[PartView],
    options: Options,
    backend: Backend,
) -> Change:
    total = max(1, views[0].part.flops)
    # What is taken out of the model is not in engines then either.
    more_nodes = -len(nodes) if cause.reason in _TAKEN_OUT else 0
    more_flops = 0
    segments = sum(len(view.part.segments) for view in views)
    # A loop that enters whole takes its bodies along, so bodies are tried where the cause is in them alone.
    for view in {id(view): view for view, _ in nodes}.values():
        names = frozenset(node.name for other, node in nodes if other is view)
        trial = _make_trial(view, cause, names, options, backend)
        before, after = _measure(view, view.part), _measure(view, _divide(view, trial))
        more_nodes += after[0] - before[0]
        more_flops += after[1] - before[1]
        segments += after[2] - before[2]
    return Change(
        cause.reason, cause.what, len(nodes), tuple(sorted({node.op for _, node in nodes})),
        tuple(dict.fromkeys(view.layers[node.name] for view, node in nodes)),
        max(0, more_nodes), max(0.0, more_flops / total), segments, advise_change(cause.reason, cause.what, options, backend),
    )  # fmt: skip


def _make_trial(view: PartView, cause: _Cause, names: frozenset[str], options: Options, backend: Backend) -> _Trial:
    support = find_support(options, backend)
    refused = {node.name: node.detail for node in view.part.left_out if node.reason == reasons.REFUSED}
    support = dataclasses.replace(support, refused=tuple(refused.items()))
    limits = find_limits(options, is_body=bool(view.inside))
    change: dict[str, Any] = {}
    if cause.reason == reasons.OP_UNSUPPORTED:
        change["ops"] = support.ops | {cause.what}
    elif cause.reason == reasons.DTYPE:
        change["dtypes"] = support.dtypes | {cause.what}
    elif cause.reason == reasons.REFUSED:
        change["refused"] = tuple((name, why) for name, why in refused.items() if name not in names)
    elif cause.reason == reasons.EXCLUDED:
        change["denied_ops"] = support.denied_ops - {cause.what}
        change["denied_nodes"] = support.denied_nodes - names
    elif cause.reason == reasons.TOO_SMALL:
        limits = dataclasses.replace(limits, minimum_size=1)
    elif cause.reason == reasons.TOO_MANY:
        limits = dataclasses.replace(limits, max_segments=0)
    elif cause.reason == reasons.UNKNOWN_RANK:
        known = {name: spec if spec.shape is not None else _rank(spec) for name, spec in view.tensors.items()}
        return _Trial(support, limits, known)
    if not change and cause.reason not in _SIZES:
        return _Trial(support, limits, view.tensors, names)
    return _Trial(dataclasses.replace(support, **change), limits, view.tensors)


def _rank(spec: TensorSpec) -> TensorSpec:
    return dataclasses.replace(spec, shape=())


def _divide(view: PartView, trial: _Trial) -> Partition:
    """The part divided anew; nodes in bodies stay as they are."""
    graph = view.part.graph
    left_out = find_left_out(graph, trial.tensors, trial.support, find_op_def)
    left_out = {name: node for name, node in left_out.items() if name not in trial.freed}
    opened = {item.node: item for item in view.part.opened if item.node in left_out}
    while True:
        partition = segment_graph(graph, trial.tensors, left_out, trial.limits, opened, view.flops)
        crossing = find_crossing_lists(partition)
        if not crossing:
            return partition
        left_out.update(crossing)


def _measure(view: PartView, part: Partition) -> tuple[int, int, int]:
    """Nodes and operations in segments, and their number, of a part divided in some way, with the bodies still opened."""
    pairs = [(view, segment) for segment in part.segments]
    for opened in part.opened:
        for body in view.bodies[opened.node]:
            pairs += [(inner, segment) for inner in body.walk() for segment in inner.part.segments]
    nodes = sum(len(owner.list_nodes(segment)) for owner, segment in pairs)
    return nodes, sum(owner.sum_flops(segment) for owner, segment in pairs), len(pairs)
