"""What segments are built of, read back out of a converted SavedModel: its graphs lie there, and its weights once."""

from __future__ import annotations

import hashlib
import pathlib
import shutil
from collections.abc import Iterator

from beforehand.errors import IntegrityError
from beforehand.records import SegmentSource
from beforehand.store import layout
from beforehand.store.hashing import hash_file

_CHUNK = 1 << 22
_WHY_WEIGHTS = (
    "its checkpoint is not the one that it was converted with: TensorFlow alone saved it again, or it is damaged"
)
_ADVICE = "convert the original SavedModel again, or copy the converted one again"


def restore_onnx(source: SegmentSource, saved_model: pathlib.Path, into: pathlib.Path) -> pathlib.Path:
    """Write the ONNX model of a segment, its weights in a second file, into the folder `into`; the quantised one beside it.

    Args:
        source: From the manifest.
        saved_model: The converted SavedModel's folder.
        into: An empty folder. Weights are copied a few megabytes at a time.

    Returns:
        The folder, in which the files have the names that `make_spec` gives to `EngineSpec.onnx_file`.

    Raises:
        IntegrityError: BH503, the files are not those that the segment was converted to.
    """
    assets = saved_model / layout.ASSETS
    _restore_graph(assets, source.onnx_file, source.onnx_sha256, into / layout.ONNX_MODEL)
    if source.quantized_file not in ("", source.onnx_file):
        _restore_graph(assets, source.quantized_file, source.quantized_sha256, into / layout.ONNX_QUANTIZED)
    digest = hashlib.sha256()
    with (into / layout.ONNX_WEIGHTS).open("wb") as file:
        for chunk in read_weights(source, saved_model):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != source.weights_sha256:
        raise IntegrityError(
            f"the weights in {saved_model} are not those that its engines are built of",
            why=_WHY_WEIGHTS,
            advice=_ADVICE,
        )
    return into


def _restore_graph(assets: pathlib.Path, name: str, sha256: str, target: pathlib.Path) -> None:
    graph = layout.find_engine_file(assets, name)
    if not graph.is_file():
        raise IntegrityError(f"{graph}, of which engines are built, is missing", why=_WHY_WEIGHTS, advice=_ADVICE)
    shutil.copyfile(graph, target)  # no link: that would touch the saved file
    if hash_file(target) != sha256:
        raise IntegrityError(f"{graph}, of which engines are built, is altered", advice=_ADVICE)


def read_weights(source: SegmentSource, saved_model: pathlib.Path) -> Iterator[bytes]:
    """The second file of the ONNX model, a few megabytes at a time, out of TensorFlow's checkpoint.

    Raises:
        IntegrityError: BH503, the checkpoint has no such pieces.
    """
    files = [_find_checkpoint_file(saved_model, name) for name in source.weights_files]
    for index, offset, length in source.pieces:
        with files[index].open("rb") as file:
            file.seek(offset)
            for start in range(0, length, _CHUNK):
                wanted = min(_CHUNK, length - start)
                chunk = file.read(wanted)
                if len(chunk) != wanted:
                    raise IntegrityError(f"{files[index]} ends before its weights do", why=_WHY_WEIGHTS, advice=_ADVICE)
                yield chunk
        yield bytes(-length % layout.WEIGHT_ALIGNMENT)


def _find_checkpoint_file(saved_model: pathlib.Path, name: str) -> pathlib.Path:
    path = pathlib.PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise IntegrityError(f"the manifest names weights in {name!r}", why="they lie in the SavedModel's folder")
    if not (saved_model / path).is_file():
        raise IntegrityError(f"{saved_model / path} is missing", why=_WHY_WEIGHTS, advice=_ADVICE)
    return saved_model / path
