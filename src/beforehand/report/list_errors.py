"""The errors that are known of a model, as rows of a chart."""

from __future__ import annotations

from beforehand.report.draw_charts import ErrorRow
from beforehand.report.report_records import Report


def list_errors(report: Report) -> tuple[tuple[ErrorRow, ...], str]:
    """By `beforehand verify` where it ran, else by the comparison after the build; the worst first. And what they are of."""
    if report.verify is not None:
        rows = [
            ErrorRow(f"{row.output} · {row.shapes}", row.max_rel, row.tolerance, row.ok)
            for row in report.verify.rows
            if row.max_rel is not None
        ]
        told = f"of outputs, against {report.verify.reference}"
    else:
        rows = [
            ErrorRow(
                f"{engine.segment} · {engine.shapes.describe()}",
                engine.accuracy.max_rel,
                None,
                not engine.accuracy.lost,
            )
            for engine in report.engines
            if engine.accuracy is not None and engine.accuracy.outputs
        ]
        told = "of engines, after the build" if rows else "not compared"
    return tuple(sorted(rows, key=lambda row: (row.ok, -row.error))), told
