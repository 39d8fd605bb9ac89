"""A graph outline as SVG; the page's script zooms and searches it, and without a script it is there as a whole."""

from __future__ import annotations

from beforehand.report.format_values import format_count
from beforehand.report.lay_out_graph import HEIGHT, WIDTH, lay_out_graph
from beforehand.report.markup import Markup, escape, tag
from beforehand.report.report_records import INPUT, OUTPUT, SEGMENT, Block, GraphOutline

_NAME_ROOM, _TOLD_ROOM = 28, 35  # letters that a box holds of a name, and of what is told below it
_MARGIN = 12


def draw_graph(outline: GraphOutline) -> Markup:
    """One `svg`; each block is a `g` with its index in `data-block`."""
    drawing = lay_out_graph(outline)
    edges = [tag("path", {"d": _write_path(route), "class": "edge"}) for route in drawing.routes]
    blocks = [
        _draw_block(index, block, place)
        for index, (block, place) in enumerate(zip(outline.blocks, drawing.places, strict=True))
    ]
    view = tag("g", {"class": "view"}, *edges, *blocks)
    width, height = drawing.width + 2 * _MARGIN, drawing.height + 2 * _MARGIN
    box = f"{-_MARGIN} {-_MARGIN} {width:g} {height:g}"
    return tag(
        "svg", {"viewBox": box, "data-width": drawing.width, "data-height": drawing.height, "aria-hidden": "true"}, view
    )


def describe_block(block: Block) -> str:
    """The second line of its box."""
    if block.kind in (INPUT, OUTPUT):
        return f"{block.kind}, {block.detail}"
    nodes = f"{format_count(block.nodes)} node{'s' if block.nodes != 1 else ''}"
    if block.kind == SEGMENT:
        return f"segment, {nodes}"
    return f"native, {nodes}: {block.reasons[0][0]}" if block.reasons else f"native, {nodes}"


def _draw_block(index: int, block: Block, place: tuple[float, float]) -> Markup:
    x, y = place
    lines = (
        tag("rect", {"width": WIDTH, "height": HEIGHT, "rx": HEIGHT // 2 if block.kind in (INPUT, OUTPUT) else 4}),
        tag("text", {"x": WIDTH // 2, "y": 19, "class": "name"}, escape(_fit(block.name))),
        tag("text", {"x": WIDTH // 2, "y": 35, "class": "told"}, escape(_cut(describe_block(block)))),
        tag("title", None, escape(f"{block.name}\n{describe_block(block)}")),
    )
    where = {"class": f"block {block.kind}", "transform": f"translate({x:g} {y:g})", "data-block": index}
    return tag("g", where, *lines)


def _fit(name: str) -> str:
    """The end of a path says more than its beginning."""
    return name if len(name) <= _NAME_ROOM else f"{name[:8]}…{name[9 - _NAME_ROOM :]}"


def _cut(told: str) -> str:
    return told if len(told) <= _TOLD_ROOM else f"{told[: _TOLD_ROOM - 1]}…"


def _write_path(route: tuple[tuple[float, float], ...]) -> str:
    """Straight through lanes, curved between rows."""
    (x, y), *rest = route
    path = f"M{x:g} {y:g}"
    for next_x, next_y in rest:
        middle = (y + next_y) / 2
        if next_x == x:
            path += f"V{next_y:g}"
        else:
            path += f"C{x:g} {middle:g} {next_x:g} {middle:g} {next_x:g} {next_y:g}"
        x, y = next_x, next_y
    return path
