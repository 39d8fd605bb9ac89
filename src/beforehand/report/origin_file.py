"""What is known at the conversion alone, as the file beside the manifest: written with it, read by later reports."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from beforehand.report.report_records import Block, Counts, GraphOutline, Origin
from beforehand.store import atomic

VERSION = 1


def write_origin(origin: Origin, file: pathlib.Path) -> None:
    """Write it, atomically."""
    data = {
        "version": VERSION,
        "source": origin.source,
        "machine": dict(origin.machine),
        "graphs": [
            {"title": graph.title, "edges": graph.edges, "blocks": [_write_block(block) for block in graph.blocks]}
            for graph in origin.graphs
        ],
    }
    atomic.write_bytes(file, json.dumps(data, separators=(",", ":")).encode())


def read_origin(file: pathlib.Path) -> Origin | None:
    """What was written; None where there is no such file.

    Raises:
        ValueError: It is damaged, or of another version.
    """
    if not file.is_file():
        return None
    data = json.loads(file.read_text())
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise ValueError(f"its version is not {VERSION}")
    try:
        graphs = tuple(_read_graph(item) for item in data["graphs"])
        machine = tuple((str(name), str(value)) for name, value in data["machine"].items())
        return Origin(str(data["source"]), machine, graphs)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _write_block(block: Block) -> dict[str, Any]:
    plain = {"kind": block.kind, "name": block.name, "nodes": block.nodes, "detail": block.detail}
    return {**plain, "layers": block.layers, "ops": block.ops, "reasons": block.reasons}


def _read_graph(data: dict[str, Any]) -> GraphOutline:
    """Raises ValueError for an edge that does not lead onwards."""
    blocks = tuple(_read_block(item) for item in data["blocks"])
    edges = tuple((int(before), int(after)) for before, after in data["edges"])
    if any(not 0 <= before < after < len(blocks) for before, after in edges):
        raise ValueError("an edge does not lead from a block to a later one")
    return GraphOutline(str(data["title"]), blocks, edges)


def _read_block(data: dict[str, Any]) -> Block:
    layers, ops, reasons = (_read_counts(data[name]) for name in ("layers", "ops", "reasons"))
    return Block(str(data["kind"]), str(data["name"]), int(data["nodes"]), layers, ops, reasons, str(data["detail"]))


def _read_counts(data: Any) -> Counts:
    return tuple((str(name), int(count)) for name, count in data)
