"""The section with the engines, and with the shapes that have none although one was built."""

from __future__ import annotations

from beforehand.records import EngineSpeed
from beforehand.report.format_values import format_bytes, format_error, format_ms, format_ratio, format_seconds
from beforehand.report.markup import Markup, join
from beforehand.report.render_table import Cell, render_note, render_table
from beforehand.report.report_records import EngineReport, Report

_COLUMNS = ("Segment", "Shapes", "Precision", "Build", "Size", "Speed", "Error")


def render_engines(report: Report) -> Markup:
    """A row for each engine: shapes, precision asked and run, time to build, bytes, memory, speed-up, error."""
    if not report.engines:
        segments = "; ".join(segment.name for segment in report.segments[:8])
        told = f"No engine is built: every call runs in TensorFlow, at its own speed. Segments: {segments or 'none'}."
        return join(render_note(told), render_left_native(report))
    rows = [
        ((engine.segment, f"{engine.backend}, {engine.target}"), engine.shapes.describe(), _tell_precision(engine),
         _tell_build(engine), format_bytes(engine.bytes), _tell_speed(engine.speed), _tell_error(engine))
        for engine in report.engines
    ]  # fmt: skip
    return join(
        render_table(_COLUMNS, rows, ("Build", "Size", "Speed", "Error")), _explain(), render_left_native(report)
    )


def render_left_native(report: Report) -> Markup:
    """Shapes that stay native after a build, each with the figures that decided it."""
    if not report.left_native:
        return join()
    rows = [(item.segment, item.shapes.describe(), _tell_speed(item.speed), item.reason) for item in report.left_native]
    told = "For these shapes an engine was built and is not used; TensorFlow answers them."
    return join(render_note(told), render_table(("Segment", "Shapes", "Speed", "Why it is not used"), rows, ("Speed",)))


def _explain() -> Markup:
    return render_note(
        "Build: time, with the most memory that the building process held. Speed: the engine against TensorFlow's run of the same "
        "segment. Error: largest difference by the largest magnitude of an output."
    )


def _tell_precision(engine: EngineReport) -> Cell:
    below = f"{engine.precision_asked} asked for" if engine.precision_asked != engine.precision_run else ""
    if engine.kept_nodes:
        below = "; ".join([*([below] if below else []), f"{engine.kept_nodes} nodes in a higher one"])
    return engine.precision_run, below


def _tell_build(engine: EngineReport) -> Cell:
    return format_seconds(engine.build_seconds), format_bytes(
        engine.build_peak_bytes
    ) if engine.build_peak_bytes else ""


def _tell_speed(speed: EngineSpeed | None) -> Cell:
    if speed is None or speed.not_timed:
        return "not timed", speed.not_timed if speed else ""
    times = f"{format_ms(speed.engine_us / 1e3)}, TensorFlow {format_ms(speed.native_us / 1e3)}"
    return format_ratio(speed.speedup), times if speed.kept else f"{times}; not used"


def _tell_error(engine: EngineReport) -> Cell:
    accuracy = engine.accuracy
    if accuracy is None or not accuracy.outputs:
        return "not compared", ""
    cosine = min(output.cosine for output in accuracy.outputs)
    below = f"cosine {cosine:.6f}" + (f"; {accuracy.lost} values lost" if accuracy.lost else "")
    return format_error(accuracy.max_rel), below
