"""Tables of the report's page; on a phone each row becomes a list of names and values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from beforehand.report.format_values import format_count
from beforehand.report.markup import Markup, escape, join, tag

MOST_ROWS = 300
Cell = tuple[str, str]  # text, and what stands below it, smaller


def render_table(columns: Sequence[str], rows: Iterable[Sequence[Cell | str]], numbers: Sequence[str] = ()) -> Markup:
    """A table; `numbers` names the columns that stand right. Rows after the first 300 are counted, not shown."""
    kinds = ["number" if column in numbers else None for column in columns]
    head = tag(
        "tr", None,
        *(tag("th", {"scope": "col", "class": kind}, escape(name)) for name, kind in zip(columns, kinds, strict=True)),
    )  # fmt: skip
    rows = list(rows)
    body = [
        tag("tr", None, *(_render_cell(*item) for item in zip(columns, kinds, row, strict=True)))
        for row in rows[:MOST_ROWS]
    ]
    table = tag("table", {"class": "stack"}, tag("thead", None, head), tag("tbody", None, *body))
    if len(rows) <= MOST_ROWS:
        return table
    rest = f"{format_count(len(rows) - MOST_ROWS)} more rows are in report.json."
    return join(table, tag("p", {"class": "note"}, escape(rest)))


def _render_cell(column: str, kind: str | None, cell: Cell | str) -> Markup:
    text, below = cell if isinstance(cell, tuple) else (cell, "")
    more = [tag("span", {"class": "sub"}, escape(below))] if below else []
    return tag("td", {"class": kind, "data-label": column}, tag("span", None, escape(text), *more))


def render_pairs(title: str, pairs: Iterable[tuple[str, str]]) -> Markup:
    """Names and values, in as many columns as there is room for."""
    rows = [tag("div", None, tag("dt", None, escape(name)), tag("dd", None, escape(value))) for name, value in pairs]
    return join(tag("h3", None, escape(title)), tag("dl", {"class": "pairs"}, *rows))


def render_details(summary: str, *children: Markup) -> Markup:
    """What is shown on request."""
    return tag("details", None, tag("summary", None, escape(summary)), *children)


def render_note(text: str, kind: str = "note") -> Markup:
    """A paragraph of small print."""
    return tag("p", {"class": kind}, escape(text))
