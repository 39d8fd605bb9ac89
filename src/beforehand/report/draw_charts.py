"""Charts as SVG: latency, cold start, throughput by callers, error. Each label stands above its row, so that one layout serves every width.

Colours are classes of the page's style sheet, which has two sets of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from beforehand.report.format_values import format_error, format_ms, format_ratio, format_seconds
from beforehand.report.markup import Markup, escape, join, tag
from beforehand.report.report_records import BenchRow, ColdRow

WIDE, NARROW = 720.0, 340.0
# In the order of charts and legends; the class of each is `way-INDEX`.
WAYS = ("native", "frozen", "xla", "converted", "standalone")
WAY_NAMES = {
    "native": "TensorFlow, as the source is",
    "frozen": "TensorFlow, frozen",
    "xla": "TensorFlow, XLA",
    "converted": "converted, in TensorFlow",
    "standalone": "converted, without TensorFlow",
}
COLD_PARTS = (
    ("import_s", "import"),
    ("load_s", "load"),
    ("first_call_s", "first call"),
    ("second_call_s", "second call"),
)
_ROW, _LABEL, _BAR, _LEFT, _FOOT = 40.0, 13.0, 12.0, 2.0, 40.0
_LABEL_LETTER, _VALUE_LETTER = 7.7, 8.8  # widths of letters in the widest of the fonts that the page may get, in pixels
_MARKS = 60  # of single calls, a row


@dataclasses.dataclass(frozen=True)
class ErrorRow:
    """An error relative to the largest magnitude of TensorFlow's output, and the tolerance that it must keep."""

    label: str
    error: float
    tolerance: float | None
    ok: bool


@dataclasses.dataclass(frozen=True)
class SpeedRow:
    """How many times as fast as TensorFlow an engine is, with an interval for it. `kept`: it is used."""

    label: str
    speedup: float
    low: float
    high: float
    kept: bool


@dataclasses.dataclass(frozen=True)
class _Scale:
    """Values to pixels, with ticks as (value, text)."""

    to_x: Callable[[float], float]
    ticks: tuple[tuple[float, str], ...]


def draw_latency(rows: Sequence[BenchRow], width: float) -> Markup:
    """The median of each way as a dot, p95 and p99 as ticks, single calls as faint marks; milliseconds from 0."""
    shown = [row for row in rows if row.median_ms is not None]
    top = max((value for row in shown for value in (row.median_ms, row.p95_ms, row.p99_ms) if value), default=1.0)
    scale = _linear(top, width)
    parts = []
    for index, row in enumerate(rows):
        name = WAY_NAMES.get(row.way, row.way)
        if row.median_ms is None:
            parts.append(_label(index, name, "could not run", width))
            continue
        y = index * _ROW + _LABEL + 12
        marks = [value for value in _thin(row.samples_ms) if value <= top]
        path = "".join(f"M{scale.to_x(value):.1f} {y - 5:.1f}v10" for value in marks)
        drawn = [tag("path", {"d": path, "class": "marks"})] if path else []
        high = row.p99_ms or row.p95_ms or row.median_ms
        drawn.append(_line(scale.to_x(row.median_ms), y, scale.to_x(high), y, "whisker"))
        drawn += [_line(scale.to_x(v), y - 5, scale.to_x(v), y + 5, "whisker") for v in (row.p95_ms, row.p99_ms) if v]
        drawn.append(tag("circle", {"cx": scale.to_x(row.median_ms), "cy": y, "r": 5, "class": "dot"}))
        parts += [_label(index, name, format_ms(row.median_ms), width), _group(_find_way(row.way), drawn)]
    return _frame(parts, scale, len(rows), width, "milliseconds a call", "latency of each way to run the model")


def draw_cold(rows: Sequence[ColdRow], width: float) -> Markup:
    """A new process, from its start to the end of its second call, a bar for each way in four parts; seconds."""
    totals = [sum(getattr(row, name) for name, _ in COLD_PARTS) for row in rows]
    scale = _linear(max(totals, default=1.0), width)
    parts = []
    for index, (row, total) in enumerate(zip(rows, totals, strict=True)):
        start = 0.0
        parts.append(_label(index, row.way, format_seconds(total), width))
        for part, (name, _) in enumerate(COLD_PARTS):
            end = start + getattr(row, name)
            left, right = scale.to_x(start), scale.to_x(end)
            box = {"x": left, "y": index * _ROW + _LABEL + 6, "width": max(0.0, right - left), "height": _BAR}
            parts.append(tag("rect", {**box, "class": f"part-{part}"}))
            start = end
    return _frame(
        parts, scale, len(rows), width, "seconds since the start of the process", "cold start in new processes"
    )


def draw_throughput(rows: Sequence[BenchRow], width: float) -> Markup:
    """Calls a second by the number of callers, a line for each way."""
    shown = [row for row in rows if row.per_second is not None]
    callers = sorted({row.callers for row in shown})
    height, left, bottom = 220.0, 56.0, 40.0
    ticks = _list_ticks(max((row.per_second or 0.0 for row in shown), default=1.0))

    def to_x(count: int) -> float:
        span = width - left - 24
        return left + 8 + span * (callers.index(count) / (len(callers) - 1) if len(callers) > 1 else 0.5)

    def to_y(value: float) -> float:
        return 12 + (height - bottom - 12) * (1 - value / ticks[-1])

    parts = []
    for value in ticks:
        parts += [
            _line(left, to_y(value), width - 8, to_y(value), "grid"),
            _text(left - 8, to_y(value) + 4, f"{value:g}", "end"),
        ]
    parts += [_text(to_x(count), height - bottom + 18, str(count), "middle") for count in callers]
    parts.append(_text((left + width) / 2, height - 4, "callers at a time; vertical: calls a second", "middle", "axis"))
    for way in dict.fromkeys(row.way for row in shown):
        own = sorted((row for row in shown if row.way == way), key=lambda row: row.callers)
        points = [(to_x(row.callers), to_y(row.per_second or 0.0)) for row in own]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        drawn = [tag("polyline", {"points": line, "class": "series"})]
        drawn += [tag("circle", {"cx": x, "cy": y, "r": 3.5, "class": "dot"}) for x, y in points]
        parts.append(_group(_find_way(way), drawn))
    return _svg(parts, width, height, "calls a second by the number of callers")


def draw_errors(rows: Sequence[ErrorRow], width: float) -> Markup:
    """The error of each row as a dot on a logarithmic axis, with its tolerance as a tick; what is exact stands at the left end."""
    values = [v for row in rows for v in (row.error, row.tolerance) if v]
    low = math.floor(math.log10(min(values, default=1e-7))) - 1
    high = max(low + 2, math.ceil(math.log10(max(values, default=1.0))))
    scale = _logarithmic(low, high, width)
    parts = []
    for index, row in enumerate(rows):
        y = index * _ROW + _LABEL + 12
        x = scale.to_x(max(row.error, 10.0**low))
        told = "exact" if row.error == 0 else format_error(row.error)
        parts.append(_label(index, row.label, told if row.ok else f"{told}, over", width))
        parts.append(_line(scale.to_x(10.0**low), y, x, y, "stem" if row.ok else "stem bad"))
        parts.append(tag("circle", {"cx": x, "cy": y, "r": 5, "class": "dot" if row.ok else "dot bad"}))
        if row.tolerance:
            edge = scale.to_x(row.tolerance)
            parts.append(_line(edge, y - 8, edge, y + 8, "tolerance"))
    return _frame(
        parts,
        scale,
        len(rows),
        width,
        "largest difference / largest magnitude of the output",
        "error against TensorFlow",
    )


def draw_speedups(rows: Sequence[SpeedRow], width: float) -> Markup:
    """The speed-up of each engine as a dot, its interval as a line; an upright line stands where both are equally fast."""
    scale = _linear(max((max(row.speedup, row.high, 1.0) for row in rows), default=1.0), width)
    parts = []
    for index, row in enumerate(rows):
        y = index * _ROW + _LABEL + 12
        told = format_ratio(row.speedup) if row.kept else f"{format_ratio(row.speedup)}, not used"
        ends = [_line(scale.to_x(v), y - 5, scale.to_x(v), y + 5, "whisker") for v in (row.low, row.high) if v]
        span = [_line(scale.to_x(row.low), y, scale.to_x(row.high), y, "whisker")] if row.low and row.high else []
        kind = "dot" if row.kept else "dot bad"
        dot = tag("circle", {"cx": scale.to_x(row.speedup), "cy": y, "r": 5, "class": kind})
        even = _line(scale.to_x(1.0), y - 8, scale.to_x(1.0), y + 8, "tolerance")
        parts += [_label(index, row.label, told, width), even, _group("way-3", [*span, *ends, dot])]
    return _frame(
        parts, scale, len(rows), width, "times as fast as TensorFlow", "speed of each engine against TensorFlow"
    )


def _find_way(way: str) -> str:
    return f"way-{WAYS.index(way)}" if way in WAYS else "way-0"


def _thin(samples: Sequence[float]) -> list[float]:
    """Evenly spaced among the sorted ones."""
    ordered = sorted(samples)
    if len(ordered) <= _MARKS:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (_MARKS - 1))] for i in range(_MARKS)]


def _nice(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return float(next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9)))


def _list_ticks(top: float, most: int = 5) -> list[float]:
    step = _nice(top / most)
    return [i * step for i in range(math.ceil(top / step - 1e-9) + 1)]


def _linear(top: float, width: float) -> _Scale:
    ticks = _list_ticks(top, 6 if width > 500 else 4)
    span = width - _LEFT - 4

    def to_x(value: float) -> float:
        return _LEFT + span * value / ticks[-1]

    return _Scale(to_x, tuple((value, f"{value:g}") for value in ticks))


def _logarithmic(low: int, high: int, width: float) -> _Scale:
    span = width - _LEFT - 24

    def to_x(value: float) -> float:
        return _LEFT + 8 + span * (min(max(math.log10(value), low), high) - low) / (high - low)

    step = math.ceil((high - low) / (10 if width > 500 else 5))
    return _Scale(to_x, tuple((10.0**e, f"1e{e}" if e else "1") for e in range(low, high + 1, step)))


def _frame(parts: Sequence[Markup], scale: _Scale, rows: int, width: float, axis: str, title: str) -> Markup:
    bottom = rows * _ROW
    grid = []
    for index, (value, text) in enumerate(scale.ticks):
        x = scale.to_x(value)
        anchor = "start" if index == 0 else "end" if x > width - 20 else "middle"
        grid += [_line(x, 4, x, bottom + 2, "grid"), _text(x, bottom + 17, text, anchor)]
    grid.append(_text(_LEFT, bottom + 34, axis, "start", "axis"))
    return _svg([*grid, *parts], width, bottom + _FOOT, title)


def _label(index: int, label: str, value: str, width: float) -> Markup:
    room = int((width - 14 - _VALUE_LETTER * len(value)) / _LABEL_LETTER)
    shown = label if len(label) <= room else label[: room // 2 - 1] + "…" + label[len(label) - room // 2 :]
    y = index * _ROW + _LABEL
    return join(_text(_LEFT, y, shown, "start", "label", label), _text(width - 4, y, value, "end", "value"))


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick", title: str = "") -> Markup:
    more = [tag("title", None, escape(title))] if title and title != text else []
    return tag("text", {"x": x, "y": y, "text-anchor": anchor, "class": kind}, escape(text), *more)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return tag("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": kind})


def _group(kind: str, parts: Sequence[Markup]) -> Markup:
    return tag("g", {"class": kind}, *parts)


def _svg(parts: Sequence[Markup], width: float, height: float, title: str) -> Markup:
    shape = {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": title}
    return tag("svg", {**shape, "class": "chart " + ("wide" if width > 500 else "narrow")}, *parts)
