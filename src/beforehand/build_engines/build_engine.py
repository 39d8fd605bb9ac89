"""Build one engine in a process of its own: whatever happens there, the user's interpreter lives."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import threading

from beforehand import causes, environment
from beforehand.build_engines.child import encode_spec
from beforehand.build_engines.diagnose import diagnose
from beforehand.build_engines.events import Report
from beforehand.build_engines.settings import BuildSettings
from beforehand.build_engines.supervise import OnStart, Outcome, Watch, run_child
from beforehand.errors import BuildForbiddenError
from beforehand.records import Engine, EngineSpec
from beforehand.store import layout
from beforehand.store.hashing import hash_file

_CHILD = "beforehand.build_engines.child"
DEFAULT = BuildSettings()


def build_engine(
    spec: EngineSpec,
    folder: pathlib.Path,
    settings: BuildSettings = DEFAULT,
    *,
    report: Report = lambda progress: None,
    cancel: threading.Event | None = None,
    on_start: OnStart = lambda process: None,
) -> Engine:
    """Build `spec` into `folder`.

    Args:
        spec: What to build.
        folder: Where the engine file and its log go.
        settings: Deadline and cap of memory.
        report: Called at each new phase, and every `HEARTBEAT_S`: the clock is ours, a backend may be silent.
        cancel: Once it is set, the build ends within seconds.
        on_start: Called with the process, which may be ended at any time: the build then fails as "killed".

    Raises:
        BuildError: BH401, with its cause; the log's path is in it.
        BuildForbiddenError: BH402, BEFOREHAND_FORBID_BUILD=1. BuildCancelledError: BH403, `cancel` was set.
    """
    if environment.is_build_forbidden():
        raise refuse_forbidden(spec)
    folder = folder.absolute()  # the child's working directory is another
    name = layout.name_engine_file(spec.segment, spec.key, spec.backend)
    spec_file = folder / f"{name}.json"
    spec = dataclasses.replace(spec, onnx_file=os.path.abspath(spec.onnx_file))
    spec_file.write_text(json.dumps(encode_spec(spec)))
    (folder / name).unlink(missing_ok=True)
    outcome = run_child(
        _CHILD, [str(spec_file), str(folder / name)], folder, name, settings, Watch(report, cancel, on_start)
    )
    file = folder / name
    sha256 = hash_file(file) if file.is_file() else ""
    if outcome.stopped or outcome.code != 0 or not sha256 or sha256 != outcome.result:
        file.unlink(missing_ok=True)
        raise diagnose(spec, outcome, settings)
    return _describe_engine(spec, file, sha256, outcome)


def refuse_forbidden(spec: EngineSpec) -> BuildForbiddenError:
    """The error for a build that was asked for where none may be."""
    shapes = spec.shapes.describe()
    return BuildForbiddenError(
        f"building {spec.segment} for {shapes} is forbidden here",
        cause=causes.FORBIDDEN,
        segment=spec.segment,
        shapes=shapes,
        why="BEFOREHAND_FORBID_BUILD is set",
        advice=causes.ADVICE[causes.FORBIDDEN],
    )


def _describe_engine(spec: EngineSpec, file: pathlib.Path, sha256: str, outcome: Outcome) -> Engine:
    return Engine(
        segment=spec.segment,
        segment_index=spec.segment_index,
        shapes=spec.shapes,
        backend=spec.backend,
        backend_version=spec.backend_version,
        precision=spec.precision,
        target=spec.target,
        input_names=spec.input_names,
        output_names=spec.output_names,
        key=spec.key,
        file=file.name,
        bytes=file.stat().st_size,
        sha256=sha256,
        build_seconds=outcome.seconds,
        build_peak_bytes=outcome.peak_bytes,
        kernels=spec.kernels,
        kept=spec.kept,
    )
