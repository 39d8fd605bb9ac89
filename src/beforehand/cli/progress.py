"""Progress of long steps, on stderr, as plain lines: the log of `beforehand`, shown."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from beforehand.progress.describe import describe_bytes

log = logging.getLogger("beforehand")
format_bytes = describe_bytes  # sizes are written alike everywhere


class _Lines(logging.Formatter):
    """`beforehand: text`, with the level where it is a warning or worse."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        return f"beforehand: {level}{record.getMessage()}"


class _JsonLines(logging.Formatter):
    """An object a line, as the events of builds are; `kind` is "log", which none of theirs is."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"kind": "log", "time": record.created, "level": record.levelname, "message": record.getMessage()}
        return json.dumps(line)


class _ToStderr(logging.Handler):
    """To what is stderr when a line comes: while builds are shown live, lines must go above them."""

    def emit(self, record: logging.LogRecord) -> None:
        stream: TextIO | None = sys.stderr
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            if stream is not None:
                stream.write(self.format(record) + "\n")
                stream.flush()


@contextlib.contextmanager
def show_progress(progress: str = "auto") -> Iterator[None]:
    """Within this context the log goes to stderr from INFO on, unless BEFOREHAND_LOG has already set up another way.

    Args:
        progress: As the option: with `json` the log too is JSON lines, with `off` only warnings and errors are shown.
    """
    if log.handlers:
        yield
        return
    handler = _ToStderr()
    handler.setFormatter(_JsonLines() if progress == "json" else _Lines())
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.WARNING if progress == "off" else logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


@contextlib.contextmanager
def time_step(what: str) -> Iterator[None]:
    """Say that a step begins and, unless it fails, how long it took."""
    log.info("%s", what)
    start = time.monotonic()
    yield
    log.info("%s: done in %.1f s", what, time.monotonic() - start)
