"""How much faster than TensorFlow a model is, by the best that was measured of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from beforehand.report.report_records import BenchRow, Report


def find_speedups(report: Report) -> tuple[tuple[float, ...], str]:
    """The median ratio alone, or none, and what it is of: whole calls where these were measured, else engines alone."""
    if report.bench is not None:
        ratios = compare_ways(report.bench.rows)
        if ratios:
            count = len(ratios)
            return (
                statistics.median(ratios),
            ), "whole calls" if count == 1 else f"whole calls, median of {count} shapes"
    kept = [e.speed.speedup for e in report.engines if e.speed is not None and e.speed.kept and not e.speed.not_timed]
    if kept:
        return (statistics.median(kept),), f"engine against segment, median of {len(kept)}"
    return (), "not measured"


def compare_ways(rows: Iterable[BenchRow]) -> list[float]:
    """Of each signature and shapes, by one caller: native time by converted time."""
    times = {(row.signature, row.shapes, row.way): row.median_ms for row in rows if row.callers == 1}
    found = []
    for (signature, shapes, way), native in times.items():
        converted = times.get((signature, shapes, "converted"))
        if way == "native" and native and converted:
            found.append(native / converted)
    return found
