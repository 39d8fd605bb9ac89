"""Reports of models that were never converted, for tests of what is made of them: small, hostile, and of 20,000 nodes."""

import dataclasses
import json
import pathlib
from types import SimpleNamespace
from typing import Any

from beforehand.records import (
    Accuracy,
    Engine,
    FlatGraph,
    LeftNative,
    LeftOut,
    Manifest,
    OutputAccuracy,
    Partition,
    Segment,
    SegmentRecord,
    ShapeSet,
    Signature,
    TensorSpec,
)
from beforehand.report.origin_file import write_origin
from beforehand.report.outline_graph import outline_graphs
from beforehand.report.report_records import Origin
from beforehand.store import layout
from beforehand.store.manifest import write_manifest

X = TensorSpec("x", "float32", (None, 4))
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'\"&\u2028"


def make_partition(parts: list[tuple[str, int]], lanes: int = 1, ops: str = "AddV2", layer: str = "model") -> Partition:
    """Chains of nodes, `lanes` wide: each part is ("segment" or "native", its number of nodes), and reads of the one before."""
    nodes = [SimpleNamespace(name="x", op="Placeholder", input=[])]
    segments: list[Segment] = []
    levels: list[tuple[int, tuple[str, ...]]] = []
    left_out: list[LeftOut] = []
    before = ["x"]
    for level, (kind, size) in enumerate(parts):
        names: list[str] = []
        for i in range(size):
            name = f"StatefulPartitionedCall/{layer}/stage_{level}/dense_{i // 10}/node_{i}"
            nodes.append(
                SimpleNamespace(
                    name=name, op=ops, input=[f"{before[i % len(before)] if i < lanes else names[-lanes]}:0"]
                )
            )
            names.append(name)
        if kind == "segment":
            name = f"TRTEngineOp_000_{len(segments):03d}"
            segments.append(
                Segment(
                    name, len(segments), "serving_default", tuple(names), (), (X,), (X,), (), (), level, 1 / len(parts)
                )
            )
        else:
            levels.append((level, tuple(names)))
            left_out += [LeftOut(name, ops, "resource or string", f"{name} is a string") for name in names]
        before = names[-lanes:]
    graph_def = SimpleNamespace(node=nodes)
    signature = Signature("serving_default", (X,), (dataclasses.replace(X, name="y"),))
    graph = FlatGraph(signature, graph_def, ("x:0",), (f"{before[-1]}:0",), ())
    return Partition(graph, tuple(segments), tuple(levels), tuple(left_out))


def make_manifest(partition: Partition, engines: int = 2) -> Manifest:
    """The manifest of that partition, with so many engines for each segment."""
    segments = tuple(
        SegmentRecord(s.name, s.signature, s.size, s.flops_share, s.inputs, s.outputs, (("AddV2", s.size),), 1000)
        for s in partition.segments
    )
    return Manifest(
        model_id="0" * 32,
        created="2026-11-25T12:00:00+00:00",
        versions=(("beforehand", "1.2.3"), ("tensorflow", "2.21.0"), ("openvino", "2026.4.1")),
        signatures=(partition.graph.signature,),
        segments=segments,
        engines=tuple(
            make_engine(i, segment.name, 2**batch) for i, segment in enumerate(segments) for batch in range(engines)
        ),
        native_nodes=tuple(("serving_default", node) for node in partition.left_out),
        not_kept=("attribute `variables`",),
        options=(("precision_mode", "FP16"), ("backend", "openvino"), ("target", "")),
        left_native=(LeftNative(0, ShapeSet(("x",), ((64, 4),)), "it took 3.0 ms, TensorFlow 2.0 ms"),)
        if segments
        else (),
    )


def make_engine(index: int, segment: str, batch: int) -> Engine:
    return Engine(
        segment=segment, segment_index=index, shapes=ShapeSet(("x",), ((batch, 4),)), backend="openvino",
        backend_version="2026.4.1", precision="BF16", target="cpu-x86_64+amx", input_names=("x",), output_names=("y",),
        key=f"{index:032x}{batch:032x}", file=f"{segment}.{batch:016x}.openvino", bytes=123_456, sha256="0" * 64,
        build_seconds=1.5, build_peak_bytes=250_000_000,
        accuracy=Accuracy((OutputAccuracy("y", 0.5, 2.5e-3 * batch, 0.1, 0.999),), 2),
    )  # fmt: skip


def write_folder(
    folder: pathlib.Path, partition: Partition, *, engines: int = 2, measured: bool = True
) -> pathlib.Path:
    """A converted SavedModel, so far as a report looks at it."""
    (folder / layout.ASSETS).mkdir(parents=True)
    write_manifest(make_manifest(partition, engines), layout.find_manifest(folder))
    origin = Origin(
        "the_source", (("processor", "a fast one"), ("cores", "8")), outline_graphs([(partition, "serving_default")])
    )
    write_origin(origin, layout.find_asset(folder, layout.ORIGIN))
    if measured:
        layout.find_asset(folder, layout.BENCH).write_text(json.dumps(make_bench()))
        layout.find_asset(folder, layout.VERIFICATION).write_text(json.dumps(make_verify()))
    return folder


def make_bench() -> dict[str, Any]:
    """In the form of `beforehand bench --json`."""
    common = {"signature": "serving_default", "shapes": {"x": [1, 4]}}
    rows = [
        {**common, "way": way, "callers": callers, "median_ms": ms * callers, "p95_ms": 1.2 * ms * callers, "p99_ms": 1.3 * ms * callers,
         "per_second": 1000 / ms, "samples_ms": [ms * callers * (1 + i / 900) for i in range(200)], "rss_mb": 512.5, "error": None}
        for way, ms in (("native", 8.0), ("frozen", 7.0), ("converted", 2.0), ("standalone", 1.9))
        for callers in (1, 2, 4)
    ]  # fmt: skip
    failed = dict.fromkeys(("median_ms", "p95_ms", "p99_ms", "per_second", "rss_mb"))
    rows.append({**common, "way": "xla", "callers": 1, **failed, "samples_ms": [], "error": f"refused {HOSTILE}"})
    ways = ("never converted", "converted, not built", "converted and built", "without TensorFlow")
    cold = [
        {
            "way": way,
            "import_s": 2.0 / (i + 1),
            "load_s": 1.0,
            "first_call_s": 1.5 / (i + 1),
            "second_call_s": 0.01,
            "processes": 5,
        }
        for i, way in enumerate(ways)
    ]
    return {
        "version": 1, "when": "2026-11-25T13:00:00+00:00", "machine": {"processor": "a fast one", "instructions": ["avx2", "amx"]}, "versions": {}, "rows": rows,
        "cold": cold, "steady": {"ok": False, "told": "another process took 40 % of a core"},
    }  # fmt: skip


def make_verify() -> dict[str, Any]:
    """In the form of `beforehand verify --json`; one output is over its tolerance, one is exact."""
    rows = [
        {"signature": "serving_default", "output": output, "shapes": {"x": [1, 4]}, "engines": ["TRTEngineOp_000_000"], "max_abs": error,
         "max_rel": error, "mean_abs": error / 3, "cosine": 0.99999, "top1": None, "tolerance": 1e-3, "ok": error <= 1e-3}
        for output, error in (("y", 2e-6), ("exact", 0.0), ("off", 0.02))
    ]  # fmt: skip
    drift = {"segment": "TRTEngineOp_000_000", "output": "off", "tensor": "model/dense_3/MatMul:0", "error": 0.02}
    return {
        "version": 1,
        "when": "2026-11-25T14:00:00+00:00",
        "versions": {},
        "reference": "float64",
        "rows": rows,
        "first_drift": drift,
    }
