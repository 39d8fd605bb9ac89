"""The process that builds one engine: `python -m beforehand.build_engines.child STATUS PARENT SPEC.json ENGINE`.

It gets nothing of its parent but the specification, and leaves nothing but the engine file; its output is the log. It
ends when its parent does, however that ended.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pathlib
import sys
import traceback
from typing import Any

from beforehand import causes
from beforehand.backends.registry import find_backend
from beforehand.build_engines.events import CHECKING, READING, WRITING
from beforehand.build_engines.prepare_child import prepare_child
from beforehand.build_engines.status_file import Failure, StatusWriter
from beforehand.errors import BuildError
from beforehand.records import EngineSpec, ShapeSet
from beforehand.store import atomic, layout
from beforehand.store.hashing import hash_file

# The exit code of a failure that is told in the status file.
TOLD = 64
# That of one for which the disk has no room.
DISK_FULL = 65
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_MEMORY = ("bad_alloc", "cannot allocate memory", "out of memory")


def encode_spec(spec: EngineSpec) -> dict[str, Any]:
    """A specification as plain data."""
    return {**vars(spec), "shapes": vars(spec.shapes)}


def decode_spec(data: dict[str, Any]) -> EngineSpec:
    """The inverse of `encode_spec`."""
    shapes = {name: tuple(map(tuple, data["shapes"][name])) for name in ("shapes", "max_shapes", "opt_shapes")}
    shape_set = ShapeSet(tuple(data["shapes"]["names"]), **shapes, one_batch=data["shapes"]["one_batch"])
    tuples = {name: tuple(data[name]) for name in ("input_names", "output_names", "kept")}
    options = tuple((name, value) for name, value in data["options"])
    return EngineSpec(**{**data, **tuples, "options": options, "shapes": shape_set})


def main(arguments: list[str]) -> int:
    """Build the engine of a specification file."""
    status = StatusWriter(pathlib.Path(arguments[0]))
    prepare_child(int(arguments[1]))
    spec_file, engine_file = map(pathlib.Path, arguments[2:4])
    try:
        _build(decode_spec(json.loads(spec_file.read_text())), engine_file, status)
    except Exception as error:  # noqa: BLE001 (whatever it is, the parent must hear of it)
        failure = _explain(error)
        try:
            traceback.print_exc()
            status.tell_failure(failure)
        except OSError as full:  # there is no room for a word
            return DISK_FULL if causes.DISK_FULL in (failure.cause, _explain(full).cause) else 1
        return TOLD
    return 0


def _build(spec: EngineSpec, engine_file: pathlib.Path, status: StatusWriter) -> None:
    backend = find_backend(spec.backend)
    status.tell_phase(READING)
    _check_input(spec)
    data = backend.build(spec, status.tell_phase)
    if not isinstance(data, (bytes, bytearray, memoryview)) or not data:
        raise BuildError(
            f"{spec.backend} gave no engine",
            cause=causes.INVALID_ENGINE,
            why=f"it gave {type(data).__name__} {data!r:.80}",
        )
    status.tell_phase(WRITING)
    atomic.write_bytes(engine_file, bytes(data))
    status.tell_phase(CHECKING)
    backend.check_engine(bytes(data), spec)
    status.tell_result(hashlib.sha256(data).hexdigest())


def _check_input(spec: EngineSpec) -> None:
    """See that the ONNX files are those that were written.

    Raises:
        BuildError: BH401.
    """
    onnx_file = pathlib.Path(spec.onnx_file)
    for file, wanted in (
        (onnx_file, spec.onnx_sha256),
        (onnx_file.with_name(layout.ONNX_WEIGHTS), spec.weights_sha256),
    ):
        if not wanted:
            continue
        if not file.is_file():
            raise BuildError(f"{file} is missing", cause=causes.CORRUPTED_INPUT, why="it was there when it was written")
        found = hash_file(file)
        if found != wanted:
            raise BuildError(
                f"{file} is altered",
                cause=causes.CORRUPTED_INPUT,
                why=f"its SHA-256 is {found[:16]}, not {wanted[:16]}",
            )


def _explain(error: Exception) -> Failure:
    if isinstance(error, BuildError):
        return Failure(error.cause, error.what, error.why, error.advice, error.nodes)
    text = " ".join(str(error).split())
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    cause = causes.FAILED
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _NO_MEMORY):
        cause = causes.HOST_MEMORY
    elif isinstance(error, OSError) and error.errno in _FULL:
        cause = causes.DISK_FULL
    return Failure(cause, "", told[:2000])


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what it made is on the disk; a backend's libraries that fail as they are taken down do not matter
