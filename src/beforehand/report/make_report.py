"""The report of a converted model, from its manifest and what lies beside it. Pure: nothing is read or written here."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable

from beforehand.graph.name_layers import name_layers
from beforehand.records import Engine, LeftOut, Manifest, SegmentRecord
from beforehand.report.count_layers import count_layers
from beforehand.report.list_commands import list_commands
from beforehand.report.outline_graph import outline_manifest
from beforehand.report.report_records import (
    Bench,
    Counts,
    EngineReport,
    LeftNativeReport,
    NativeGroup,
    Origin,
    Report,
    SegmentReport,
    Verify,
)

_MOST_DETAILS = 20


def make_report(
    name: str,
    manifest: Manifest,
    origin: Origin | None = None,
    bench: Bench | None = None,
    verify: Verify | None = None,
    notes: Iterable[str] = (),
) -> Report:
    """All that is known of a converted model.

    Args:
        name: Of its folder, or of its source where it is not saved yet.
        manifest: What it holds.
        origin: What was known at its conversion; None where that is lost: the graph is then drawn from the manifest.
        bench: What was measured of it.
        verify: What was compared of it.
        notes: What could not be read.
    """
    asked = str(dict(manifest.options).get("precision_mode", ""))
    names = [segment.name for segment in manifest.segments]
    return Report(
        name=name,
        made=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        created=manifest.created,
        model_id=manifest.model_id,
        versions=manifest.versions,
        machine=origin.machine if origin else (),
        options=manifest.options,
        signatures=manifest.signatures,
        segments=tuple(_describe_segment(segment, manifest.engines) for segment in manifest.segments),
        engines=tuple(_describe_engine(engine, manifest, asked) for engine in manifest.engines),
        native=_group_native(manifest),
        native_nodes=manifest.native_nodes,
        left_native=tuple(
            LeftNativeReport(names[item.segment_index], item.shapes, item.reason, item.speed)
            for item in manifest.left_native
        ),
        graphs=origin.graphs if origin else outline_manifest(manifest),
        not_kept=manifest.not_kept,
        bench=bench,
        verify=verify,
        commands=list_commands(manifest, origin.source if origin and origin.source else "SRC", name),
        notes=tuple(notes),
    )


def _describe_segment(segment: SegmentRecord, engines: Iterable[Engine]) -> SegmentReport:
    sizes = [engine.bytes for engine in engines if engine.segment == segment.name]
    return SegmentReport(
        segment.name, segment.signature, segment.nodes, segment.flops_share, segment.weight_bytes, len(sizes), sum(sizes),
        _sort(segment.node_ops),
    )  # fmt: skip


def _describe_engine(engine: Engine, manifest: Manifest, asked: str) -> EngineReport:
    return EngineReport(
        segment=engine.segment,
        signature=manifest.segments[engine.segment_index].signature,
        shapes=engine.shapes,
        backend=engine.backend,
        backend_version=engine.backend_version,
        target=engine.target,
        precision_asked=asked or engine.precision,
        precision_run=engine.precision,
        build_seconds=engine.build_seconds,
        build_peak_bytes=engine.build_peak_bytes,
        bytes=engine.bytes,
        file=engine.file,
        sha256=engine.sha256,
        kept_nodes=len(engine.kept),
        speed=engine.speed,
        accuracy=engine.accuracy,
    )


def _group_native(manifest: Manifest) -> tuple[NativeGroup, ...]:
    groups: dict[str, list[LeftOut]] = {}
    layers = name_layers({node.name: () for _, node in manifest.native_nodes})
    for _, node in manifest.native_nodes:
        groups.setdefault(node.reason, []).append(node)
    found = [
        NativeGroup(
            reason, len(nodes), _sort(Counter(node.op for node in nodes).items()),
            _sort(count_layers(layers[node.name] for node in nodes)),
            _sort(Counter(node.detail for node in nodes if node.detail).items())[:_MOST_DETAILS],
        )
        for reason, nodes in groups.items()
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda group: (-group.nodes, group.reason)))


def _sort(pairs: Iterable[tuple[str, int]]) -> Counts:
    return tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))
