"""What `beforehand verify` prints."""

from __future__ import annotations

from collections.abc import Iterator

from beforehand.cli.format_inspection import format_table
from beforehand.verification.records import OutputRow, SegmentRow, Verification

_VERDICTS = {True: "ok", False: "WRONG", None: "native"}


def format_verification(found: Verification) -> Iterator[str]:
    """Lines: the reference, outputs, segments, the first that drifts, what was not verified, the verdict."""
    yield f"reference: TensorFlow in {found.reference}, of {found.against}"
    for signature, note in found.reference_notes.items():
        yield f"  {signature}: {note}"
    yield "outputs, each as a call gives it"
    rows = [("", "output", "shapes", "precision", "off by", "may be", "TensorFlow", "cosine", "top-1")]
    yield from (f"  {line}" for line in format_table([*rows, *map(_format_row, found.rows)]))
    yield from (f"  {row.output} {_write_shapes(row)}: {row.told}" for row in found.rows if row.told)
    if found.segments:
        yield "segments, each on the reference's own values"
        heads = [("", "segment", "engine for", "precision", "output", "off by", "may be", "cosine")]
        yield from (f"  {line}" for line in format_table([*heads, *map(_format_segment, found.segments)]))
    if found.first_drift is not None:
        drift = found.first_drift
        yield f"first to drift: {drift.segment}, output {drift.output}, off by {drift.error:.1e} ({drift.engine}, {drift.tensor})"
    yield from (f"not verified: {item.segment} ({item.engine}): {item.why}" for item in found.not_verified)
    yield from found.notes
    if any(row.is_drawn for row in found.rows):
        yield "inputs were drawn at random: real ones (--samples) say more"
    yield "all that ran in engines is right" if found.ok else "NOT VERIFIED"


def _format_row(row: OutputRow) -> tuple[str, ...]:
    top1 = "" if row.top1 is None else f"{100 * row.top1:.1f}%"
    named = row.output if row.signature == "serving_default" else f"{row.signature}: {row.output}"
    return (
        _VERDICTS[row.ok], named, _write_shapes(row), row.precision if row.engines else "", _write_error(row),
        f"{row.tolerance:.1e}", f"{row.tensorflow_rel:.1e}", f"{row.cosine:.6f}", top1,
    )  # fmt: skip


def _format_segment(row: SegmentRow) -> tuple[str, ...]:
    return (
        _VERDICTS[row.ok], row.segment, row.engine_shapes, row.precision, row.output, _write_error(row),
        f"{row.tolerance:.1e}", f"{row.cosine:.6f}",
    )  # fmt: skip


def _write_error(row: OutputRow | SegmentRow) -> str:
    if row.lost:
        return f"{row.lost} lost"
    return f"{row.max_rel:.1e}" if row.unequal is None else f"{100 * row.unequal:.1f}% unequal"


def _write_shapes(row: OutputRow) -> str:
    return ",".join(f"{name}={'x'.join(map(str, shape)) or 'scalar'}" for name, shape in row.shapes.items())
