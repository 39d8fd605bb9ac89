"""Quantised graphs in the user's cache, by all that they were made of: a second run of a script calibrates nothing.

CACHE/quantized/KEY.json        {"sha256": of the graph; empty where nothing can be quantised}, written last
CACHE/quantized/KEY.onnx        the graph
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pathlib

from beforehand.store import atomic
from beforehand.store.cache_folder import CacheFolder
from beforehand.store.hashing import hash_file

_log = logging.getLogger("beforehand")
# Most graphs kept; those go that were not used for longest. One of ResNet50 has a megabyte.
_MOST = 200


class QuantizedCache:
    """Graphs by key, safe across processes: each file appears whole, and is checked by its hash."""

    def __init__(self, cache: CacheFolder) -> None:
        self._folder = cache.folder / "quantized"

    def find(self, key: str, target: pathlib.Path) -> str | None:
        """Copy the graph of `key` to `target`; its SHA-256, empty where nothing could be quantised, None if there is none."""
        try:
            sha256 = str(json.loads((self._folder / f"{key}.json").read_text())["sha256"])
            if sha256:
                atomic.copy_file(self._folder / f"{key}.onnx", target)
                if hash_file(target) != sha256:
                    return None
        except (OSError, KeyError, TypeError, ValueError):
            return None
        with contextlib.suppress(OSError):
            os.utime(self._folder / f"{key}.json")
        return sha256

    def add(self, key: str, graph: pathlib.Path | None) -> None:
        """Keep a graph; None: nothing could be quantised. A cache that cannot be written is a WARNING."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if graph is not None:
                atomic.copy_file(graph, self._folder / f"{key}.onnx")
            note = {"sha256": hash_file(graph) if graph is not None else ""}
            atomic.write_bytes(self._folder / f"{key}.json", json.dumps(note).encode())
            self._prune()
        except OSError as error:
            _log.warning("the quantised graph is not kept in the cache, and would be made again: %s", error)

    def _prune(self) -> None:
        notes = sorted(self._folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for note in notes[:-_MOST]:
            note.unlink(missing_ok=True)
            note.with_suffix(".onnx").unlink(missing_ok=True)
