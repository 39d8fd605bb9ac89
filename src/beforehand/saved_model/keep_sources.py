"""What segments were built of, kept in the saved model: graphs as files, weights where TensorFlow wrote them already."""

from __future__ import annotations

import hashlib
import logging
import pathlib
from collections.abc import Sequence

from beforehand.errors import IntegrityError
from beforehand.records import LoweredSegment, SegmentSource, Weight
from beforehand.saved_model.pack_weights import PackedWeights
from beforehand.saved_model.read_bundle_index import Extent, name_data_file, read_bundle_index
from beforehand.store import atomic, layout
from beforehand.store.hashing import hash_file
from beforehand.store.segment_sources import read_weights

_log = logging.getLogger("beforehand")
WEIGHTS_ATTRIBUTE = "beforehand_weights"
_INDEX = "variables/variables.index"
Piece = tuple[int, int, int]


def keep_sources(
    lowered: Sequence[LoweredSegment], weights: PackedWeights, folder: pathlib.Path
) -> tuple[SegmentSource, ...]:
    """Add the graphs of all segments to the SavedModel in `folder`, and find their weights in its checkpoint.

    Every byte is compared. Where TensorFlow wrote the checkpoint in a form that is not known, nothing is kept, and a
    WARNING says so: the model runs, but no engine can be built of it later.
    """
    try:
        sources = tuple(_find_source(segment, weights, folder) for segment in lowered)
    except (ValueError, KeyError, IntegrityError) as error:
        _log.warning(
            "no engine can be built later of what is saved in %s: its weights are not found in TensorFlow's checkpoint "
            "(%s: %s).", folder, type(error).__name__, error,
        )  # fmt: skip
        return ()
    for segment, source in zip(lowered, sources, strict=True):
        atomic.copy_file(pathlib.Path(segment.onnx_file), folder / layout.ASSETS / source.onnx_file)
        if source.quantized_file not in ("", source.onnx_file):
            atomic.copy_file(pathlib.Path(segment.quantized_file), folder / layout.ASSETS / source.quantized_file)
    return sources


def _find_source(segment: LoweredSegment, weights: PackedWeights, folder: pathlib.Path) -> SegmentSource:
    onnx_file = pathlib.Path(segment.onnx_file)
    files, pieces = _find_pieces(segment.weights, weights, folder) if segment.weights else ((), ())
    name, onnx_sha256 = layout.name_source_file(segment.segment.name, segment.digest), hash_file(onnx_file)
    source = SegmentSource(
        onnx_file=name,
        onnx_sha256=onnx_sha256,
        weights_files=files,
        pieces=pieces,
        weights_sha256="",
        input_names=segment.input_names,
        output_names=segment.output_names,
        digest=segment.digest,
        quantized_file=_name_quantized(segment, name, onnx_sha256),
        quantized_sha256=segment.quantized_sha256,
    )
    return SegmentSource(**{**vars(source), "weights_sha256": _hash_same(source, folder, onnx_file.parent)})


def _name_quantized(segment: LoweredSegment, onnx_file: str, onnx_sha256: str) -> str:
    if segment.quantized_sha256 in ("", onnx_sha256):
        return onnx_file if segment.quantized_sha256 else ""
    return layout.name_quantized_file(segment.segment.name, segment.quantized_sha256)


def _find_pieces(
    wanted: Sequence[Weight], weights: PackedWeights, folder: pathlib.Path
) -> tuple[tuple[str, ...], tuple[Piece, ...]]:
    index = folder / _INDEX
    tensors = read_bundle_index(index)
    files: dict[str, int] = {}
    pieces: list[Piece] = []
    for weight in wanted:
        dtype, start, length = weights.find_bytes(weight)
        variable = tensors[f"{WEIGHTS_ATTRIBUTE}/packed/{dtype}/.ATTRIBUTES/VARIABLE_VALUE"]
        for extent in cut_extents(variable, start, length):
            name = f"{index.parent.name}/{name_data_file(index, extent.shard)}"
            pieces.append((files.setdefault(name, len(files)), extent.offset, extent.length))
    return tuple(files), tuple(pieces)


def cut_extents(extents: Sequence[Extent], start: int, length: int) -> list[Extent]:
    """The extents of `length` bytes that begin `start` bytes into those given.

    Raises:
        ValueError: They do not have so many bytes, or are cut within a row of weights.
    """
    found, at = [], 0
    for extent in extents:
        low, high = max(start, at), min(start + length, at + extent.length)
        if low < high:
            found.append(Extent(extent.shard, extent.offset + low - at, high - low))
        at += extent.length
    if sum(extent.length for extent in found) != length:
        raise ValueError("the checkpoint has fewer weights than the model")
    if any(extent.length % layout.WEIGHT_ALIGNMENT for extent in found[:-1]):
        raise ValueError("the checkpoint cuts a row of weights")
    return found


def _hash_same(source: SegmentSource, folder: pathlib.Path, made: pathlib.Path) -> str:
    """SHA-256 of the weights, which are the same bytes in the checkpoint and in the file that engines are built of.

    Raises:
        ValueError: They are not.
    """
    digest = hashlib.sha256()
    with (made / layout.ONNX_WEIGHTS).open("rb") as file:
        for chunk in read_weights(source, folder):
            if file.read(len(chunk)) != chunk:
                raise ValueError("the checkpoint has other weights than the model")
            digest.update(chunk)
        if file.read(1):
            raise ValueError("the checkpoint has fewer weights than the model")
    return digest.hexdigest()
