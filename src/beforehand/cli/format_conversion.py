"""The summary at the end of `beforehand convert`, as text."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from beforehand.cli.format_inspection import format_table
from beforehand.cli.progress import format_bytes
from beforehand.store import layout
from beforehand.store.manifest import read_manifest

if TYPE_CHECKING:
    from beforehand.converter import Converter


def format_conversion(converter: Converter, folder: pathlib.Path) -> list[str]:
    """The lines to print for a conversion that was saved to `folder`."""
    return [
        "signatures  " + ", ".join(signature.key for signature in converter.signatures),
        *_format_shares(converter, folder),
        *_format_precision(converter),
        *_format_engines(converter),
        *_format_speed(converter),
        f"folder      {folder}, {format_bytes(_measure_folder(folder))}",
        f"load it     import beforehand, tensorflow as tf; model = tf.saved_model.load({str(folder)!r})",
    ]


def _format_shares(converter: Converter, folder: pathlib.Path) -> list[str]:
    """What runs in engines: a segment for which none was built does not."""
    built = {engine.segment for engine in converter.engines}
    summary = converter.summary()
    inside = sum(row.nodes for row in summary.engines if row.name in built)
    share = 100 * inside / summary.total_nodes if summary.total_nodes else 0.0
    lines = [f"in engines  {inside} of {summary.total_nodes} nodes ({share:.0f}%)"]
    for segment in read_manifest(layout.find_manifest(folder)).segments:
        text = "" if segment.name in built else ": NO ENGINE, runs natively, in TensorFlow"
        flops = f"{100 * segment.flops_share:.0f}% of the FLOPs of {segment.signature}"
        lines.append(f"segment     {segment.name}, {segment.nodes} nodes, {flops}{text}")
    return lines


def _format_precision(converter: Converter) -> list[str]:
    """A line where engines run in another precision than the one asked for."""
    note = converter.summary().precision_note
    return [f"precision   {note}"] if note else []


def _format_speed(converter: Converter) -> list[str]:
    """How fast engines are beside TensorFlow, a line for each thing that is to be said; none where nothing was timed."""
    note = converter.summary().speed_note
    return [f"{'speed' if not number else '':12}{line}" for number, line in enumerate(note.split("; ") if note else ())]


def _format_engines(converter: Converter) -> list[str]:
    engines = converter.engines
    if not engines and converter.summary().speed_note:
        return ["engines     none: those built were slower than TensorFlow, or not accurate; every call runs natively"]
    if not engines:
        return ["engines     none: neither --shapes nor --samples named shapes to build for; every call runs natively"]
    rows = [
        (engine.segment, engine.shapes.describe(), engine.backend, engine.precision, engine.target,
         format_bytes(engine.bytes), f"built in {engine.build_seconds:.1f} s")
        for engine in engines
    ]  # fmt: skip
    return [f"engines     {len(engines)}", *(f"  {line}" for line in format_table(rows))]


def _measure_folder(folder: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
