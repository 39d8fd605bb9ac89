"""The section with the graph, and the data that its script needs."""

from __future__ import annotations

import json

from beforehand.report.draw_graph import describe_block, draw_graph
from beforehand.report.format_values import format_count, format_share
from beforehand.report.markup import Markup, escape, join, tag
from beforehand.report.render_table import render_note
from beforehand.report.report_records import SEGMENT, Block, GraphOutline, Report

_HINT = (
    "Drag to move; Ctrl or ⌘ with the wheel, or two fingers, to zoom. Where the graph has the focus, + and - zoom, 0 shows all "
    "of it, arrows move, n and p go to the next and previous block."
)


def render_graph(report: Report) -> Markup:
    """Segments and native nodes, as blocks in the direction of the data."""
    if not report.graphs:
        return render_note("The graph is not known: the folder holds neither its outline nor segments.")
    words = [tag("label", {"for": "graph-search", "class": "note"}, escape("Search"))]
    words.append(
        tag(
            "input",
            {
                "type": "search",
                "id": "graph-search",
                "placeholder": "layer, operation or reason",
                "autocomplete": "off",
                "spellcheck": "false",
            },
        )
    )
    if len(report.graphs) > 1:
        choices = [tag("option", {"value": i}, escape(graph.title)) for i, graph in enumerate(report.graphs)]
        words.append(tag("select", {"id": "graph-choice", "aria-label": "Graph"}, *choices))
    words += [
        tag("button", {"type": "button", "id": name, "aria-label": label}, escape(text))
        for name, label, text in (
            ("zoom-out", "Zoom out", "\N{MINUS SIGN}"),
            ("zoom-in", "Zoom in", "+"),
            ("zoom-fit", "Show all of it", "Fit"),
        )
    ]
    drawn = [draw_graph(graph) for graph in report.graphs]
    canvas = {
        "class": "canvas",
        "tabindex": 0,
        "role": "group",
        "aria-label": "Graph of segments and native nodes; the search beside it lists the blocks",
    }
    side = {"class": "side", "tabindex": 0, "role": "region", "aria-label": "Details of the graph"}
    notes = [render_note(_HINT, "note hint")]
    if not all(graph.has_edges for graph in report.graphs):
        notes.append(
            render_note(
                "Edges through native nodes are not shown: the outline made at the conversion is not in this folder."
            )
        )
    return join(
        tag("p", None, escape(_tell_graph(report))), tag("div", {"class": "graph-bar"}, *words),
        tag("div", {"class": "graph-area"}, tag("div", canvas, *drawn), tag("div", side)), _render_key(), *notes,
    )  # fmt: skip


def encode_graphs(report: Report) -> str:
    """What the script shows of each block, as JSON that can stand in a `script` element: no `<` is in it."""
    lines = _find_lines(report)
    graphs = [
        {
            "title": graph.title,
            "largest": _find_largest(graph),
            "blocks": [_encode_block(block, lines) for block in graph.blocks],
        }
        for graph in report.graphs
    ]
    text = json.dumps({"graphs": graphs}, separators=(",", ":"))  # ASCII, so that U+2028 is escaped too
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _find_largest(graph: GraphOutline) -> int | None:
    """The block that is told of first: the largest segment."""
    segments = [(block.nodes, -index) for index, block in enumerate(graph.blocks) if block.kind == SEGMENT]
    return -max(segments)[1] if segments else None


def _encode_block(block: Block, lines: dict[str, list[str]]) -> dict[str, object]:
    told = lines.get(block.name, []) if block.kind == SEGMENT else []
    counts = {"layers": block.layers, "ops": block.ops, "reasons": block.reasons}
    return {"name": block.name, "told": describe_block(block), "lines": told, **counts}


def _find_lines(report: Report) -> dict[str, list[str]]:
    """Of each segment, its share of the arithmetic and its engines."""
    lines = {segment.name: [f"{format_share(segment.flops_share)} of the arithmetic"] for segment in report.segments}
    for engine in report.engines:
        lines[engine.segment].append(f"engine for {engine.shapes.describe()}, {engine.precision_run}")
    for segment in report.segments:
        if not segment.engines:
            lines[segment.name].append("no engine: TensorFlow runs it")
    return lines


def _tell_graph(report: Report) -> str:
    segments, native = len(report.segments), len(report.native_nodes)
    told = "one segment" if segments == 1 else f"{format_count(segments)} segments"
    rest = "nothing is left in TensorFlow" if not native else f"{format_count(native)} nodes stay in TensorFlow"
    return f"The graph is divided into {told}, which engines can run; {rest}. Data flow from top to bottom."


def _render_key() -> Markup:
    """The three kinds of blocks."""
    items = []
    for kind, told in (
        ("segment", "segment, for engines"),
        ("native", "native nodes, in TensorFlow"),
        ("input", "input or output"),
    ):
        box = tag("rect", {"x": 1, "y": 1, "width": 10, "height": 10, "rx": 5 if kind == "input" else 2})
        items.append(
            tag(
                "li",
                None,
                tag("svg", {"viewBox": "0 0 12 12", "aria-hidden": "true"}, tag("g", {"class": f"block {kind}"}, box)),
                escape(told),
            )
        )
    return tag("ul", {"class": "key"}, *items)
