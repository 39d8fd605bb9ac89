"""The figures at the head of the page: what somebody wants to know who reads no further."""

from __future__ import annotations

from beforehand.report.find_speedups import find_speedups
from beforehand.report.format_values import (
    NOTHING,
    format_bytes,
    format_count,
    format_error,
    format_ratio,
    format_seconds,
    format_share,
)
from beforehand.report.list_errors import list_errors
from beforehand.report.markup import Markup, escape, tag
from beforehand.report.report_records import LOOP, NATIVE, SEGMENT, Report


def render_figures(report: Report) -> Markup:
    """Six figures, each with what it is of."""
    figures = (
        _tell_arithmetic(report), _tell_nodes(report), _tell_engines(report), _tell_build(report), _tell_speed(report),
        _tell_error(report),
    )  # fmt: skip
    rows = [
        tag("div", None, tag("dt", None, escape(name)),
            tag("dd", None, tag("span", {"class": "figure"}, escape(figure)), tag("span", {"class": "told"}, escape(told))))
        for name, figure, told in figures
    ]  # fmt: skip
    return tag("dl", {"class": "figures"}, *rows)


def _tell_arithmetic(report: Report) -> tuple[str, str, str]:
    keys = list(dict.fromkeys(segment.signature for segment in report.segments))
    shares = [report.share_of(key) for key in keys]
    figure = format_share(min(shares, default=0.0))
    told = "of floating-point operations" if len(keys) < 2 else f"the least of {len(keys)} graphs"
    if not report.engines:
        found = min((sum(s.flops_share for s in report.segments if s.signature == key) for key in keys), default=0.0)
        told = f"nothing is built; segments hold {format_share(min(found, 1.0))}"
    return "Arithmetic in engines", figure, told


def _tell_nodes(report: Report) -> tuple[str, str, str]:
    blocks = [block for graph in report.graphs for block in graph.blocks]
    inside = sum(block.nodes for block in blocks if block.kind == SEGMENT)
    native = sum(block.nodes for block in blocks if block.kind in (NATIVE, LOOP))
    count = len(report.segments)
    told = f"of {format_count(inside + native)}, in {format_count(count)} segment{'s' if count != 1 else ''}"
    return "Nodes in segments", format_count(inside), told


def _tell_engines(report: Report) -> tuple[str, str, str]:
    sizes = sum(engine.bytes for engine in report.engines)
    told = format_bytes(sizes) + " in all" if report.engines else "every call runs in TensorFlow"
    return "Engines", format_count(len(report.engines)), told


def _tell_build(report: Report) -> tuple[str, str, str]:
    if not report.engines:
        return "Time to build", NOTHING, "nothing is built"
    seconds = [engine.build_seconds for engine in report.engines]
    return "Time to build", format_seconds(sum(seconds)), f"the longest engine {format_seconds(max(seconds))}"


def _tell_speed(report: Report) -> tuple[str, str, str]:
    ratios, told = find_speedups(report)
    return "Speed, over TensorFlow", format_ratio(ratios[0]) if ratios else NOTHING, told


def _tell_error(report: Report) -> tuple[str, str, str]:
    rows, told = list_errors(report)
    return "Largest error", format_error(max(row.error for row in rows)) if rows else NOTHING, told
