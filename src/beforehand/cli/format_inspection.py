"""The data of `beforehand inspect` as text for people."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from beforehand.cli.collect_inspection import OK
from beforehand.cli.progress import format_bytes
from beforehand.records import describe_range, describe_shape
from beforehand.segment.reasons import REFUSED

_SHOWN_DETAILS = 10


def format_inspection(found: dict[str, Any], folder: pathlib.Path) -> list[str]:
    """The lines to print for what `collect_inspection` found in `folder`."""
    made_with = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return [
        f"{folder}: converted {found['created']} with {made_with or 'unknown versions'}",
        *_format_signatures(found),
        *_format_segments(found),
        *_format_engines(found),
        *_format_left_native(found),
        *_format_targets(found),
        *_format_native_nodes(found),
        *(["not kept: " + "; ".join(found["not_kept"])] if found["not_kept"] else []),
        _format_disk(found),
        _format_verdict(found),
    ]


def format_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, with columns as wide as their widest text, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def format_dims(shapes: dict[str, Any], max_shapes: dict[str, Any] | None) -> str:
    """`x=1x224x224x3`, `x=1..8x224x224x3`; a shape without dimensions is `scalar`."""
    largest = max_shapes or shapes
    return ", ".join(f"{name}={describe_range(dims, largest[name])}" for name, dims in shapes.items())


def _format_signatures(found: dict[str, Any]) -> list[str]:
    lines = ["", "signatures"]
    for key, signature in found["signatures"].items():
        lines.append(f"  {key}")
        for word in ("inputs", "outputs"):
            for name, spec in signature[word].items():
                shape = None if spec["shape"] is None else tuple(spec["shape"])
                lines.append(f"    {word[:-1]:6} {name} {spec['dtype']} {describe_shape(shape)}")
    return lines


def _format_segments(found: dict[str, Any]) -> list[str]:
    rows = [("segment", "signature", "nodes", "FLOPs", "weights", "engines")]
    for segment in found["segments"]:
        engines = "none: runs natively, in TensorFlow"
        if segment["engines"]:
            engines = f"{segment['engines']}, {format_bytes(segment['engine_bytes'])} in all"
        share = f"{100 * segment['flops_share']:.1f}%"
        weights = format_bytes(segment["weight_bytes"]) if segment["weight_bytes"] else "unknown"
        rows.append((segment["name"], segment["signature"], str(segment["nodes"]), share, weights, engines))
    if len(rows) == 1:
        return ["", "no segments: everything runs natively, in TensorFlow"]
    offers = [offer for segment in found["segments"] for offer in segment["range_offers"] if offer["is_worth_saying"]]
    return ["", *format_table(rows), *(f"  {offer['text']}" for offer in offers)]


def _format_engines(found: dict[str, Any]) -> list[str]:
    rows = [("engine of", "shapes", "backend", "precision", "off by", "target", "bytes", "sha256", "state", "file")]
    for engine in found["engines"]:
        size = str(engine["bytes"])
        if "actual_bytes" in engine:
            size += f" (actual {engine['actual_bytes']})"
        rows.append(
            (
                engine["segment"], format_dims(engine["shapes"], engine["max_shapes"]), engine["backend"], engine["precision"],
                _format_error(engine["accuracy"]), engine["target"] + f" (kernels: {engine['kernels']})" * bool(engine["kernels"]), size, engine["sha256"][:12],
                engine["state"] if engine["state"] == OK else engine["state"].upper(), engine["file"],
            )
        )  # fmt: skip
    if len(rows) == 1:
        return ["", "no engines: every call runs natively, in TensorFlow"]
    return ["", *format_table(rows), *(f"  {found[name]}" for name in ("accuracy", "speed") if found[name])]


def _format_left_native(found: dict[str, Any]) -> list[str]:
    """The shapes that have no engine because it was not accurate enough, or slower than TensorFlow."""
    return [
        f"  no engine of {item['segment']} for {format_dims(item['shapes'], item['max_shapes'])}: {item['reason']}"
        for item in found["left_native"]
    ]


def _format_error(accuracy: dict[str, Any] | None) -> str:
    """The largest error of an engine's floating-point outputs, by their largest magnitudes."""
    if accuracy is None or not accuracy["outputs"]:
        return "unknown"
    return f"{max((o['max_rel'] for o in accuracy['outputs'] if o['unequal'] is None), default=0.0):.1e}"


def _format_targets(found: dict[str, Any]) -> list[str]:
    if not found["targets"]:
        return []
    rows = [("engines for", "target", "engines", "bytes", "this machine")]
    for target in found["targets"]:
        fits = "loads them" if target["fits_here"] else "leaves them alone"
        made_for = f"{target['backend']} {target['backend_version']}"
        rows.append((made_for, target["target"], str(target["engines"]), format_bytes(target["bytes"]), fits))
    lines = ["", *format_table(rows)]
    if not any(target["fits_here"] for target in found["targets"]):
        lines.append("  no engine fits this machine: `beforehand add-target` builds them")
    return lines


def _format_native_nodes(found: dict[str, Any]) -> list[str]:
    nodes = found["native_nodes"]
    if not nodes:
        return ["", "native nodes: none"]
    lines = ["", f"native nodes: {len(nodes)}"]
    for reason, count in Counter(node["reason"] for node in nodes).most_common():
        ops = Counter(node["op"] for node in nodes if node["reason"] == reason)
        listed = ", ".join(f"{op} {number}x" for op, number in ops.most_common(6))
        more = f", and {len(ops) - 6} op types more" if len(ops) > 6 else ""
        lines.append(f"  {reason}: {count} ({listed}{more})")
        if reason == REFUSED:  # of the other reasons the op type says it all
            details = Counter(f"{node['op']}: {node['detail']}" for node in nodes if node["reason"] == reason)
            lines += [f"    {detail}" for detail, _ in details.most_common(_SHOWN_DETAILS)]
    return lines


def _format_disk(found: dict[str, Any]) -> str:
    disk = found["disk"]
    rest = disk["manifest"] + disk["sources"] + disk["other"]
    parts = {
        "TensorFlow's weights": disk["variables"], "saved_model.pb": disk["saved_model"], "engines": disk["engines"],
        "other": rest,
    }  # fmt: skip
    listed = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())
    return f"\non disk: {format_bytes(disk['total'])}: {listed}"


def _format_verdict(found: dict[str, Any]) -> str:
    bad = [item for item in (*found["files"], *found["engines"]) if item["state"] != OK]
    if not bad:
        return f"all files are there, {len(found['engines'])} engines unaltered"
    lines = []
    for item in bad:
        detail = f" ({item['detail']})" if "detail" in item else ""
        lines.append(f"{item['state'].upper()}: {item['file']}{detail}")
    return "\n".join(
        [*lines, "Calls that need an engine listed here run natively, in TensorFlow. Copy the folder again."]
    )
