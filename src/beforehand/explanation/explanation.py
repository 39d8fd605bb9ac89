"""What an explanation says: frozen records of plain data, and the same as JSON."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any

from beforehand.records import TensorSpec

if TYPE_CHECKING:
    import pandas

VERSION = 1  # of the JSON: fields may be added within a version, never renamed
SOURCE, CONVERTED = "source", "converted"


@dataclasses.dataclass(frozen=True)
class NativeNode:
    """A node that stays in TensorFlow.

    Attributes:
        name: In the flat graph of the signature, or of the body that it is in.
        op: Its type.
        reason: One of segment/reasons.py.
        detail: What the reason is about: a tensor, the backend's words; may be empty.
        layer: Keras layer or name scope (graph/name_layers.py); in a body, that of the loop or branch.
        flops: Floating-point operations of one call, unknown dimensions counted as 1; None where they are not known.
        inside: The loop or branch whose body it is in; empty: in none.
    """

    name: str
    op: str
    reason: str
    detail: str = ""
    layer: str = ""
    flops: int | None = None
    inside: str = ""


@dataclasses.dataclass(frozen=True)
class ExplainedSegment:
    """What one engine (for each set of shapes) would run; `nodes` without constants, `flops` and `inside` as above.

    `flops_share` is of the whole signature's, 0 to 1.
    """

    name: str
    nodes: int
    flops: int | None
    flops_share: float
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: tuple[str, ...] = ()
    inside: str = ""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A Keras layer or name scope: how many of its nodes, and of their operations, are inside engines and outside."""

    name: str
    nodes: int
    native_nodes: int
    flops: int
    native_flops: int


@dataclasses.dataclass(frozen=True)
class Change:
    """Something that would bring more into engines, and what it would bring, everything else being as it is.

    Attributes:
        reason: Why nodes are left out now: one of segment/reasons.py.
        what: The op type, the dtype, the option, or the words of who refused, that it is about.
        native_nodes: How many nodes are left out for it now.
        ops: The types of these.
        layers: Where these are.
        nodes: How many nodes more would be in engines: those, and what they keep out around them; 0 where it takes other
            changes too.
        flops_share: How much more of the arithmetic, 0 to 1.
        segments: How many segments there would be then.
        advice: What to do.
    """

    reason: str
    what: str
    native_nodes: int
    ops: tuple[str, ...]
    layers: tuple[str, ...]
    nodes: int
    flops_share: float
    segments: int
    advice: str


@dataclasses.dataclass(frozen=True)
class ExplainedGraph:
    """One graph, which one signature or several have.

    Attributes:
        signatures: Their keys.
        nodes: All its nodes, those in bodies of opened loops and branches included, constants not.
        flops: Floating-point operations of one call, of loops one iteration, unknown dimensions counted as 1; None where
            they are not known.
        segments: What engines would run.
        native: What stays in TensorFlow, in the order of the manifest.
        layers: All layers, in topological order; empty where they are not known.
        changes: What would bring more in, the most operations first.
    """

    signatures: tuple[str, ...]
    nodes: int
    flops: int | None
    segments: tuple[ExplainedSegment, ...]
    native: tuple[NativeNode, ...]
    layers: tuple[Layer, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def flops_share(self) -> float:
        """Share of the floating-point operations inside engines, 0 to 1."""
        return min(1.0, sum(segment.flops_share for segment in self.segments))

    def count_reasons(self) -> dict[str, int]:
        """How many nodes stay native, by reason, the most frequent first."""
        return dict(Counter(node.reason for node in self.native).most_common())


@dataclasses.dataclass(frozen=True)
class ExplainedBackend:
    """What one backend, of this version, would take of the model."""

    backend: str
    version: str
    graphs: tuple[ExplainedGraph, ...]


@dataclasses.dataclass(frozen=True)
class SkippedBackend:
    """A backend that could not be asked, and why."""

    backend: str
    why: str
    advice: str


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What `beforehand.explain` gives.

    Attributes:
        source: The folder, or the type of the object given.
        kind: "source", or "converted": then it says what the conversion found, and no changes.
        backends: One for each backend that was asked.
        skipped: The others.
    """

    source: str
    kind: str
    backends: tuple[ExplainedBackend, ...]
    skipped: tuple[SkippedBackend, ...] = ()

    def find(self, backend: str) -> ExplainedBackend:
        """Of one backend.

        Raises:
            KeyError: It was not asked.
        """
        return {item.backend: item for item in self.backends}[backend]

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `json.dumps` takes: docs/explain.md describes it."""
        backends = [
            {"backend": item.backend, "version": item.version, "graphs": [_write_graph(graph) for graph in item.graphs]}
            for item in self.backends
        ]
        skipped = [dataclasses.asdict(item) for item in self.skipped]
        return {
            "version": VERSION, "source": self.source, "kind": self.kind, "backends": backends, "skipped": skipped,
        }  # fmt: skip

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each native node: backend, signature, layer, node, op, reason, detail, flops, inside.

        Raises:
            BackendError: BH701, pandas is not installed.
        """
        from beforehand.explanation.make_frame import make_frame  # noqa: PLC0415 (pandas is not ours)

        return make_frame(self)


def _write_graph(graph: ExplainedGraph) -> dict[str, Any]:
    """Fields as they are, and the two that follow from them; shapes as in `beforehand inspect --json`."""
    return {
        **_write_lists(dataclasses.asdict(graph)),
        "flops_share": graph.flops_share,
        "reasons": graph.count_reasons(),
    }


def _write_lists(value: Any) -> Any:
    """Lists instead of tuples, all the way down."""
    if isinstance(value, dict):
        return {name: _write_lists(item) for name, item in value.items()}
    return [_write_lists(item) for item in value] if isinstance(value, (list, tuple)) else value
