"""One segment and what came to its inputs, to a quantised graph beside it: by NNCF in a process of its own, or out of the cache."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import pathlib
import shutil
import tempfile
import threading

from beforehand import causes
from beforehand.build_engines.diagnose import find_failure
from beforehand.build_engines.keep_log import keep_log
from beforehand.build_engines.settings import BuildSettings
from beforehand.build_engines.supervise import Outcome, Watch, run_child
from beforehand.calibrate.capture_inputs import SegmentInputs
from beforehand.calibrate.child import NOTHING
from beforehand.check_packages import check_packages
from beforehand.errors import BuildCancelledError, BuildError
from beforehand.records import LoweredSegment
from beforehand.store import layout
from beforehand.store.hashing import hash_data, hash_file
from beforehand.store.quantized_cache import QuantizedCache

_log = logging.getLogger("beforehand")
_CHILD = "beforehand.calibrate.child"
# Raised when the same data come to another graph, because it is made otherwise.
_RECIPE = 1
# Bytes of a segment whose weights fit into one ONNX message, beside all else.
MOST_SMOOTHED = (1 << 31) - (64 << 20)
PACKAGES = ("nncf", "onnxruntime")


def quantize_segment(
    lowered: LoweredSegment,
    inputs: SegmentInputs,
    settings: BuildSettings,
    cache: QuantizedCache,
    cancel: threading.Event | None = None,
) -> LoweredSegment:
    """The segment with a quantised graph; without one where nothing in it can be quantised, or it has its own.

    Args:
        lowered: The segment; the graph is written beside its file.
        inputs: What came to it.
        settings: Deadline and cap of memory, as for a build.
        cache: Where graphs are found and kept by everything that they are made of.
        cancel: Once it is set, NNCF's process is ended.

    Raises:
        BuildError: BH401, NNCF failed. BackendError: BH701, it is not installed.
    """
    key = make_key(lowered, inputs)
    # Beside what a calibration before made of other data: that is in use until all of this one has come to its end.
    target = pathlib.Path(lowered.onnx_file).with_name(f"{key[:16]}.{layout.ONNX_QUANTIZED}")
    sha256 = cache.find(key, target)
    if sha256 is None:
        check_packages("calibrating", PACKAGES)
        _log.info("quantising %s by %d calls of it", lowered.segment.name, inputs.calls)
        sha256 = _run(lowered, inputs, target, settings, cancel)
        cache.add(key, target if sha256 else None)
    if not sha256:
        return dataclasses.replace(lowered, quantized_file="", quantized_sha256="")
    return dataclasses.replace(lowered, quantized_file=str(target), quantized_sha256=sha256)


def make_key(lowered: LoweredSegment, inputs: SegmentInputs) -> str:
    """Hash of all that a quantised graph is made of. Names of nodes count: they stand in it, and in messages."""
    versions = {name: _find_version(name) for name in PACKAGES}
    made_of = [lowered.onnx_sha256, lowered.weights_sha256, lowered.input_names]
    return hash_data({"recipe": _RECIPE, "model": made_of, "inputs": inputs.digest, "versions": versions})


def _find_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _run(
    lowered: LoweredSegment,
    inputs: SegmentInputs,
    target: pathlib.Path,
    settings: BuildSettings,
    cancel: threading.Event | None,
) -> str:
    """Have the child write `target`; its SHA-256, empty if nothing can be quantised."""
    made = target.with_name(f"{target.name}.made")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="quantise-", dir=inputs.folder.parent))
    job = {
        "onnx_file": lowered.onnx_file, "target": str(made), "folder": str(inputs.folder), "calls": inputs.calls,
        "names": list(lowered.input_names), "is_smoothed": lowered.bytes <= MOST_SMOOTHED,
    }  # fmt: skip
    if not job["is_smoothed"]:
        _log.warning(
            "%s has %.1f GB: outliers of activations are not moved into its weights (SmoothQuant), which would have to be in one "
            "message of less than 2 GB. Where it has attention, look at its accuracy (docs/accuracy.md).",
            lowered.segment.name, lowered.bytes / 1e9,
        )  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    try:
        outcome = run_child(_CHILD, [str(folder / "job.json")], folder, "quantise", settings, Watch(cancel=cancel))
        if outcome.code == 0 and not outcome.stopped and outcome.result == NOTHING:
            return ""
        sha256 = hash_file(made) if made.is_file() else ""
        if outcome.stopped or outcome.code != 0 or not sha256 or sha256 != outcome.result:
            raise _explain(lowered, outcome, settings)
        made.replace(target)
        return sha256
    finally:
        made.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _explain(lowered: LoweredSegment, outcome: Outcome, settings: BuildSettings) -> BuildError:
    failure = find_failure(outcome, settings)
    cls = BuildCancelledError if failure.cause == causes.CANCELLED else BuildError
    return cls(
        f"{lowered.segment.name} was not quantised ({failure.cause})", cause=failure.cause, segment=lowered.segment.name,
        why=failure.why, advice=failure.advice or causes.ADVICE.get(failure.cause, ""), log=str(keep_log(outcome.log)),
    )  # fmt: skip
