"""Lines, for logs, pipes and notebooks: at once for what begins or ends, and a sign of life every 10 s."""

from __future__ import annotations

from typing import TextIO

from beforehand.build_engines.events import BuildEvent
from beforehand.progress.describe import describe_event
from beforehand.progress.pace import Pace


class PlainLines:
    """Writes to `stream`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pace = Pace()

    def show(self, event: BuildEvent) -> None:
        """Write a line, if there is something to tell."""
        if self._pace.is_news(event):
            # One write: lines of several threads and processes do not mix.
            self._stream.write(f"beforehand: {describe_event(event)}\n")
            self._stream.flush()

    def close(self) -> None:
        """Nothing is left to do."""
