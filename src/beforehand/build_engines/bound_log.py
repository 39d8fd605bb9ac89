"""A child's log, kept from filling the disk: a backend may write gigabytes."""

from __future__ import annotations

import contextlib
import pathlib

MOST_BYTES = 32_000_000
_KEPT = 1_000_000  # of the head, and of the tail


def bound_log(log: pathlib.Path, most_bytes: int = MOST_BYTES, kept: int = _KEPT) -> None:
    """Leave the beginning and the end of a log that has grown too large, while its writer goes on.

    The writer appends (O_APPEND), so that a file cut short goes on at its new end; what it writes just then may be lost.
    """
    with contextlib.suppress(OSError):
        size = log.stat().st_size
        if size <= most_bytes:
            return
        with log.open("r+b") as file:
            head = file.read(kept)
            file.seek(-kept, 2)
            tail = file.read(kept)
            file.seek(0)
            file.truncate()
            file.write(head)
            file.write(f"\n[beforehand: {size - 2 * kept} bytes of the log left out here]\n".encode())
            file.write(tail)
