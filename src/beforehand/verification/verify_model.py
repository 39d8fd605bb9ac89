"""`beforehand.verify`: see that a converted SavedModel answers as TensorFlow does, and if not, where it begins not to."""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from beforehand.accuracy.compare_engines import find_obstacle
from beforehand.check_packages import check_packages
from beforehand.records import Engine, Manifest, Signature
from beforehand.report.list_versions import list_versions
from beforehand.store import atomic, layout
from beforehand.store.manifest import find_manifest, read_manifest
from beforehand.verification.find_samples import find_samples, find_signature
from beforehand.verification.records import Drift, NotVerified, OutputRow, SegmentRow, Verification

if TYPE_CHECKING:
    from beforehand.verification.verify_signature import SignatureResult

_log = logging.getLogger("beforehand")


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What `verify` was asked for."""

    against: Any
    samples: Any
    shapes: Any
    tolerance: float | None
    max_samples: int


def verify(  # noqa: PLR0913 (what to compare with, on what, how strictly)
    folder: str | os.PathLike[str],
    *,
    against: Any = None,
    samples: Any = None,
    shapes: Any = None,
    signatures: Sequence[str] | None = None,
    tolerance: float | None = None,
    max_samples: int = 2,
    keep: bool = False,
) -> Verification:
    """Compare the engines of a converted SavedModel with TensorFlow, in float64 where it has kernels for that.

    Each signature is called as a user calls it, at each set of shapes, and its counters are read: an engine that should have run and
    did not is an error, and what TensorFlow answered itself is not called verified. Then each segment's engines are given what the
    reference gives that segment, so that the first one that drifts is found, not the last one that suffers from it.

    Example:
        ```python
        found = beforehand.verify("resnet50_engines", against="resnet50")
        assert found.ok, found.first_drift
        ```

    Args:
        folder: A converted SavedModel.
        against: The source: a folder, a Keras model or a `tf.Module`. Without it, the graph that the converted SavedModel holds.
        samples: Samples of the chosen signature, in any form that `build` takes, or a path: a `.npz` file, a folder of them, or a Python
            script that defines `samples` or `input_fn`. Without them, inputs are drawn at random.
        shapes: Shapes to draw inputs at, as `build` takes them; by default those of the engines.
        signatures: Keys; by default all, or with samples or shapes the default one.
        tolerance: What `max_rel` may be, instead of each precision's own (docs/verify.md).
        max_samples: Most samples of each set of shapes.
        keep: Also write what was found beside the engines.

    Returns:
        What was found; `ok` says whether all is right.

    Raises:
        SourceNotFoundError: BH201. ManifestError: BH502, it was not converted. SignatureError: BH203. GraphError: BH205.
        NoSamplesError: BH121. SampleError: BH122. OutputExistsError: BH501, `keep`, and the folder may not be written to.
    """
    path = pathlib.Path(folder)
    manifest = read_manifest(find_manifest(path))
    check_packages("verifying", ("tensorflow",))
    chosen = _choose(manifest, signatures, is_for_one=samples is not None or shapes is not None)
    wanted = _Wanted(against, samples, shapes, tolerance, max_samples)
    obstacles = {engine.file: find_obstacle(engine) for engine in manifest.engines}
    usable = tuple(engine for engine in manifest.engines if not obstacles[engine.file])
    with tempfile.TemporaryDirectory(prefix="beforehand-") as scratch:
        results = _run(path, manifest, usable, chosen, wanted, pathlib.Path(scratch))
    compared = {row.engine for result in results for row in result.segments}
    failed = {item.engine: item for result in results for item in result.not_verified}
    found = _gather(path, against, results, [
        failed.get(engine.file)
        or NotVerified(engine.segment, engine.file, obstacles[engine.file] or "no sample had shapes that it serves")
        for engine in manifest.engines
        if engine.file not in compared
    ])  # fmt: skip
    if keep:
        text = json.dumps(found.to_dict(), indent=1)
        atomic.write_bytes(path / layout.ASSETS / layout.VERIFICATION, text.encode())
    return found


def _run(
    path: pathlib.Path,
    manifest: Manifest,
    usable: tuple[Engine, ...],
    chosen: Sequence[Signature],
    wanted: _Wanted,
    scratch: pathlib.Path,
) -> list[SignatureResult]:
    from beforehand.verification.verify_signature import ModelPair  # noqa: PLC0415 (imports TensorFlow)

    pair = ModelPair.open(path, manifest, usable, wanted.against, scratch)
    results = []
    for signature in chosen:
        drawn = find_samples(manifest, signature, usable, wanted.samples, wanted.shapes, wanted.max_samples)
        results.append(pair.verify(signature, drawn, wanted.tolerance))
    return results


def _choose(manifest: Manifest, keys: Sequence[str] | None, *, is_for_one: bool) -> list[Signature]:
    """The signatures asked for.

    Raises:
        SignatureError: BH203.
    """
    if keys:
        return [find_signature(manifest, key) for key in keys]
    return list(manifest.signatures[:1] if is_for_one else manifest.signatures)


def _gather(
    path: pathlib.Path, against: Any, results: Sequence[SignatureResult], not_verified: Sequence[NotVerified]
) -> Verification:
    rows: tuple[OutputRow, ...] = tuple(row for result in results for row in result.rows)
    segments: tuple[SegmentRow, ...] = tuple(dict.fromkeys(row for result in results for row in result.segments))
    drifts: list[Drift] = [result.first_drift for result in results if result.first_drift is not None]
    differences = [note for result in results for note in result.differences]
    notes = [*differences, *(note for result in results for note in result.notes)]
    if any(row.ok is False for row in rows) and not drifts and not differences:
        notes.append("no segment drifts by itself: see what is told of the outputs, or differences of several add up")
    if not any(row.ok is not None for row in rows):
        notes.append("no engine ran: nothing was verified")
    given = str(against) if isinstance(against, (str, os.PathLike)) else type(against).__name__
    return Verification(
        when=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        versions=list_versions(),
        reference="float32" if any(result.reference == "float32" for result in results) else "float64",
        reference_notes={result.signature: result.reference_note for result in results if result.reference_note},
        against=given if against is not None else str(path),
        rows=rows,
        segments=segments,
        not_verified=tuple(not_verified),
        first_drift=drifts[0] if drifts else None,
        notes=tuple(dict.fromkeys(notes)),
        same_graph=None if against is None else not differences,
    )
