"""Through the logger `beforehand`, for services that have set up logging."""

from __future__ import annotations

import logging

from beforehand.build_engines import events
from beforehand.build_engines.events import BuildEvent
from beforehand.progress.describe import describe_event
from beforehand.progress.pace import Pace

_log = logging.getLogger("beforehand")
_LEVELS = {events.FAILED: logging.ERROR, events.CANCELLED: logging.WARNING}


class LogLines:
    """What `PlainLines` tells, at INFO; at WARNING what was cancelled, at ERROR what failed; all else at DEBUG."""

    def __init__(self) -> None:
        self._pace = Pace()

    def show(self, event: BuildEvent) -> None:
        """Log it."""
        level = _LEVELS.get(event.kind, logging.INFO) if self._pace.is_news(event) else logging.DEBUG
        _log.log(level, "%s", describe_event(event))

    def close(self) -> None:
        """Nothing is left to do."""
