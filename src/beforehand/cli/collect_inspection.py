"""What a converted SavedModel holds, as the plain data of `beforehand inspect --json`. TensorFlow is not needed.

Other tools read this form: fields may be added, never renamed. History of its `format_version`:
    1   2026-11-24   first
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from beforehand.errors import BeforehandError
from beforehand.records import Engine, Manifest, SegmentRecord, SegmentSource, Signature, TensorSpec
from beforehand.report.find_range_offers import find_range_offers
from beforehand.report.summarize_accuracy import summarize_accuracy
from beforehand.report.summarize_speed import summarize_speed
from beforehand.runtime.choose_engines import Fingerprint, find_fingerprint, find_fingerprints, fits
from beforehand.store import layout
from beforehand.store.hashing import hash_file
from beforehand.store.manifest import find_manifest, read_manifest

FORMAT_VERSION = 1
OK, MISSING, ALTERED = "ok", "missing", "altered"
_VARIABLES = "variables"


def collect_inspection(folder: pathlib.Path) -> dict[str, Any]:
    """All that is known of a converted SavedModel, each engine file checked against its hash.

    Raises:
        SourceNotFoundError: BH201, there is no SavedModel.
        ManifestError: BH502, it was not converted by beforehand, or its manifest cannot be read.
    """
    manifest = read_manifest(find_manifest(folder))
    engines = [_describe_engine(engine, folder) for engine in manifest.engines]
    return {
        "format_version": FORMAT_VERSION,
        "signatures": {signature.key: _describe_signature(signature) for signature in manifest.signatures},
        "segments": [_describe_segment(segment, manifest) for segment in manifest.segments],
        "engines": engines,
        "accuracy": summarize_accuracy(manifest.engines),
        "speed": summarize_speed(manifest.engines),
        "left_native": [
            {
                "segment": manifest.segments[item.segment_index].name,
                "shapes": item.shapes.to_dict(),
                "max_shapes": item.shapes.to_max_dict(),
                "reason": item.reason,
                "speed": None if item.speed is None else dataclasses.asdict(item.speed),
            }
            for item in manifest.left_native
        ],
        "targets": _describe_targets(manifest),
        "native_nodes": [
            {"name": node.name, "op": node.op, "reason": node.reason, "detail": node.detail, "signature": key}
            for key, node in manifest.native_nodes
        ],
        "files": [
            *(_describe_file(folder, name) for name in (layout.SAVED_MODEL, f"{_VARIABLES}/variables.index")),
            *(_check_graph(folder, *graph) for source in manifest.sources for graph in _list_graphs(source)),
        ],
        "disk": _measure_disk(folder, manifest),
        "model_id": manifest.model_id,
        "created": manifest.created,
        "versions": dict(manifest.versions),
        "not_kept": list(manifest.not_kept),
    }


def is_whole(found: dict[str, Any]) -> bool:
    """Whether no file is missing or altered."""
    return all(item["state"] == OK for item in (*found["engines"], *found["files"]))


def _describe_signature(signature: Signature) -> dict[str, Any]:
    return {"inputs": _describe_specs(signature.inputs), "outputs": _describe_specs(signature.outputs)}


def _describe_specs(specs: Iterable[TensorSpec]) -> dict[str, Any]:
    """By name; unknown dimensions are null, and so is a shape of unknown rank."""
    return {
        spec.name: {"dtype": spec.dtype, "shape": None if spec.shape is None else list(spec.shape)} for spec in specs
    }


def _describe_segment(segment: SegmentRecord, manifest: Manifest) -> dict[str, Any]:
    """`weight_bytes` is 0 where the manifest is older than the field."""
    engines = [engine for engine in manifest.engines if engine.segment == segment.name]
    sizes = [engine.bytes for engine in engines]
    return {
        "name": segment.name,
        "signature": segment.signature,
        "nodes": segment.nodes,
        "flops_share": segment.flops_share,
        "engines": len(sizes),
        "engine_bytes": sum(sizes),
        "weight_bytes": segment.weight_bytes,
        "range_offers": [
            {
                "engines": offer.engines,
                "bytes": offer.bytes,
                "range_bytes": offer.range_bytes,
                "shapes": offer.shapes.to_dict(),
                "max_shapes": offer.shapes.to_max_dict(),
                "text": offer.describe(),
                "is_worth_saying": offer.is_worth_saying,
            }
            for offer in find_range_offers(engines)
        ],
    }


def _describe_engine(engine: Engine, folder: pathlib.Path) -> dict[str, Any]:
    return {
        "segment": engine.segment,
        "shapes": engine.shapes.to_dict(),
        "max_shapes": engine.shapes.to_max_dict(),
        "backend": engine.backend,
        "precision": engine.precision,
        "target": engine.target,
        "kernels": engine.kernels,
        "file": f"{layout.ASSETS}/{engine.file}",
        "bytes": engine.bytes,
        "sha256": engine.sha256,
        "backend_version": engine.backend_version,
        "build_seconds": engine.build_seconds,
        "kept": list(engine.kept),
        "accuracy": None if engine.accuracy is None else dataclasses.asdict(engine.accuracy),
        "speed": None if engine.speed is None else dataclasses.asdict(engine.speed),
        **_check_engine_file(engine, folder),
    }


def _check_engine_file(engine: Engine, folder: pathlib.Path) -> dict[str, Any]:
    """`state`, with `actual_bytes` where they differ from the manifest's and `detail` where a file cannot be read."""
    try:
        file = layout.find_engine_file(folder / layout.ASSETS, engine.file)
        if not file.is_file():
            return {"state": MISSING}
        size = file.stat().st_size
        if size != engine.bytes:
            return {"state": ALTERED, "actual_bytes": size}
        return {"state": OK if hash_file(file) == engine.sha256 else ALTERED}
    except (BeforehandError, OSError) as error:  # a name that leads elsewhere, a file without permission, a bad disk
        return {"state": ALTERED, "detail": str(error)}


def _describe_file(folder: pathlib.Path, name: str) -> dict[str, str]:
    """The manifest has no hash of what TensorFlow writes: of that, only absence shows."""
    return {"file": name, "state": OK if (folder / name).is_file() else MISSING}


def _list_graphs(source: SegmentSource) -> Iterator[tuple[str, str]]:
    """The file and hash of each graph that engines are built of; where a model has ranges of its own, both are one."""
    yield source.onnx_file, source.onnx_sha256
    if source.quantized_file not in ("", source.onnx_file):
        yield source.quantized_file, source.quantized_sha256


def _check_graph(folder: pathlib.Path, file: str, sha256: str) -> dict[str, str]:
    """Its weights, in TensorFlow's checkpoint, are checked when it is built."""
    name = f"{layout.ASSETS}/{file}"
    found = _describe_file(folder, name)
    if found["state"] == OK and hash_file(folder / name) != sha256:
        found["state"] = ALTERED
    return found


def _describe_targets(manifest: Manifest) -> list[dict[str, Any]]:
    """What there are engines for; `fits_here` says whether this machine loads them."""
    here = find_fingerprints(engine.backend for engine in manifest.engines)
    groups: dict[Fingerprint, list[Engine]] = {}
    for engine in manifest.engines:
        groups.setdefault(find_fingerprint(engine), []).append(engine)
    return [
        {
            "backend": made_for.backend,
            "backend_version": made_for.version,
            "target": made_for.target,
            "engines": len(engines),
            "bytes": sum(engine.bytes for engine in engines),
            "fits_here": fits(engines[0], here[made_for.backend]),
        }
        for made_for, engines in groups.items()
    ]


def _measure_disk(folder: pathlib.Path, manifest: Manifest) -> dict[str, int]:
    files = {engine.file for engine in manifest.engines}
    assets = folder / layout.ASSETS
    split = {
        "saved_model": _sum_sizes([folder / layout.SAVED_MODEL]),
        "variables": _sum_sizes((folder / _VARIABLES).glob("*")),
        "engines": _sum_sizes(file for file in assets.glob("*") if file.name in files),
        "manifest": _sum_sizes([assets / layout.MANIFEST]),
        "sources": _sum_sizes(
            {assets / name for s in manifest.sources for name in (s.onnx_file, s.quantized_file) if name}
        ),
    }
    total = _sum_sizes(folder.rglob("*"))
    return {**split, "other": total - sum(split.values()), "total": total}


def _sum_sizes(files: Iterable[pathlib.Path]) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())
