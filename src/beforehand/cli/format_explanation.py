"""An explanation as text for people: a few lines for two nodes, and for twenty thousand no more than a screen or two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from beforehand.cli.format_inspection import format_table
from beforehand.explanation.explanation import (
    CONVERTED,
    Change,
    ExplainedBackend,
    ExplainedGraph,
    ExplainedSegment,
    Explanation,
    NativeNode,
)

# Rows of each table, unless all are asked for.
_MOST = {"segments": 8, "layers": 12, "changes": 8}
_MOST_OPS = 4
_LONGEST = 100  # characters of a cause


def format_explanation(explanation: Explanation, *, is_all: bool = False) -> list[str]:
    """The lines to print; `is_all`: every layer and node."""
    lines = [
        f"{explanation.source}: {'a converted SavedModel' if explanation.kind == CONVERTED else 'nothing was built'}"
    ]
    for backend in explanation.backends:
        lines += _format_backend(backend, is_all=is_all)
    for skipped in explanation.skipped:
        lines += ["", f"{skipped.backend}: not asked: {skipped.why}. Try: {skipped.advice}"]
    if explanation.kind == CONVERTED:
        lines += ["", "What would bring more in is only known of its source: beforehand explain SOURCE"]
    return lines


def _format_backend(backend: ExplainedBackend, *, is_all: bool) -> list[str]:
    lines = []
    for graph in backend.graphs:
        lines += ["", f"{backend.backend} {backend.version}: {', '.join(graph.signatures)}"]
        lines += _format_graph(graph, is_all=is_all)
    return lines


def _format_graph(graph: ExplainedGraph, *, is_all: bool) -> list[str]:
    inside = graph.nodes - len(graph.native)
    lines = [
        f"  in engines     {inside:,} of {_count(graph.nodes, 'node')}, {_share(graph.flops_share)} of the arithmetic, in "
        + _count(len(graph.segments), "segment")
    ]
    if graph.segments:
        rows = [_list_segment(segment) for segment in graph.segments]
        lines += _limit(format_table(rows), "segments", is_all=is_all)
    if not graph.native:
        return [*lines, "  in TensorFlow  nothing"]
    lines.append(f"  in TensorFlow  {_count(len(graph.native), 'node')}")
    reasons = [
        (reason, f"{count:,}", _list_ops(node for node in graph.native if node.reason == reason))
        for reason, count in graph.count_reasons().items()
    ]
    lines += [f"    {line}" for line in format_table(reasons)]
    lines += _format_layers(graph, is_all=is_all)
    return [*lines, *_format_changes(graph.changes, is_all=is_all)]


def _list_segment(segment: ExplainedSegment) -> tuple[str, ...]:
    layers = [layer for layer in segment.layers if layer]
    where = layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]}" if layers else ""
    inside = f" (in a body of {segment.inside})" if segment.inside else ""
    return segment.name, _count(segment.nodes, "node"), _share(segment.flops_share), where + inside


def _format_layers(graph: ExplainedGraph, *, is_all: bool) -> list[str]:
    """A row for each layer with native nodes, those with most operations left out first; with `is_all` their nodes too."""
    groups: dict[str, list[NativeNode]] = {}
    for node in graph.native:
        groups.setdefault(node.layer, []).append(node)
    totals = {layer.name: layer.nodes for layer in graph.layers}
    flops = {name: sum(node.flops or 0 for node in nodes) for name, nodes in groups.items()}
    ordered = sorted(groups, key=lambda name: (-flops[name], -len(groups[name])))
    rows = [("by layer", "native nodes", "arithmetic", "what")]
    for name in ordered:
        of = f" of {totals[name]}" if name in totals else ""
        share = "unknown" if graph.flops is None else _share(flops[name] / graph.flops)
        rows.append((f"  {name}", f"{len(groups[name])}{of}", share, _list_ops(groups[name])))
    header, *lines = format_table(rows)
    if is_all:
        pairs = zip(ordered, lines, strict=True)
        return [f"  {header}", *(f"  {line}" for name, first in pairs for line in (first, *_list_nodes(groups[name])))]
    return [f"  {header}", *_limit(lines, "layers", is_all=False, indent="  ")]


def _list_nodes(nodes: Iterable[NativeNode]) -> Iterable[str]:
    for node in nodes:
        detail = f", {' '.join(node.detail.split())}" if node.detail else ""
        inside = f" in {node.inside}" if node.inside else ""
        yield f"      {node.name} ({node.op}){inside}: {node.reason}{detail}"


def _format_changes(changes: Sequence[Change], *, is_all: bool) -> list[str]:
    """Those that would bring something, with how much; the others by name, as together they might."""
    lines = []
    for change in changes:
        if change.nodes > 0:
            share = f" and {_share(change.flops_share)} of the arithmetic" if change.flops_share > 0 else ""
            gain = f"up to {_count(change.nodes, 'node')}{share} more, {_count(change.segments, 'segment')} in all"
            lines.append(f"{_describe_change(change)}\n        {gain}: {change.advice}")
    others = [change for change in changes if change.nodes <= 0]
    rest = [f"{_describe_change(change)}\n        {change.advice}" for change in others]
    return [
        *(["  would bring more into engines", *_limit(lines, "changes", is_all=is_all)] if lines else []),
        *(["  would bring nothing by itself", *_limit(rest, "changes", is_all=is_all)] if rest else []),
    ]


def _describe_change(change: Change) -> str:
    where = f" in {change.layers[0]}" + (
        f" and {_count(len(change.layers) - 1, 'layer')} more" * (len(change.layers) > 1)
    )
    ops = [op for op in change.ops if op not in change.what]
    listed = f": {', '.join(ops[:_MOST_OPS])}{'...' * (len(ops) > _MOST_OPS)}" if ops else ""
    return f"{change.reason}, {_cut(change.what)}: {_count(change.native_nodes, 'node')}{where}{listed}"


def _list_ops(nodes: Iterable[NativeNode]) -> str:
    """`RFFT 2x, ComplexAbs 1x, and 3 op types more`."""
    ops = Counter(node.op for node in nodes)
    listed = ", ".join(f"{op} {count}x" for op, count in ops.most_common(_MOST_OPS))
    return listed + (f", and {len(ops) - _MOST_OPS} op types more" if len(ops) > _MOST_OPS else "")


def _limit(lines: Sequence[str], what: str, *, is_all: bool, indent: str = "    ") -> list[str]:
    """The first of these lines, indented, and how many there are more."""
    most = len(lines) if is_all else _MOST[what]
    more = [f"    and {len(lines) - most:,} more; --all"] if len(lines) > most else []
    return [*(f"{indent}{line}" for line in lines[:most]), *more]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _share(share: float) -> str:
    """In percent; never 100 or 0 where it is not."""
    percent = 100 * share
    if 99.95 <= percent < 100:
        return "over 99.9%"
    if 0 < percent < 0.05:
        return "under 0.1%"
    return f"{percent:.1f}%"
