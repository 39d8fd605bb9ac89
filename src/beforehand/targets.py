"""Several targets in one SavedModel: add the engines of one, and take out those of others. TensorFlow is not needed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pathlib
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import filelock

from beforehand.backends.protocol import Backend
from beforehand.backends.registry import check_usable, find_backend
from beforehand.build_engines.build_all import BuildHooks, build_all
from beforehand.build_engines.events import OnEvent
from beforehand.build_engines.follow_healed import find_uncompared, has_budget
from beforehand.build_engines.plan_engines import make_spec, tell_precision
from beforehand.build_engines.settings import BuildSettings, read_settings
from beforehand.errors import (
    IntegrityError,
    NoSourcesError,
    OptionValueError,
    OutputExistsError,
)
from beforehand.options import check_names, make_options
from beforehand.progress.choose import open_display
from beforehand.records import Accuracy, Engine, EngineSpec, Manifest
from beforehand.runtime.choose_engines import find_fingerprints, fits
from beforehand.store import atomic, layout
from beforehand.store.cache_folder import CacheFolder
from beforehand.store.hashing import hash_file
from beforehand.store.manifest import find_manifest, read_manifest, write_manifest
from beforehand.store.segment_sources import restore_onnx

_log = logging.getLogger("beforehand")
# Options that `add_target` takes: nothing in them changes an engine.
BUILD_OPTIONS = (*BuildSettings.__dataclass_fields__, "progress")


@dataclasses.dataclass(frozen=True)
class Slimmed:
    """What `slim` took out: names of files beside the manifest, and their bytes in all."""

    files: tuple[str, ...]
    bytes: int


def add_target(
    folder: str | os.PathLike[str],
    target: str = "",
    *,
    backend: str = "",
    on_event: OnEvent | None = None,
    cancel: threading.Event | None = None,
    **options: Any,
) -> tuple[Engine, ...]:
    """Build what a converted SavedModel has for any target for this machine too, into the same SavedModel.

    Each engine is there, whole, as soon as it is built or found in the user's cache; repeated, it builds what is missing or
    altered, and no more. `saved_model.pb` stays as it is, and processes that have the model loaded go on as before.

    Args:
        folder: A converted SavedModel.
        target: Instead of this machine, one with fewer instruction sets: `cpu-x86_64+avx2`.
        backend: Who builds; by default the conversion's. `tensorrt-rtx` adds engines for GPUs to a model that has some for
            CPUs, also on a machine that has no GPU; each machine then runs its own.
        on_event: Called with each `BuildEvent`.
        cancel: Once it is set, the build ends within seconds.
        **options: Of `beforehand.options.Options`, those of how engines are built: `timeout_s`, `max_build_memory_bytes`,
            `on_build_failure`, `workers`, `executor`, `progress`.

    Returns:
        The engines added by this call.

    Raises:
        UnknownOptionError: BH101. SourceNotFoundError: BH201. ManifestError: BH502, it was not converted.
        NoSourcesError: BH504, it does not hold what engines are built of. IntegrityError: BH503, that is altered.
        OptionValueError: BH102, a target that cannot be built here. BackendError: BH701.
        PrecisionError: BH103, the target cannot have the conversion's precision.
        OutputExistsError: BH501, the folder may not be written to.
        BuildError: BH401, an engine could not be built; the others were, and are kept.
        BuildCancelledError: BH403, `cancel` was set; what was finished is kept.
    """
    check_names(options, BUILD_OPTIONS)
    settings = make_options(options)
    folder = pathlib.Path(folder)
    manifest, specs = plan_target(folder, target, backend)
    _check_writable(folder)
    with (
        tempfile.TemporaryDirectory(prefix="beforehand-") as scratch,
        open_display(settings.progress, on_event) as show,
    ):
        work = pathlib.Path(scratch)
        hooks = BuildHooks(
            prepare=lambda spec: _restore(spec, manifest, folder, work),
            on_engine=lambda engine: _put_engine(folder, work, _tell_uncompared(engine, specs, manifest)),
            on_event=show,
        )
        result = build_all(specs, work, read_settings(settings), CacheFolder(), hooks, cancel)
    result.check()
    return tuple(_tell_uncompared(engine, specs, manifest) for engine in result.engines)


def plan_target(folder: pathlib.Path, target: str = "", backend: str = "") -> tuple[Manifest, list[EngineSpec]]:
    """The manifest of a converted SavedModel, and what `add_target` would make for it.

    Raises:
        SourceNotFoundError: BH201. ManifestError: BH502. NoSourcesError: BH504. OptionValueError: BH102.
        PrecisionError: BH103. BackendError: BH701.
    """
    manifest = read_manifest(find_manifest(folder))
    if not (manifest.sources and manifest.options):
        raise NoSourcesError(
            f"{folder} does not hold what its engines are built of",
            why="it was slimmed, saved again by TensorFlow, or converted before sources were kept",
            advice="convert the original SavedModel again",
        )
    builder = find_backend(backend or str(dict(manifest.options)["backend"]))
    check_usable(builder)
    return manifest, _plan(folder, manifest, builder, target)


def _check_writable(folder: pathlib.Path) -> None:
    """Find out before the first build, not after it.

    Raises:
        OutputExistsError: BH501.
    """
    if not os.access(folder / layout.ASSETS, os.W_OK):
        raise OutputExistsError(f"{folder / layout.ASSETS} may not be written to", advice="a copy of the folder")


def _plan(folder: pathlib.Path, manifest: Manifest, backend: Backend, target: str) -> list[EngineSpec]:
    """Every segment and shape set of the model, but for the engines that are there and unaltered."""
    wanted = dict.fromkeys((engine.segment_index, engine.shapes) for engine in manifest.engines)
    there = {engine.key for engine in manifest.engines if _is_whole(folder, engine)}
    specs = [make_spec(manifest, segment, shapes, backend, target) for segment, shapes in wanted]
    specs = [spec for spec in specs if spec.key not in there]
    asked = dict(manifest.options)["precision_mode"]
    for spec in specs[:1]:
        tell_precision(asked, backend, spec.target)
    for spec in specs:
        reason = find_uncompared(spec, manifest)
        if reason and has_budget(spec, manifest):
            _log.warning(
                "the engine of %s for %s is not compared with TensorFlow: %s. It may be over its budget. %sTo have it compared, "
                "convert the original model with precision_mode=%r, with samples, on a machine that has it.",
                spec.segment, spec.shapes.describe(), reason,
                "What was put back to a higher precision there is put back in it. " if spec.kept else "", spec.precision,
            )  # fmt: skip
    return specs


def _tell_uncompared(engine: Engine, specs: Sequence[EngineSpec], manifest: Manifest) -> Engine:
    """Its record says why nothing is known of its errors, where those of its segment are known in another precision."""
    reasons = [find_uncompared(spec, manifest) for spec in specs if spec.key == engine.key]
    told = next(filter(None, reasons), "")
    return dataclasses.replace(engine, accuracy=Accuracy(not_compared=told)) if told else engine


def _is_whole(folder: pathlib.Path, engine: Engine) -> bool:
    try:
        return hash_file(layout.find_engine_file(folder / layout.ASSETS, engine.file)) == engine.sha256
    except (IntegrityError, OSError):  # a name that leads elsewhere, no file
        return False


def _restore(spec: EngineSpec, manifest: Manifest, folder: pathlib.Path, work: pathlib.Path) -> EngineSpec:
    """The same, with its ONNX model on disk: written once for all engines of a segment."""
    into = work / f"segment_{spec.segment_index}"
    if not into.exists():
        into.mkdir()
        restore_onnx(manifest.sources[spec.segment_index], folder, into)
    return dataclasses.replace(spec, onnx_file=str(into / pathlib.Path(spec.onnx_file).name))


def _put_engine(folder: pathlib.Path, work: pathlib.Path, engine: Engine) -> None:
    """First the file, then the manifest that names it: whoever reads in between finds what was there before."""
    file = find_manifest(folder)
    with _lock(file):
        manifest = read_manifest(file)  # others may have added to it
        if any(other.key == engine.key and _is_whole(folder, other) for other in manifest.engines):
            return
        atomic.put_file(work / engine.file, file.with_name(engine.file))
        others = [other for other in manifest.engines if other.file != engine.file]
        write_manifest(dataclasses.replace(manifest, engines=(*others, engine)), file)


@contextlib.contextmanager
def _lock(manifest: pathlib.Path) -> Iterator[None]:
    """Alone with the manifest, also among processes, and among machines if their file system locks."""
    with filelock.FileLock(manifest.with_name(layout.LOCK)):
        yield


def slim(
    folder: str | os.PathLike[str],
    keep_targets: Sequence[str] | None = None,
    *,
    engines: bool = True,
    sources: bool = True,
) -> Slimmed:
    """Take engines out of a converted SavedModel. `saved_model.pb` and the weights stay as they are.

    Args:
        folder: A converted SavedModel.
        keep_targets: Targets whose engines stay; None: those that fit this machine.
        engines: False takes out all of them: the model then runs natively.
        sources: False takes out what engines are built of: none can be added then.

    Raises:
        SourceNotFoundError: BH201. ManifestError: BH502, it was not converted.
        OptionValueError: BH102, no engine would be left, though `engines` is true.
    """
    folder = pathlib.Path(folder)
    file = find_manifest(folder)
    _check_writable(folder)
    with _lock(file):
        manifest = read_manifest(file)
        kept = _choose_kept(manifest, keep_targets) if engines else ()
        if engines and manifest.engines and not kept:
            _refuse(folder, manifest, keep_targets)
        slimmed = dataclasses.replace(manifest, engines=kept, sources=manifest.sources if sources else ())
        if slimmed != manifest:
            write_manifest(slimmed, file)
        names = sorted(_list_files(manifest) - _list_files(slimmed))
        freed = 0
        for path in (layout.find_engine_file(file.parent, name) for name in names):
            freed += path.stat().st_size if path.is_file() else 0
            path.unlink(missing_ok=True)
    return Slimmed(tuple(names), freed)


def _choose_kept(manifest: Manifest, targets: Sequence[str] | None) -> tuple[Engine, ...]:
    if targets is not None:
        return tuple(engine for engine in manifest.engines if engine.target in targets)
    here = find_fingerprints(engine.backend for engine in manifest.engines)
    return tuple(engine for engine in manifest.engines if fits(engine, here[engine.backend]))


def _refuse(folder: pathlib.Path, manifest: Manifest, targets: Sequence[str] | None) -> None:
    there = ", ".join(
        dict.fromkeys(f"{engine.target} ({engine.backend} {engine.backend_version})" for engine in manifest.engines)
    )
    wanted = "that fits this machine" if targets is None else "for " + ", ".join(targets)
    raise OptionValueError(
        f"{folder} has no engine {wanted}, so none would be left",
        why=f"it has engines for {there}",
        advice="--keep-target (keep_targets) with one of these, or --no-engines (engines=False) if that is wanted",
    )


def _list_files(manifest: Manifest) -> set[str]:
    sources = {name for source in manifest.sources for name in (source.onnx_file, source.quantized_file) if name}
    return {engine.file for engine in manifest.engines} | sources
