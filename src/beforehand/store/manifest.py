"""The manifest: what a converted SavedModel holds, as JSON with a format version.

History of `format_version` (fields may be added within a version, never renamed):
    1   2026-11-24   first
        added within it: `max_shapes` of an engine that serves a range (its `shapes` are then the smallest, so that a
        reader that does not know the field uses it for these alone, and is right); `weight_bytes` of a segment;
        `whole` of a signature that is one segment and nothing else; `opt_shapes` and `one_batch` of an engine;
        `policies`, `sources` and `options`; `kernels`, `kept` and `accuracy` of an engine; `left_native`; `quantized_file` and
        `quantized_sha256` of a source; `speed` of an engine and of what is left native
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from beforehand.errors import ManifestError, SourceNotFoundError
from beforehand.records import (
    Accuracy,
    Engine,
    EngineSpeed,
    LeftNative,
    LeftOut,
    LostCandidate,
    Manifest,
    OutputAccuracy,
    PartSearch,
    Policies,
    SegmentRecord,
    SegmentSource,
    Shape,
    ShapeSet,
    Signature,
    TensorSpec,
    Whole,
)
from beforehand.store import atomic, layout

NEWEST_WRITABLE_FORMAT = 1
OLDEST_READABLE_FORMAT = 1


def write_manifest(manifest: Manifest, path: pathlib.Path) -> None:
    """Write a manifest, atomically."""
    text = json.dumps({"format_version": NEWEST_WRITABLE_FORMAT, **encode_manifest(manifest)}, indent=1)
    atomic.write_bytes(path, text.encode())


def read_manifest(path: pathlib.Path) -> Manifest:
    """Read a manifest.

    Raises:
        ManifestError: BH502, no manifest, not JSON, of an unknown version, or with a field missing.
    """
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ManifestError(f"the manifest {path} cannot be read", why=str(error)) from error
    version = data.get("format_version") if isinstance(data, dict) else None
    if type(version) is not int or not OLDEST_READABLE_FORMAT <= version <= NEWEST_WRITABLE_FORMAT:
        raise ManifestError(
            f"the manifest {path} has format_version {version!r}",
            why=f"this beforehand reads {OLDEST_READABLE_FORMAT} to {NEWEST_WRITABLE_FORMAT}",
            advice="the version of beforehand that wrote it, or convert the original SavedModel again",
        )
    try:
        return decode_manifest(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ManifestError(f"the manifest {path} is incomplete", why=f"{type(error).__name__}: {error}") from error


def find_manifest(folder: pathlib.Path) -> pathlib.Path:
    """The manifest of a converted SavedModel, which is there.

    Raises:
        SourceNotFoundError: BH201, there is no SavedModel.
        ManifestError: BH502, it was not converted by beforehand.
    """
    file = layout.find_manifest(folder)
    if file.is_file():
        return file
    if not folder.exists():
        raise SourceNotFoundError(f"there is no folder {folder}", advice="the folder that save() or `-o` was given")
    if (folder / layout.SAVED_MODEL).is_file():
        raise ManifestError(
            f"{folder} is a SavedModel, but holds no engines of beforehand",
            why=f"it has no {layout.ASSETS}/{layout.MANIFEST}: it was not converted, or copied without its assets",
            advice=f"`beforehand convert {folder} -o OUT`, then `beforehand inspect OUT`",
        )
    raise SourceNotFoundError(
        f"there is no SavedModel in {folder}",
        why=f"it has neither {layout.SAVED_MODEL} nor {layout.ASSETS}/{layout.MANIFEST}",
        advice="the folder that holds saved_model.pb",
    )


def encode_manifest(manifest: Manifest) -> dict[str, Any]:
    """A manifest as plain data."""
    return {
        "model_id": manifest.model_id,
        "created": manifest.created,
        "versions": dict(manifest.versions),
        "signatures": [_encode_signature(signature) for signature in manifest.signatures],
        "segments": [_encode_segment(segment) for segment in manifest.segments],
        "engines": [encode_engine(engine) for engine in manifest.engines],
        "native_nodes": [{"signature": key, **vars(node)} for key, node in manifest.native_nodes],
        "not_kept": list(manifest.not_kept),
        "policies": vars(manifest.policies),
        "sources": [vars(source) for source in manifest.sources],
        "options": [list(pair) for pair in manifest.options],
        "left_native": [_encode_left_native(item) for item in manifest.left_native],
    }


def decode_manifest(data: dict[str, Any]) -> Manifest:
    """A manifest from plain data; the inverse of `encode_manifest`."""
    return Manifest(
        model_id=data["model_id"],
        created=data["created"],
        versions=tuple(data["versions"].items()),
        signatures=tuple(_decode_signature(item) for item in data["signatures"]),
        segments=tuple(_decode_segment(item) for item in data["segments"]),
        engines=tuple(decode_engine(item) for item in data["engines"]),
        native_nodes=tuple(
            (item["signature"], LeftOut(item["name"], item["op"], item["reason"], item["detail"]))
            for item in data["native_nodes"]
        ),
        not_kept=tuple(data["not_kept"]),
        policies=_decode_policies(data.get("policies", {})),
        sources=tuple(_decode_source(item) for item in data.get("sources", [])),
        options=tuple((name, _freeze(value)) for name, value in data.get("options", [])),
        left_native=tuple(
            LeftNative(item["segment_index"], _decode_shape_set(item), item["reason"], _decode_speed(item.get("speed")))
            for item in data.get("left_native", [])
        ),
    )


def _freeze(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _decode_policies(data: dict[str, Any]) -> Policies:
    return Policies(**{name: value for name, value in data.items() if name in Policies.__dataclass_fields__})


def _decode_source(data: dict[str, Any]) -> SegmentSource:
    data = {"quantized_file": "", "quantized_sha256": "", **data}  # records written before the fields were
    tuples = {name: tuple(data[name]) for name in ("weights_files", "input_names", "output_names")}
    fields = {name: tuples.get(name, data[name]) for name in SegmentSource.__dataclass_fields__}
    return SegmentSource(
        **{**fields, "pieces": tuple((file, offset, length) for file, offset, length in data["pieces"])}
    )


def _encode_spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": None if spec.shape is None else list(spec.shape)}


def _decode_spec(data: dict[str, Any]) -> TensorSpec:
    return TensorSpec(data["name"], data["dtype"], None if data["shape"] is None else tuple(data["shape"]))


def _encode_signature(signature: Signature) -> dict[str, Any]:
    data = {
        "key": signature.key,
        "inputs": [_encode_spec(spec) for spec in signature.inputs],
        "outputs": [_encode_spec(spec) for spec in signature.outputs],
        "method_name": signature.method_name,
    }
    return {**data, "whole": vars(signature.whole)} if signature.whole is not None else data


def _decode_signature(data: dict[str, Any]) -> Signature:
    return Signature(
        data["key"],
        tuple(_decode_spec(item) for item in data["inputs"]),
        tuple(_decode_spec(item) for item in data["outputs"]),
        data["method_name"],
        _decode_whole(data["whole"]) if "whole" in data else None,
    )


def _decode_whole(data: dict[str, Any]) -> Whole:
    return Whole(data["segment"], tuple(data["inputs"]), tuple(data["outputs"]))


def _encode_segment(segment: SegmentRecord) -> dict[str, Any]:
    return {
        "name": segment.name,
        "signature": segment.signature,
        "nodes": segment.nodes,
        "flops_share": segment.flops_share,
        "inputs": [_encode_spec(spec) for spec in segment.inputs],
        "outputs": [_encode_spec(spec) for spec in segment.outputs],
        "node_ops": dict(segment.node_ops),
        "weight_bytes": segment.weight_bytes,
    }


def _decode_segment(data: dict[str, Any]) -> SegmentRecord:
    return SegmentRecord(
        data["name"],
        data["signature"],
        data["nodes"],
        data["flops_share"],
        tuple(_decode_spec(item) for item in data["inputs"]),
        tuple(_decode_spec(item) for item in data["outputs"]),
        tuple(data["node_ops"].items()),
        data.get("weight_bytes", 0),
    )


def encode_engine(engine: Engine) -> dict[str, Any]:
    """An engine's record as plain data."""
    data = {**vars(engine), **_encode_shape_set(engine.shapes)}
    if engine.accuracy is not None:
        data["accuracy"] = dataclasses.asdict(engine.accuracy)
    return {**data, "speed": _encode_speed(engine.speed)}


def _encode_speed(speed: EngineSpeed | None) -> dict[str, Any] | None:
    return None if speed is None else {**vars(speed), "lost": [vars(item) for item in speed.lost]}


def _encode_left_native(item: LeftNative) -> dict[str, Any]:
    return {**vars(item), **_encode_shape_set(item.shapes), "speed": _encode_speed(item.speed)}


def _encode_shape_set(shapes: ShapeSet) -> dict[str, Any]:
    data: dict[str, Any] = {"shapes": _encode_shapes(shapes.names, shapes.shapes)}
    for name in ("max_shapes", "opt_shapes"):
        if getattr(shapes, name):
            data[name] = _encode_shapes(shapes.names, getattr(shapes, name))
    return {**data, "one_batch": True} if shapes.one_batch else data


def _encode_shapes(names: tuple[str, ...], shapes: tuple[Shape, ...]) -> list[list[Any]]:
    return [[name, list(shape)] for name, shape in zip(names, shapes, strict=True)]


def decode_engine(data: dict[str, Any]) -> Engine:
    """The inverse of `encode_engine`; raises KeyError, TypeError or ValueError where the data are damaged."""
    before = {
        "build_peak_bytes": 0,
        "kernels": "",
        "kept": (),
        "accuracy": None,
        "speed": None,
    }  # records written before the field was
    data = {**before, **data}
    lists = {name: tuple(data[name]) for name in ("input_names", "output_names", "kept")}
    made = {
        "shapes": _decode_shape_set(data),
        "accuracy": _decode_accuracy(data["accuracy"]),
        "speed": _decode_speed(data["speed"]),
    }
    plain = {name: data[name] for name in Engine.__dataclass_fields__ if name not in (*made, *lists)}
    return Engine(**{**plain, **lists, **made})


def _decode_speed(data: dict[str, Any] | None) -> EngineSpeed | None:
    if data is None:
        return None
    lost = tuple(LostCandidate(**_choose_fields(item, LostCandidate)) for item in data.get("lost", ()))
    return EngineSpeed(**{**_choose_fields(data, EngineSpeed), "lost": lost})


def _choose_fields(data: dict[str, Any], record: type) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name in record.__dataclass_fields__}  # type: ignore[attr-defined]


def _decode_accuracy(data: dict[str, Any] | None) -> Accuracy | None:
    if data is None:
        return None
    outputs = tuple(
        OutputAccuracy(**{name: value for name, value in item.items() if name in OutputAccuracy.__dataclass_fields__})
        for item in data["outputs"]
    )
    put_back = tuple(data.get("put_back", ()))
    found = data.get("search")  # not in records written before the field was
    search = found and PartSearch(found["parts"], found["rebuilds"], found["is_minimal"])
    return Accuracy(outputs, data["samples"], data["is_drawn"], data["not_compared"], put_back, search)


def _decode_shape_set(data: dict[str, Any]) -> ShapeSet:
    """Raises ValueError where the shapes do not go together."""
    names = tuple(name for name, _ in data["shapes"])
    shapes = tuple(tuple(shape) for _, shape in data["shapes"])
    more = {}
    for field in ("max_shapes", "opt_shapes"):
        pairs = data.get(field, [])
        more[field] = tuple(tuple(shape) for _, shape in pairs)
        if pairs and (
            [name for name, _ in pairs] != list(names) or list(map(len, shapes)) != list(map(len, more[field]))
        ):
            raise ValueError(f"{field} of an engine are not of the ranks of its shapes")
    return ShapeSet(names, shapes, **more, one_batch=bool(data.get("one_batch")))
