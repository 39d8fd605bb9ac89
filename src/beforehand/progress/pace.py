"""Which events are news to a reader of lines: what begins or ends at once, signs of life every 10 s."""

from __future__ import annotations

import time

from beforehand.build_engines import events
from beforehand.build_engines.events import BuildEvent

LIFE_S = 10.0  # no build is silent for longer
_EARLY_S = 2 * events.HEARTBEAT_S  # the next heartbeat may come late, and must not come after LIFE_S
_QUIET = (events.HEARTBEAT, events.PHASE)


class Pace:
    """Remembers when each engine was last told of.

    A phase alone is no news, unless it brings a message: it is told by the next sign of life.
    """

    def __init__(self) -> None:
        self._told: dict[int, float] = {}

    def is_news(self, event: BuildEvent) -> bool:
        """Whether to tell of `event`; it is then taken as told."""
        now = time.monotonic()
        is_life = event.kind in _QUIET and not (event.kind == events.PHASE and event.message)
        if is_life and now - self._told.setdefault(event.engine, now) < LIFE_S - _EARLY_S:
            return False
        self._told[event.engine] = now
        return True
