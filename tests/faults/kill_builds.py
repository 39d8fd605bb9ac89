"""A build of twelve engines, in a process that tests kill: `python -m tests.faults.kill_builds FOLDER`."""

from __future__ import annotations

import dataclasses
import pathlib
import sys

from beforehand.build_engines.build_all import BuildHooks, build_all
from beforehand.build_engines.plan_engines import make_key
from beforehand.build_engines.settings import BuildSettings
from beforehand.records import ShapeSet
from beforehand.store.cache_folder import CacheFolder
from tests.faults.fault_table import make_spec

COUNT = 12


def main(folder: pathlib.Path, workers: int, backend: str) -> None:
    first = make_spec(folder, backend)
    specs = [dataclasses.replace(first, shapes=ShapeSet(("x",), ((batch, 4),))) for batch in range(1, COUNT + 1)]
    specs = [dataclasses.replace(spec, key=make_key(spec)) for spec in specs]
    into = folder / "engines"
    into.mkdir(exist_ok=True)
    hooks = BuildHooks(on_event=lambda event: print(event.kind, event.shapes, flush=True))
    result = build_all(specs, into, BuildSettings(workers=workers), CacheFolder(folder / "cache"), hooks)
    assert len(result.engines) == COUNT, result.failures
    print("done", flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
