"""Lines, for logs, pipes and notebooks: at once for what begins or ends, and a sign of life every 10 s."""

from __future__ import annotations

import time
from typing import TextIO

from beforehand.build_engines import events
from beforehand.build_engines.events import BuildEvent
from beforehand.progress.describe import describe_event

_LIFE_S = 10.0 - events.HEARTBEAT_S  # of the heartbeat that comes after it
_QUIET = (events.HEARTBEAT, events.PHASE)


class PlainLines:
    """Writes to `stream`.

    Phases alone are no news, unless they bring a message: they are told by the next sign of life.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._told: dict[int, float] = {}

    def show(self, event: BuildEvent) -> None:
        """Write a line, if there is something to tell."""
        now = time.monotonic()
        is_life = event.kind in _QUIET and not (event.kind == events.PHASE and event.message)
        if is_life and now - self._told.setdefault(event.engine, now) < _LIFE_S:
            return
        self._told[event.engine] = now
        print(f"beforehand: {describe_event(event)}", file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing is left to do."""
