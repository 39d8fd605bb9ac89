"""Build one engine in a process of its own: whatever happens there, the user's interpreter lives."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

from beforehand import environment
from beforehand.build_engines.child import RANGE_REFUSED, encode_spec
from beforehand.build_engines.events import Report
from beforehand.build_engines.settings import BuildSettings
from beforehand.errors import BuildError, BuildForbiddenError
from beforehand.records import Engine, EngineSpec
from beforehand.store import layout
from beforehand.store.hashing import hash_file

DEFAULT = BuildSettings()
_HEARTBEAT_S = 10.0
_OWN_CLASS = re.compile(r"^beforehand\.errors\.\w+: ")  # before the code, as a traceback's last line has it


def build_engine(
    spec: EngineSpec,
    folder: pathlib.Path,
    settings: BuildSettings = DEFAULT,
    *,
    report: Report = lambda progress: None,
    cancel: threading.Event | None = None,
    on_start: Callable[[subprocess.Popen[bytes]], None] = lambda process: None,
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
    shapes = spec.shapes.describe()
    if environment.is_build_forbidden():
        raise BuildForbiddenError(
            f"building {spec.segment} for {shapes} is forbidden here",
            cause="forbidden",
            segment=spec.segment,
            shapes=shapes,
            why="BEFOREHAND_FORBID_BUILD is set",
        )
    name = layout.name_engine_file(spec.segment, spec.key, spec.backend)
    log, spec_file = folder / f"{name}.log", folder / f"{name}.json"
    spec_file.write_text(json.dumps(encode_spec(spec)))
    start = time.monotonic()
    arguments = [str(spec_file), str(folder / name), str(os.getpid())]
    with _start_child(arguments, log) as process:
        on_start(process)
        code = _wait_for(process, start, settings.timeout_s)
    if code != 0 or not (folder / name).is_file():
        raise _describe_failure(spec, code, log, settings.timeout_s)
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
        file=name,
        bytes=(folder / name).stat().st_size,
        sha256=hash_file(folder / name),
        build_seconds=round(time.monotonic() - start, 3),
    )


def _start_child(arguments: list[str], log: pathlib.Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "beforehand.build_engines.child", *arguments]
    # The child must find the same packages, wherever the user's script put them on the path.
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environ
        )  # fmt: skip


def _wait_for(process: subprocess.Popen[bytes], start: float, timeout_s: float) -> int | None:
    """The child's exit code; None if it was stopped at the deadline. It never outlives this call."""
    try:
        while True:
            left = timeout_s - (time.monotonic() - start) if timeout_s else _HEARTBEAT_S
            try:
                return process.wait(max(0.0, min(left, _HEARTBEAT_S)))
            except subprocess.TimeoutExpired:
                if timeout_s and time.monotonic() - start >= timeout_s:
                    return None
    finally:
        if process.poll() is None:
            process.kill()


def _describe_failure(spec: EngineSpec, code: int | None, log: pathlib.Path, timeout_s: float) -> BuildError:
    shapes = spec.shapes.describe()
    what = f"the engine of {spec.segment} for {shapes} was not built by {spec.backend}"
    lines = log.read_text(errors="replace").strip().splitlines()
    last = _OWN_CLASS.sub("", lines[-1]) if lines else ""
    if code is None:
        cause, why, advice = "timeout", f"it took longer than {timeout_s:g} s", "a larger timeout_s"
    elif code is not None and code < 0:
        cause, why = "killed", f"its process was ended by {signal.Signals(-code).name}. {last}"
        advice = "SIGKILL is most often the kernel out of memory: give it more, or build for smaller shapes"
    else:
        cause = "range" if code == RANGE_REFUSED else "failed"
        why, advice = last, "the log below has the whole story"
    # The build's own folder goes with the converter; what explains the failure must stay.
    kept = pathlib.Path(tempfile.mkdtemp(prefix="beforehand-log-")) / log.name
    shutil.copyfile(log, kept)
    return BuildError(what, cause=cause, segment=spec.segment, shapes=shapes, why=why, advice=advice, log=str(kept))
