"""The sections with what `beforehand bench` and `beforehand verify` found; without them, the commands that find it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from beforehand.report.draw_charts import (
    COLD_PARTS,
    NARROW,
    WAY_NAMES,
    WAYS,
    WIDE,
    SpeedRow,
    draw_cold,
    draw_errors,
    draw_latency,
    draw_speedups,
    draw_throughput,
)
from beforehand.report.format_values import NOTHING, format_count, format_error, format_ms, format_seconds, format_share
from beforehand.report.list_errors import list_errors
from beforehand.report.markup import Markup, escape, join, tag
from beforehand.report.render_table import render_details, render_note, render_table
from beforehand.report.report_records import Bench, BenchRow, EngineReport, LeftNativeReport, Report, Verify

_MOST_PANELS, _MOST_ROWS = 12, 24


def render_speed(report: Report) -> Markup:
    """Cold start, latency and throughput, each with its numbers."""
    if report.bench is None:
        told = "Whole calls were not timed. This measures their latency, throughput and memory, and cold starts:"
        return join(_render_engine_speeds(report), _suggest(report, "bench", told))
    bench = report.bench
    machine = ", ".join(f"{name} {value}" for name, value in bench.machine)
    steady = {True: "the machine was steady", False: "the machine was NOT steady: read the figures with care", None: ""}
    told = "; ".join(
        text for text in (f"Measured {bench.when[:10]}", machine, steady[bench.steady], bench.told) if text
    )
    return join(render_note(told + "."), _render_cold(bench), _render_latency(bench), _render_throughput(bench))


def _render_engine_speeds(report: Report) -> Markup:
    """What the build itself found: each engine beside TensorFlow's run of its segment, those not used included."""
    timed: list[EngineReport | LeftNativeReport] = [*report.engines, *report.left_native]
    rows = [
        SpeedRow(f"{item.segment} · {item.shapes.describe()}", speed.speedup, speed.low, speed.high, speed.kept)
        for item in timed
        if (speed := item.speed) is not None and not speed.not_timed
    ]
    if not rows:
        return join()
    shown = sorted(rows, key=lambda row: row.speedup)[:_MOST_ROWS]
    told = "Timed after the build, on the machine that built them. Dot: median. Line: where it lies with 95\N{NO-BREAK SPACE}%. Upright line: as fast as TensorFlow."
    parts = [tag("h3", None, escape("Engines against TensorFlow's run of their segments")), render_note(told)]
    parts.append(_draw(lambda width: draw_speedups(shown, width)))
    if len(rows) > len(shown):
        parts.append(render_note(f"The slowest {len(shown)} of {len(rows)}."))
    return join(*parts)


def _render_cold(bench: Bench) -> Markup:
    if not bench.cold:
        return join()
    keys = [_key(f"part-{index}", name) for index, (_, name) in enumerate(COLD_PARTS)]
    rows = [
        (row.way, *(format_seconds(getattr(row, name)) for name, _ in COLD_PARTS), format_count(row.processes))
        for row in bench.cold
    ]
    columns = ("Way", *(name.capitalize() for _, name in COLD_PARTS), "Processes")
    return join(
        tag("h3", None, escape("Cold start: a new process, to the end of its second call")),
        _draw(lambda width: draw_cold(bench.cold, width)), tag("ul", {"class": "key"}, *keys),
        render_details("Numbers", render_table(columns, rows, columns[1:])),
    )  # fmt: skip


def _render_latency(bench: Bench) -> Markup:
    panels: dict[tuple[str, str], list[BenchRow]] = {}
    for row in bench.rows:
        if row.callers == 1:
            panels.setdefault((row.signature, row.shapes), []).append(row)
    if not panels:
        return join()
    drawn = [tag("h3", None, escape("Latency, one caller"))]
    drawn.append(render_note("Dot: median. Ticks: 95th and 99th percentile. Faint marks: single calls."))
    for (signature, shapes), rows in list(panels.items())[:_MOST_PANELS]:
        ordered = sorted(rows, key=lambda row: WAYS.index(row.way) if row.way in WAYS else len(WAYS))
        drawn.append(tag("p", {"class": "note"}, escape(f"{signature}: {shapes}")))
        drawn.append(_draw(lambda width, rows=ordered: draw_latency(rows, width)))  # type: ignore[misc]
    if len(panels) > _MOST_PANELS:
        drawn.append(render_note(f"{len(panels) - _MOST_PANELS} more sets of shapes are in the table."))
    columns = ("Way", "Shapes", "Callers", "Median", "95 %", "99 %", "Calls a second", "Memory")
    table = render_table(columns, (_write_bench(row) for row in bench.rows), columns[2:])
    return join(*drawn, render_details("Numbers", table))


def _write_bench(row: BenchRow) -> tuple[tuple[str, str] | str, ...]:
    times = (format_ms(value) if value is not None else NOTHING for value in (row.median_ms, row.p95_ms, row.p99_ms))
    rate = f"{row.per_second:,.1f}" if row.per_second is not None else NOTHING
    memory = f"{row.rss_mb:,.0f} MB" if row.rss_mb is not None else NOTHING
    name = WAY_NAMES.get(row.way, row.way)
    return (name, row.error), (row.shapes, row.signature), format_count(row.callers), *times, rate, memory


def _render_throughput(bench: Bench) -> Markup:
    groups: dict[tuple[str, str], list[BenchRow]] = {}
    for row in bench.rows:
        if row.per_second is not None:
            groups.setdefault((row.signature, row.shapes), []).append(row)
    many = {key: rows for key, rows in groups.items() if len({row.callers for row in rows}) > 1}
    if not many:
        return join()
    drawn = [tag("h3", None, escape("Throughput, by callers at a time"))]
    for (signature, shapes), rows in list(many.items())[:_MOST_PANELS]:
        ways = [way for way in WAYS if any(row.way == way for row in rows)]
        drawn.append(tag("p", {"class": "note"}, escape(f"{signature}: {shapes}")))
        drawn.append(_draw(lambda width, rows=rows: draw_throughput(rows, width)))  # type: ignore[misc]
        drawn.append(tag("ul", {"class": "key"}, *(_key(f"way-{WAYS.index(way)}", WAY_NAMES[way]) for way in ways)))
    return join(*drawn)


def render_accuracy(report: Report) -> Markup:
    """Errors as a chart, the worst first, and as a table."""
    rows, _ = list_errors(report)
    parts = [] if rows else [render_note("No answers were compared with TensorFlow's.")]
    if report.verify is not None:
        parts.append(
            render_note(_tell_verify(report.verify), "note" if all(r.ok for r in report.verify.rows) else "note bad")
        )
    elif rows:
        parts.append(
            render_note("Engines against TensorFlow on what reaches their segment, as compared after the build.")
        )
    if rows:
        mark = " Upright line: the tolerance; open red dot: over it." if any(row.tolerance for row in rows) else ""
        parts.append(
            render_note(f"Dot: largest difference by the largest magnitude of the output; to the left is better.{mark}")
        )
        parts.append(_draw(lambda width: draw_errors(rows[:_MOST_ROWS], width)))
    if len(rows) > _MOST_ROWS:
        parts.append(render_note(f"The worst {_MOST_ROWS} of {len(rows)}."))
    if report.verify is not None:
        return join(*parts, render_details("Numbers", _render_verify(report.verify)))
    return join(
        *parts, _suggest(report, "verify", "This compares whole answers, by output and shape, with TensorFlow's:")
    )


def _tell_verify(verify: Verify) -> str:
    good = sum(row.ok for row in verify.rows)
    told = f"{good} of {len(verify.rows)} comparisons within tolerance, against TensorFlow in {verify.reference}, {verify.when[:10]}."
    return told + (f" The first to drift: {verify.first_drift}." if verify.first_drift else "")


def _render_verify(verify: Verify) -> Markup:
    columns = ("Output", "Shapes", "Relative", "Absolute", "Mean", "Cosine", "Top-1", "Tolerance", "Within")
    rows = [
        ((row.output, row.signature), (row.shapes, ", ".join(row.engines)),
         *(format_error(v) if v is not None else NOTHING for v in (row.max_rel, row.max_abs, row.mean_abs)),
         f"{row.cosine:.6f}" if row.cosine is not None else NOTHING, format_share(row.top1) if row.top1 is not None else NOTHING,
         format_error(row.tolerance) if row.tolerance is not None else NOTHING, "yes" if row.ok else "no")
        for row in verify.rows
    ]  # fmt: skip
    return render_table(columns, rows, columns[2:])


def _suggest(report: Report, verb: str, told: str) -> Markup:
    commands: Iterable[str] = (
        command.text for command in report.commands if command.text.startswith(f"beforehand {verb} ")
    )
    again = next((command.text for command in report.commands if command.text.startswith("beforehand report ")), "")
    return join(render_note(told), tag("pre", None, escape("\n".join([*commands, again]).strip())))


def _draw(draw: Callable[[float], Markup]) -> Markup:
    """At two widths, of which the style sheet shows one."""
    return join(draw(WIDE), draw(NARROW))


def _key(kind: str, text: str) -> Markup:
    box: dict[str, object] = {
        "x": 0,
        "y": 0,
        "width": 12,
        "height": 12,
        "class": kind if kind.startswith("part") else "now",
    }
    group: dict[str, object] | None = {"class": kind} if kind.startswith("way") else None
    return tag(
        "li",
        None,
        tag("svg", {"viewBox": "0 0 12 12", "aria-hidden": "true"}, tag("g", group, tag("rect", box))),
        escape(text),
    )
