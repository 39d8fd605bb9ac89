"""What is in the cache folder: listed, checked, and cut back to a size."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
import pathlib
import shutil
import time
from typing import TYPE_CHECKING

from beforehand.errors import CacheError
from beforehand.records import Engine
from beforehand.store.hashing import hash_file
from beforehand.store.manifest import decode_engine

if TYPE_CHECKING:
    from beforehand.store.cache_folder import CacheFolder

# States of an entry.
WHOLE, ALTERED, MISSING, UNREADABLE, NO_RECORD = "whole", "altered", "missing", "unreadable record", "no record"


@dataclasses.dataclass(frozen=True)
class CachedEngine:
    """An entry: an engine's file and its record.

    Attributes:
        key: The engine's.
        engine: Its record; None if that cannot be read.
        file: Where it lies.
        bytes: Size of the file; 0 if it is missing.
        used: When it was last built or found, in seconds since the epoch.
    """

    key: str
    engine: Engine | None
    file: pathlib.Path
    bytes: int
    used: float


@dataclasses.dataclass(frozen=True)
class Pruned:
    """What was removed, and what is left, in bytes; `busy` are entries that somebody was at work on."""

    keys: tuple[str, ...]
    bytes: int
    left_bytes: int
    busy: tuple[str, ...] = ()


def list_engines(cache: CacheFolder) -> tuple[CachedEngine, ...]:
    """All entries, the one used last first. An engine without a record is one too: a build was killed just then."""
    found: dict[str, CachedEngine] = {}
    for file in sorted(cache.engines.iterdir()) if cache.engines.is_dir() else ():
        with contextlib.suppress(OSError):  # another process may remove it
            if file.suffix == ".json":
                found[file.stem] = read_entry(file, cache.engines)
            elif not file.name.startswith("."):
                status = file.stat()
                entry = CachedEngine(file.stem, None, file, status.st_size, status.st_mtime)
                found.setdefault(file.stem, entry)
    return tuple(sorted(found.values(), key=lambda entry: (-entry.used, entry.key)))


def read_entry(record: pathlib.Path, folder: pathlib.Path) -> CachedEngine:
    """The entry of a record; one that names another key, or the file of another, has no engine: it is never used."""
    key, used, engine = record.stem, record.stat().st_mtime, None
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        found = decode_engine(json.loads(record.read_text()))
        engine = found if (found.key, found.file) == (key, f"{key}.{found.backend}") else None
    own = (path for path in _list_files(folder, key) if path != record)
    file = folder / engine.file if engine is not None else next(own, record)
    return CachedEngine(key, engine, file, file.stat().st_size if file.is_file() else 0, used)


def _list_files(folder: pathlib.Path, key: str) -> list[pathlib.Path]:
    """The files of a key, whatever its record says: the record first."""
    return sorted(folder.glob(f"{glob.escape(key)}.*"), key=lambda path: (path.suffix != ".json", path.name))


def find_entry(cache: CacheFolder, key: str) -> CachedEngine:
    """The entry whose key begins so.

    Raises:
        CacheError: BH505, there is none, or more than one.
    """
    found = [entry for entry in list_engines(cache) if entry.key.startswith(key)]
    if len(found) != 1:
        count = "no engine" if not found else f"{len(found)} engines"
        raise CacheError(
            f"{count} in {cache.folder} with a key that begins with {key!r}",
            advice="`beforehand cache list` has the keys",
        )
    return found[0]


def check_entry(entry: CachedEngine) -> str:
    """Its state: WHOLE, or what is wrong. The whole file is read."""
    if entry.engine is None:
        return NO_RECORD if not entry.file.with_suffix(".json").is_file() else UNREADABLE
    try:
        return WHOLE if hash_file(entry.file) == entry.engine.sha256 else ALTERED
    except FileNotFoundError:  # it may go at any moment
        return MISSING


def prune(
    cache: CacheFolder,
    *,
    max_bytes: int | None = None,
    older_than_s: float | None = None,
    damaged: bool = False,
    keep: str = "",
) -> Pruned:
    """Remove entries, those not used for longest first. Who has loaded an engine goes on with it.

    Entries that are being built or copied have their lock held, and stay.

    Args:
        cache: The folder.
        max_bytes: Until no more than these are left.
        older_than_s: Those that were not used for so many seconds.
        damaged: Those that are not whole; every file is read.
        keep: Key of an entry that stays.

    Raises:
        OSError: The folder cannot be written.
    """
    entries = list_engines(cache)
    left, removed, freed, busy = sum(entry.bytes for entry in entries), [], 0, []
    for entry in reversed(entries):
        is_old = older_than_s is not None and time.time() - entry.used > older_than_s
        is_over = max_bytes is not None and left > max_bytes
        is_unused = is_old or is_over
        if entry.key == keep or not (is_unused or (damaged and check_entry(entry) != WHOLE)):
            continue
        with cache.try_lock(entry.key) as is_mine:
            if not is_mine:
                busy.append(entry.key)
                continue
            if not _is_still(entry, cache.engines, is_unused=is_unused):
                continue
            for file in _list_files(cache.engines, entry.key):
                file.unlink(missing_ok=True)
        left, freed = left - entry.bytes, freed + entry.bytes
        removed.append(entry.key)
    return Pruned(tuple(removed), freed, left, tuple(busy))


def _is_still(entry: CachedEngine, folder: pathlib.Path, *, is_unused: bool) -> bool:
    """Whether an entry is what it was when it was listed, now that its lock is held: unused since, or damaged."""
    record = folder / f"{entry.key}.json"
    try:
        now = read_entry(record, folder)
    except FileNotFoundError:
        return entry.engine is None  # an engine without a record, or nothing at all
    return now.used <= entry.used if is_unused else check_entry(now) != WHOLE


def clear(cache: CacheFolder) -> Pruned:
    """Remove every engine and quantised graph, what failed and was noted, and what killed builds left; the history of builds stays.

    Raises:
        OSError: The folder cannot be written.
    """
    pruned = prune(cache, max_bytes=-1)
    for name in ("failures", "quantized"):
        shutil.rmtree(cache.folder / name, ignore_errors=True)
    cache.sweep()
    return pruned
