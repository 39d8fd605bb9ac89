"""The process that builds one engine: `python -m beforehand.build_engines.child SPEC.json ENGINE PARENT`.

It gets nothing of its parent but the specification, and leaves nothing but the engine file; its output is the log. It
ends when its parent does, however that ended.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import threading
import time
import traceback
from typing import Any

from beforehand.backends.registry import find_backend
from beforehand.errors import BuildError
from beforehand.records import EngineSpec, ShapeSet
from beforehand.store import atomic

_WATCH_S = 0.5
# The exit code of a range that the model cannot have: other shapes may still be built.
RANGE_REFUSED = 64


def encode_spec(spec: EngineSpec) -> dict[str, Any]:
    """A specification as plain data."""
    return {**vars(spec), "shapes": vars(spec.shapes)}


def decode_spec(data: dict[str, Any]) -> EngineSpec:
    """The inverse of `encode_spec`."""
    shapes = {name: tuple(map(tuple, data["shapes"][name])) for name in ("shapes", "max_shapes", "opt_shapes")}
    shape_set = ShapeSet(tuple(data["shapes"]["names"]), **shapes, one_batch=data["shapes"]["one_batch"])
    tuples = {name: tuple(data[name]) for name in ("input_names", "output_names")}
    options = tuple((name, value) for name, value in data["options"])
    return EngineSpec(**{**data, **tuples, "options": options, "shapes": shape_set})


def main(arguments: list[str]) -> int:
    """Build the engine of a specification file."""
    spec_file, engine_file = map(pathlib.Path, arguments[:2])
    threading.Thread(target=_end_with, args=(int(arguments[2]),), daemon=True).start()
    spec = decode_spec(json.loads(spec_file.read_text()))
    try:
        data = find_backend(spec.backend).build(spec, lambda phase: None)
    except BuildError as error:
        if error.cause != "range":
            raise
        traceback.print_exc()
        return RANGE_REFUSED
    atomic.write_bytes(engine_file, data)
    return 0


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)  # a backend's threads may be at work


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
