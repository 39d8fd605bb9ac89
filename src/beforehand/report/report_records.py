"""What a report says, as frozen records of plain data: the page, its JSON and `converter.report` are all made of these.

Other tools read the JSON: fields may be added within a version, never renamed. History of `version`:
    1   2026-11-25   first
"""

from __future__ import annotations

import dataclasses
from typing import Any

from beforehand.check_packages import check_packages
from beforehand.errors import OptionValueError
from beforehand.records import Accuracy, EngineSpeed, LeftOut, ShapeSet, Signature

VERSION = 1
# What a block of the graph is. A loop or branch is a native node with segments in its bodies.
INPUT, OUTPUT, SEGMENT, NATIVE, LOOP = "input", "output", "segment", "native", "loop"

Counts = tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Block:
    """One box of the drawn graph: an input, an output, a segment, a loop, or native nodes of one level and Keras layer.

    Attributes:
        kind: INPUT, OUTPUT, SEGMENT, NATIVE or LOOP.
        name: Of a segment its own; of native nodes the layer, or what their layers have in common.
        nodes: How many nodes of the flat graph, constants and weights not counted; 0 for inputs and outputs.
        layers: Layers (or name scopes) and how many of the nodes each has, in the order of the graph.
        ops: Op types, the most frequent first.
        reasons: Of native nodes, why they are native, the most frequent first.
        detail: Of an input or output, its dtype and shape.
    """

    kind: str
    name: str
    nodes: int = 0
    layers: Counts = ()
    ops: Counts = ()
    reasons: Counts = ()
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class GraphOutline:
    """A flat graph as blocks, in topological order, and which of them (by index) reads of which.

    Attributes:
        title: The signatures that have this graph, or whose body it is.
        blocks: The boxes.
        edges: Pairs (from, to), each once.
        has_edges: False where only the manifest was at hand: edges that go through native nodes are then not known.
    """

    title: str
    blocks: tuple[Block, ...]
    edges: tuple[tuple[int, int], ...]
    has_edges: bool = True


@dataclasses.dataclass(frozen=True)
class Origin:
    """What is known at the conversion alone, and kept beside the manifest for later reports.

    `source` is the last part of the source's path, `machine` describes where the conversion ran.
    """

    source: str
    machine: tuple[tuple[str, str], ...]
    graphs: tuple[GraphOutline, ...]


@dataclasses.dataclass(frozen=True)
class EngineReport:
    """A built engine. Seconds, bytes; `build_peak_bytes`, `speed` and `accuracy` are 0 and None where nobody measured."""

    segment: str
    signature: str
    shapes: ShapeSet
    backend: str
    backend_version: str
    target: str
    precision_asked: str
    precision_run: str
    build_seconds: float
    build_peak_bytes: int
    bytes: int
    file: str
    sha256: str
    kept_nodes: int
    speed: EngineSpeed | None
    accuracy: Accuracy | None


@dataclasses.dataclass(frozen=True)
class SegmentReport:
    """A segment; `flops_share` is its share (0 to 1) of its signature's arithmetic, `nodes` counts constants too."""

    name: str
    signature: str
    nodes: int
    flops_share: float
    weight_bytes: int
    engines: int
    engine_bytes: int
    ops: Counts


@dataclasses.dataclass(frozen=True)
class NativeGroup:
    """The native nodes that have one reason, by op, by layer and by what is said of each; the most frequent first."""

    reason: str
    nodes: int
    ops: Counts
    layers: Counts
    details: Counts


@dataclasses.dataclass(frozen=True)
class LeftNativeReport:
    """Shapes of a segment that TensorFlow answers although an engine was built, and why; `speed` is that engine's."""

    segment: str
    shapes: ShapeSet
    reason: str
    speed: EngineSpeed | None


@dataclasses.dataclass(frozen=True)
class BenchRow:
    """Calls timed by `beforehand bench`: one way to run, one set of shapes, a number of callers.

    Milliseconds, calls a second, megabytes; `samples_ms` are single calls. `error` says why a way could not run.
    """

    way: str
    signature: str
    shapes: str
    callers: int
    median_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    per_second: float | None
    rss_mb: float | None
    samples_ms: tuple[float, ...]
    error: str


@dataclasses.dataclass(frozen=True)
class ColdRow:
    """A start in new processes, timed by `beforehand bench`. Seconds."""

    way: str
    import_s: float
    load_s: float
    first_call_s: float
    second_call_s: float
    processes: int


@dataclasses.dataclass(frozen=True)
class Bench:
    """What `beforehand bench` measured; `steady` says whether the machine was quiet, `told` what was seen of it."""

    when: str
    machine: tuple[tuple[str, str], ...]
    rows: tuple[BenchRow, ...]
    cold: tuple[ColdRow, ...]
    steady: bool | None
    told: str


@dataclasses.dataclass(frozen=True)
class VerifyRow:
    """One output at one set of shapes, compared by `beforehand verify`."""

    signature: str
    output: str
    shapes: str
    engines: tuple[str, ...]
    max_abs: float | None
    max_rel: float | None
    mean_abs: float | None
    cosine: float | None
    top1: float | None
    tolerance: float | None
    ok: bool


@dataclasses.dataclass(frozen=True)
class Verify:
    """What `beforehand verify` found; `first_drift` names the first segment that drifts, in words, or is empty."""

    when: str
    reference: str
    rows: tuple[VerifyRow, ...]
    first_drift: str


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that repeats a part of the report, and what it does."""

    text: str
    purpose: str


@dataclasses.dataclass(frozen=True)
class Report:
    """All that is known of a converted model: what, when, where; segments, native nodes, engines, speed, accuracy.

    Attributes:
        name: The folder's, or the source's where nothing is saved yet.
        made: When the report was made, `created` when the model was converted; ISO 8601, UTC.
        model_id: The manifest's.
        versions: Packages of the conversion, by name.
        machine: Where the conversion ran; empty where that is not known.
        options: Those of the conversion that can change an engine.
        signatures: With inputs and outputs.
        segments: In the manifest's order.
        engines: In the manifest's order.
        native: Native nodes by reason, the most frequent first.
        native_nodes: All native nodes, each with its signature.
        left_native: Shapes without an engine although one was built.
        graphs: The graphs as blocks.
        not_kept: What the source had and the converted model has not.
        bench: What `beforehand bench --keep` measured; None where it did not run.
        verify: What `beforehand verify --keep` found; None where it did not run.
        commands: What repeats it.
        notes: What could not be read, and why.
    """

    name: str
    made: str
    created: str
    model_id: str
    versions: tuple[tuple[str, str], ...]
    machine: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, Any], ...]
    signatures: tuple[Signature, ...]
    segments: tuple[SegmentReport, ...]
    engines: tuple[EngineReport, ...]
    native: tuple[NativeGroup, ...]
    native_nodes: tuple[tuple[str, LeftOut], ...]
    left_native: tuple[LeftNativeReport, ...]
    graphs: tuple[GraphOutline, ...]
    not_kept: tuple[str, ...]
    bench: Bench | None
    verify: Verify | None
    commands: tuple[Command, ...]
    notes: tuple[str, ...]

    def share_of(self, signature: str) -> float:
        """Share (0 to 1) of a signature's arithmetic that is in segments with an engine."""
        return min(1.0, sum(s.flops_share for s in self.segments if s.signature == signature and s.engines))

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `json.dumps` takes, and `report.json` holds."""
        plain: dict[str, Any] = _write(self)
        plain["native_nodes"] = [{"signature": key, **_write(node)} for key, node in self.native_nodes]
        for name in ("versions", "machine", "options"):
            plain[name] = {key: _write(value) for key, value in getattr(self, name)}
        if self.bench is not None:
            plain["bench"]["machine"] = dict(self.bench.machine)
        return {"version": VERSION, **plain}

    def to_pandas(self, table: str = "engines") -> Any:
        """A `pandas.DataFrame` of one table, a row for each record.

        Args:
            table: "engines", "segments", "native_nodes", "left_native", "bench", "cold" or "verify".

        Raises:
            BackendError: BH701, pandas is not installed. OptionValueError: BH102, there is no such table.
        """
        check_packages("to_pandas()", ("pandas",))
        import pandas  # noqa: PLC0415 (optional, and takes half a second)

        plain = self.to_dict()
        bench, verify = plain["bench"] or {}, plain["verify"] or {}
        tables = {name: plain[name] for name in ("engines", "segments", "native_nodes", "left_native")}
        tables.update(bench=bench.get("rows", []), cold=bench.get("cold", []), verify=verify.get("rows", []))
        if table not in tables:
            raise OptionValueError(f"there is no table {table!r}", advice="one of " + ", ".join(tables))
        return pandas.DataFrame([_flatten(row) for row in tables[table]])


def _write(value: Any) -> Any:
    """Records as dicts, shapes by name, tuples as lists, pairs of name and count as dicts."""
    if isinstance(value, ShapeSet):
        return {"text": value.describe(), "min": value.to_dict(), "max": value.to_max_dict()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        counted = ("layers", "ops", "reasons", "details")
        return {
            field.name: dict(getattr(value, field.name))
            if field.name in counted
            else _write(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, tuple | list):
        return [_write(item) for item in value]
    return value


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    """Without dicts within: shapes as text, the numbers of `speed` in columns of their own, of accuracy the worst."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "shapes" and isinstance(value, dict):
            flat[name] = value["text"]
        elif name == "speed":
            flat.update({key: (value or {}).get(key) for key in ("engine_us", "native_us", "speedup")})
        elif name == "accuracy":
            outputs = (value or {}).get("outputs") or []
            flat["max_rel"] = max((item["max_rel"] for item in outputs), default=None)
            flat["min_cosine"] = min((item["cosine"] for item in outputs), default=None)
        elif name == "ops":
            flat[name] = ", ".join(f"{op} {count}x" for op, count in value.items())
        else:
            flat[name] = value
    return flat
