"""How long builds took on this machine, what memory they held and how large they came out: what estimates are made of."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import statistics
import time
from typing import Any

from beforehand.backends.describe_cpu import describe_this_cpu, find_cpu_model
from beforehand.records import Engine, EngineSpec
from beforehand.store import atomic

_log = logging.getLogger("beforehand")
_MOST_BYTES = 1_000_000
_FILE = "history.jsonl"
_MODE = 0o600


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What past builds say of one to come; None where they say nothing. `basis` names which builds these are."""

    seconds: float | None = None
    peak_bytes: int | None = None
    engine_bytes: int | None = None
    basis: str = ""


class BuildHistory:
    """A file of one short line for each build, in the cache folder, which several machines may share."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._file = folder / _FILE
        self._read_at: tuple[int, int] | None = None
        self._items: list[dict[str, Any]] = []

    def add(self, spec: EngineSpec, engine: Engine) -> None:
        """Note a build that succeeded. It never fails: a build is not lost for want of a note about it."""
        line = json.dumps(
            {
                "time": round(time.time()),
                "machine": describe_machine(),
                "key": spec.key,
                "graph": spec.graph,
                "backend": spec.backend,
                "target": spec.target,
                "shapes": spec.shapes.describe(),
                "seconds": engine.build_seconds,
                "peak_bytes": engine.build_peak_bytes,
                "engine_bytes": engine.bytes,
            }
        )
        try:
            handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _MODE)
            try:
                # One write of one short line: whole, whoever else appends. Before it a line that a kill may have torn ends.
                os.write(handle, f"\n{line}\n".encode())
            finally:
                os.close(handle)
            self._shorten()
        except OSError as error:
            _log.debug("no note of a build in %s: %s", self._file, error)

    def estimate(self, spec: EngineSpec) -> Estimate:
        """The newest build of the same engine here; else the median of those of the same segment for other shapes.

        Nothing else is known to be alike: other segments say nothing of this one.
        """
        here = describe_machine()
        found = [item for item in self._read() if item["machine"] == here]
        same = [item for item in found if item["key"] == spec.key]
        if same:
            return _make_estimate(same[-1:], "same engine")
        alike = [
            item for item in found if all(item[name] == getattr(spec, name) for name in ("graph", "backend", "target"))
        ]
        return _make_estimate(alike, "same segment") if alike and spec.graph else Estimate()

    def _read(self) -> list[dict[str, Any]]:
        """All notes; the file is read again only if it has changed, as a run of builds asks ten times a second."""
        with contextlib.suppress(OSError):
            status = self._file.stat()
            changed = status.st_mtime_ns, status.st_size
            if changed != self._read_at:
                decoded = map(_decode, self._file.read_bytes().splitlines())
                self._items = [item for item in decoded if item is not None]
                self._read_at = changed
        return self._items

    def _shorten(self) -> None:
        """Leave the newer half of a file that has grown too long."""
        if self._file.stat().st_size > _MOST_BYTES:
            lines = self._file.read_bytes().splitlines(keepends=True)
            atomic.write_bytes(self._file, b"".join(lines[len(lines) // 2 :]), _MODE)


def describe_machine() -> str:
    """What builds alike: kind and model of the processor, and number of cores; no name of the machine."""
    return f"{describe_this_cpu()}, {find_cpu_model()}, {os.cpu_count()} cores"


def _decode(line: bytes) -> dict[str, Any] | None:
    """A line's content; None if it is damaged."""
    try:
        item = json.loads(line)
        texts = all(isinstance(item[name], str) for name in ("machine", "key", "graph", "backend", "target"))
        numbers = all(isinstance(item[name], (int, float)) for name in ("seconds", "peak_bytes", "engine_bytes"))
    except (ValueError, KeyError, TypeError):
        return None
    return item if texts and numbers else None


def _make_estimate(items: list[dict[str, Any]], basis: str) -> Estimate:
    def middle(name: str) -> float | None:
        """Of what was measured: 0 stands for what was not."""
        known = [item[name] for item in items if item[name] > 0]
        return float(statistics.median(known)) if known else None

    seconds, peak, size = middle("seconds"), middle("peak_bytes"), middle("engine_bytes")
    return Estimate(
        None if seconds is None else round(seconds, 3), None if peak is None else int(peak),
        None if size is None else int(size), basis,
    )  # fmt: skip
