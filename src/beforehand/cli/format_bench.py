"""What `beforehand bench` prints."""

from __future__ import annotations

from collections.abc import Iterator

from beforehand.benchmark.records import Bench, CallRow, ColdRow, Speedup
from beforehand.benchmark.time_cold import BUILT, NOT_BUILT
from beforehand.cli.format_inspection import format_table

_HEAD = ("way", "callers", "median ms", "p95", "p99", "calls/s", "first ms", "MB", "times faster (95 %)", "by")
_COLD_HEAD = ("new process", "import s", "load s", "1st call s", "2nd call s", "load + 1st", "times faster (95 %)")


def format_bench(found: Bench) -> Iterator[str]:
    """Lines: the machine, calls by shapes, cold starts, what build() saves, whether the machine was steady."""
    machine = found.machine
    yield f"{machine['processor']}, {machine['cores']} cores, {machine['memory']}"
    for shapes in dict.fromkeys(_write_shapes(row) for row in found.rows):
        rows = [row for row in found.rows if _write_shapes(row) == shapes]
        yield f"calls of {rows[0].signature}, {shapes}"
        yield from (f"  {line}" for line in format_table([_HEAD, *(_format_row(row) for row in rows if not row.error)]))
        yield from (f"  {row.way}, {row.callers} callers: {row.error}" for row in rows if row.error)
    if found.cold:
        yield f"cold start, medians of {max(row.processes for row in found.cold)} processes each"
        cold = [_format_cold(row) for row in found.cold if not row.error]
        yield from (f"  {line}" for line in format_table([_COLD_HEAD, *cold]))
        yield from (f"  {row.way}: {row.error}" for row in found.cold if row.error)
        yield from _tell_what_build_saves(found)
    yield from found.notes
    yield ("" if found.steady.ok else "THE MACHINE WAS NOT STEADY: ") + found.steady.told


def _format_row(row: CallRow) -> tuple[str, ...]:
    times = tuple(_write_ms(value) for value in (row.median_ms, row.p95_ms, row.p99_ms))
    return (
        row.way, str(row.callers), *times, f"{row.per_second or 0:.1f}", _write_ms(row.first_ms),
        f"{row.rss_mb or 0:.0f}", _write_speedup(row.speedup), row.answered_by,
    )  # fmt: skip


def _format_cold(row: ColdRow) -> tuple[str, ...]:
    steps = (row.import_s, row.load_s, row.first_call_s, row.second_call_s, row.cold_s)
    return row.way, *(f"{value or 0:.3f}" for value in steps), _write_speedup(row.speedup)


def _tell_what_build_saves(found: Bench) -> Iterator[str]:
    """The answer to: what is lost without build()?"""
    by_way = {row.way: row for row in found.cold if not row.error}
    if NOT_BUILT in by_way and BUILT in by_way:
        lost, built = by_way[NOT_BUILT], by_way[BUILT]
        second = [1000 * (row.second_call_s or 0) for row in (lost, built)]
        yield (
            f"  without build(): {lost.cold_s:.3f} s until the first answer instead of {built.cold_s:.3f} s, then "
            f"{second[0]:.1f} ms instead of {second[1]:.1f} ms a call (the second), for as long as the process runs"
        )


def _write_ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _write_speedup(speedup: Speedup | None) -> str:
    if speedup is None:
        return ""
    if speedup.low is None or speedup.high is None:
        return f"{speedup.median:.2f} (too few rounds)"
    doubt = "" if speedup.verdict != "inconclusive" else " inconclusive"
    return f"{speedup.median:.2f} [{speedup.low:.2f}, {speedup.high:.2f}]{doubt}"


def _write_shapes(row: CallRow) -> str:
    return ",".join(f"{name}={'x'.join(map(str, shape)) or 'scalar'}" for name, shape in row.shapes.items())
