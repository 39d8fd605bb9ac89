"""The sections about the model itself: signatures, native nodes by reason, where it was made, how to repeat it."""

from __future__ import annotations

from collections.abc import Iterable

from beforehand.records import TensorSpec
from beforehand.report.format_values import NOTHING, format_bytes, format_count, format_share
from beforehand.report.markup import Markup, escape, join, tag
from beforehand.report.render_table import render_details, render_note, render_pairs, render_table
from beforehand.report.report_records import Counts, Report

_MOST = 6  # operations and layers named of a reason
_MOST_OPEN = 10  # segments shown without asking


def render_native(report: Report) -> Markup:
    """Native nodes by reason, with their operations, layers, and what is said of each."""
    if not report.native:
        return render_note("Nothing: every node is in a segment.")
    rows = [
        (group.reason, format_count(group.nodes), _list_counts(group.ops), _list_counts(group.layers))
        for group in report.native
    ]
    said = [
        render_details(
            f"{group.reason}: what is said of {format_count(group.nodes)} nodes",
            render_table(
                ("Detail", "Nodes"), ((told, format_count(count)) for told, count in group.details), ("Nodes",)
            ),
        )
        for group in report.native
        if group.details
    ]
    return join(render_table(("Reason", "Nodes", "Operations", "Layers"), rows, ("Nodes",)), *said)


def _list_counts(counts: Counts) -> str:
    more = f" and {format_count(len(counts) - _MOST)} more" if len(counts) > _MOST else ""
    return ", ".join(f"{name} {format_count(count)}x" for name, count in counts[:_MOST]) + more


def render_model(report: Report) -> Markup:
    """Signatures with their inputs and outputs, segments, and what was not kept."""
    rows = [
        (signature.key, _list_specs(signature.inputs), _list_specs(signature.outputs))
        for signature in report.signatures
    ]
    parts = [render_table(("Signature", "Inputs", "Outputs"), rows)]
    segments = [
        (item.name, item.signature, format_count(item.nodes), format_share(item.flops_share),
         format_bytes(item.weight_bytes) if item.weight_bytes else NOTHING, format_count(item.engines))
        for item in report.segments
    ]  # fmt: skip
    columns = ("Segment", "Signature", "Nodes", "Arithmetic", "Weights", "Engines")
    table = render_table(columns, segments, columns[2:])
    parts.append(table if len(segments) <= _MOST_OPEN else render_details(f"{len(segments)} segments", table))
    if report.not_kept:
        parts.append(render_note("Not kept of the source: " + ", ".join(report.not_kept) + "."))
    return join(*parts)


def _list_specs(specs: Iterable[TensorSpec]) -> str:
    return "; ".join(spec.describe() for spec in specs) or "none"


def render_origin(report: Report) -> Markup:
    """Machine, versions and options of the conversion."""
    parts = [render_pairs("Machine", report.machine)] if report.machine else []
    parts.append(render_pairs("Packages", report.versions))
    asked = [(name, str(value)) for name, value in report.options if value not in (None, "")]
    if asked:
        parts.append(render_pairs("Options that are part of an engine's key", asked))
    return join(*parts)


def render_commands(report: Report) -> Markup:
    """What repeats it, one command each."""
    told = "Paths are not kept: the names of folders stand for them."
    commands = [
        join(render_note(f"To {command.purpose}:"), tag("pre", None, escape(command.text)))
        for command in report.commands
    ]
    return join(render_note(told), *commands)
