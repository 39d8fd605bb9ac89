"""The user's cache folder: every engine that was built, by key, for all processes of this user.

CACHE/                        BEFOREHAND_CACHE, or `beforehand` in the user's cache folder; 0700, as all below
  engines/KEY.BACKEND         engines
  engines/KEY.json            their records, as in a manifest; written last
  failures/KEY.json           builds that failed: reason and time
  locks/KEY.lock              held by who builds
  building/KEY/               what a build is made of; goes with it
  quantized/                  graphs quantised for INT8 (quantized_cache.py)
  history.jsonl               how long builds took on this machine, and what memory
  logs/                       of the newest builds that failed
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import os
import pathlib
import shutil
import time
from collections.abc import Iterator

import filelock
import platformdirs

from beforehand import environment
from beforehand.records import Engine, EngineSpec
from beforehand.store import atomic
from beforehand.store.build_history import BuildHistory
from beforehand.store.cache_content import WHOLE, check_entry, prune, read_entry
from beforehand.store.manifest import encode_engine
from beforehand.store.parse_size import parse_bytes

_log = logging.getLogger("beforehand")
_DEFAULT_SIZE = "20GB"
# Seconds after which a build that failed may be tried again: its reason (no memory, a full disk) may be gone.
RETRY_S = 3600.0
_PRIVATE = 0o700


class CacheFolder:
    """Engines by key. Safe across processes and threads; the folder is made when it is first written to.

    Beyond its size, those engines go that were not used for longest.

    Args:
        folder: By default what the environment says.

    Raises:
        OptionValueError: BH102, BEFOREHAND_CACHE_SIZE is no size.
    """

    def __init__(self, folder: pathlib.Path | None = None) -> None:
        self.folder = folder or find_cache_folder()
        self.max_bytes = parse_bytes(environment.read_cache_size() or _DEFAULT_SIZE, "BEFOREHAND_CACHE_SIZE")

    @property
    def engines(self) -> pathlib.Path:
        """Where the engine files lie."""
        return self.folder / "engines"

    @functools.cached_property
    def history(self) -> BuildHistory:
        """How long builds took."""
        return BuildHistory(self.folder)

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Wait until nobody else, in any process, is at work on this key. A process that ends lets go.

        Raises:
            OSError: The folder cannot be written, or somebody has held the lock for `RETRY_S` seconds.
        """
        with filelock.FileLock(self._make_folder("locks") / f"{key}.lock", timeout=RETRY_S):
            yield

    @contextlib.contextmanager
    def try_lock(self, key: str) -> Iterator[bool]:
        """Whether this key is the caller's alone; if not, somebody else is at work on it, and nothing waits.

        Raises:
            OSError: The folder cannot be written.
        """
        lock = filelock.FileLock(self._make_folder("locks") / f"{key}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def measure_engine(self, spec: EngineSpec) -> int | None:
        """Bytes of the engine of the key of `spec`, without reading it, for plans; None if there is none."""
        file = self.engines / _name_engine(spec)
        return file.stat().st_size if (self.engines / f"{spec.key}.json").is_file() and file.is_file() else None

    def sweep(self) -> None:
        """Remove what builds left that were killed: whatever is being built has its lock held.

        Raises:
            OSError: The folder cannot be written.
        """
        building = self.folder / "building"
        for folder in building.iterdir() if building.is_dir() else ():
            with self.try_lock(folder.name) as is_mine:
                if is_mine:
                    shutil.rmtree(folder, ignore_errors=True)
        # Of notes that were being written; those of builds are in building/.
        for aside in (*self.folder.glob(".*.tmp"), *self.engines.glob(".*.tmp"), *self.folder.glob("failures/.*.tmp")):
            with contextlib.suppress(OSError):
                if time.time() - aside.stat().st_mtime > RETRY_S:
                    aside.unlink()

    def find_engine(self, spec: EngineSpec) -> Engine | None:
        """The engine of the key of `spec`, as that names it; None if there is none, or if its file is altered."""
        try:
            entry = read_entry(self.engines / f"{spec.key}.json", self.engines)
            engine = entry.engine
            if engine is None or engine.file != _name_engine(spec) or check_entry(entry) != WHOLE:
                return None
        except OSError:
            return None
        with contextlib.suppress(OSError):  # of those not used for long, it is none; a folder may be read-only
            os.utime(self.engines / f"{spec.key}.json")
        # Other models may have the same segment, under other names.
        return dataclasses.replace(
            engine,
            segment=spec.segment,
            segment_index=spec.segment_index,
            shapes=spec.shapes,
            input_names=spec.input_names,
            output_names=spec.output_names,
        )

    def add_engine(self, engine: Engine, spec: EngineSpec, built: pathlib.Path) -> Engine:
        """Move the file `built` into the cache; returns the engine's record there. Called with the lock of the key held.

        Both files come from the folder of `built`, whole: whatever is killed when, nothing half-written is left beside them.
        """
        folder = self._make_folder("engines")
        kept = dataclasses.replace(engine, file=_name_engine(spec))
        record = built.with_name(f"{built.name}.record")
        record.write_text(json.dumps(encode_engine(kept), indent=1))
        atomic.move_file(built, folder / kept.file)
        atomic.move_file(record, folder / f"{spec.key}.json")
        (self.folder / "failures" / f"{spec.key}.json").unlink(missing_ok=True)
        self._prune(spec.key)
        return kept

    def _prune(self, keep: str) -> None:
        """Keep within the bound. That this cannot be done is no reason to lose the engine that was added."""
        try:
            pruned = prune(self, max_bytes=self.max_bytes, keep=keep)
        except OSError as error:
            _log.warning("%s cannot be kept within %.1f GB: %s", self.folder, self.max_bytes / 1e9, error)
            return
        if pruned.keys:
            _log.info(
                "%d engines not used for longest, %.1f MB, went out of %s, to keep it within %.1f GB",
                len(pruned.keys), pruned.bytes / 1e6, self.folder, self.max_bytes / 1e9,
            )  # fmt: skip

    def find_failure(self, key: str) -> str | None:
        """Why the build of this key failed; None if it did not, or so long ago that it may be tried again."""
        try:
            found = json.loads((self.folder / "failures" / f"{key}.json").read_text())
            is_recent = 0 <= time.time() - float(found["time"]) < RETRY_S
            return str(found["reason"]) if is_recent else None
        except (OSError, KeyError, TypeError, ValueError):
            return None

    def add_failure(self, key: str, reason: str) -> None:
        """Remember that the build of this key failed."""
        data = json.dumps({"reason": reason, "time": time.time()})
        atomic.write_bytes(self._make_folder("failures") / f"{key}.json", data.encode())

    @contextlib.contextmanager
    def make_scratch(self, key: str) -> Iterator[pathlib.Path]:
        """An empty folder, for who holds the lock of `key`: also what a process left there that was killed is gone."""
        folder = self._make_folder("building") / key
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=_PRIVATE)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _make_folder(self, name: str) -> pathlib.Path:
        self.folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        (self.folder / name).mkdir(mode=_PRIVATE, exist_ok=True)
        return self.folder / name


def find_cache_folder() -> pathlib.Path:
    """Where the environment wants it, or the platform."""
    given = environment.read_cache_folder()
    return pathlib.Path(given).expanduser().absolute() if given else platformdirs.user_cache_path("beforehand")


def _name_engine(spec: EngineSpec) -> str:
    return f"{spec.key}.{spec.backend}"
