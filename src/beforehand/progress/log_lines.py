"""Through the logger `beforehand`, for services that have set up logging."""

from __future__ import annotations

import logging

from beforehand.build_engines import events
from beforehand.build_engines.events import BuildEvent
from beforehand.progress.describe import describe_event

_log = logging.getLogger("beforehand")
_LEVELS = {
    events.FAILED: logging.ERROR,
    events.CANCELLED: logging.WARNING,
    events.PHASE: logging.DEBUG,
    events.HEARTBEAT: logging.DEBUG,
}


class LogLines:
    """INFO for what begins and ends, DEBUG for signs of life, WARNING and ERROR for what ends otherwise."""

    def show(self, event: BuildEvent) -> None:
        """Log it."""
        _log.log(_LEVELS.get(event.kind, logging.INFO), "%s", describe_event(event))

    def close(self) -> None:
        """Nothing is left to do."""
