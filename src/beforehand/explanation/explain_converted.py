"""What the manifest of a converted SavedModel says of what is in engines; TensorFlow is not needed."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from beforehand.errors import SignatureError
from beforehand.explanation.explanation import (
    CONVERTED,
    ExplainedBackend,
    ExplainedGraph,
    ExplainedSegment,
    Explanation,
    NativeNode,
)
from beforehand.graph.name_layers import name_layers
from beforehand.options import suggest
from beforehand.records import Manifest, SegmentRecord, Signature
from beforehand.store import layout
from beforehand.store.manifest import read_manifest

_NOT_COUNTED = ("Const", "NoOp", "Placeholder")


def explain_converted(path: pathlib.Path, signatures: Sequence[str] | None) -> Explanation:
    """What the conversion found, for the backend that it was made for.

    Raises:
        ManifestError: BH502. SignatureError: BH203.
    """
    manifest = read_manifest(path)
    found = [signature.key for signature in manifest.signatures]
    for key in signatures or ():
        if key not in found:
            raise SignatureError(
                f"the model has no signature {key!r}", why="its signatures are " + ", ".join(found),
                advice=suggest(key, found),
            )  # fmt: skip
    graphs = [_explain_graph(manifest, keys) for keys in _group_signatures(manifest)]
    graphs = [graph for graph in graphs if signatures is None or set(signatures) & set(graph.signatures)]
    options, versions = dict(manifest.options), dict(manifest.versions)
    backend = str(options.get("backend", "") or next((engine.backend for engine in manifest.engines), "openvino"))
    version = next((e.backend_version for e in manifest.engines if e.backend == backend), versions.get(backend, ""))
    folder = layout.find_saved_model(path)
    return Explanation(str(folder), CONVERTED, (ExplainedBackend(backend, version, tuple(graphs)),))


def _group_signatures(manifest: Manifest) -> list[tuple[str, ...]]:
    """Keys of the signatures of each graph: its records carry the first one's, others take and give the same tensors."""
    own = {segment.signature for segment in manifest.segments} | {key for key, _ in manifest.native_nodes}
    groups: dict[str, list[str]] = {}
    for signature in manifest.signatures:
        same = (other.key for other in manifest.signatures if other.key in own and _is_alike(signature, other))
        first = signature.key if signature.key in own else next(same, signature.key)
        groups.setdefault(first, []).append(signature.key)
    return [tuple(keys) for keys in groups.values()]


def _is_alike(signature: Signature, other: Signature) -> bool:
    names = [[spec.name for spec in item.outputs] for item in (signature, other)]
    return signature.inputs == other.inputs and names[0] == names[1]


def _explain_graph(manifest: Manifest, keys: tuple[str, ...]) -> ExplainedGraph:
    segments = tuple(
        ExplainedSegment(s.name, _count_nodes(s), None, s.flops_share, s.inputs, s.outputs)
        for s in manifest.segments
        if s.signature == keys[0]
    )
    left_out = [node for key, node in manifest.native_nodes if key == keys[0]]
    layers = name_layers({node.name: () for node in left_out})
    native = tuple(NativeNode(n.name, n.op, n.reason, n.detail, layers[n.name]) for n in left_out)
    nodes = sum(segment.nodes for segment in segments) + len(native)
    return ExplainedGraph(keys, nodes, None, segments, native)


def _count_nodes(segment: SegmentRecord) -> int:
    return segment.nodes - sum(count for op, count in segment.node_ops if op in _NOT_COUNTED)
