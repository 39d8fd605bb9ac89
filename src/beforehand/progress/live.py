"""A live display on a terminal: what is being built moves at the bottom, what has ended scrolls above."""

from __future__ import annotations

import time
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from beforehand.build_engines import events
from beforehand.build_engines.events import BuildEvent
from beforehand.progress.describe import describe_engine, describe_event, describe_progress, describe_seconds

_PER_SECOND = 4
_ENDS = (events.FINISHED, events.FAILED, events.CACHED, events.CANCELLED)
_STYLES = {events.FAILED: "red", events.CANCELLED: "yellow", events.FINISHED: "green"}


class LiveDisplay:
    """Draws on `stream`, a terminal, and leaves it as it was."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, stderr=False, highlight=False)
        self._at_work: dict[int, tuple[BuildEvent, float]] = {}
        self._spinner = Spinner("dots")
        self._last: BuildEvent | None = None
        self._live = Live(
            get_renderable=self._draw, console=self._console, refresh_per_second=_PER_SECOND, transient=True
        )
        self._live.start()

    def show(self, event: BuildEvent) -> None:
        """Take an event in; the display moves by itself."""
        self._last = event
        if event.kind in _ENDS:
            self._at_work.pop(event.engine, None)
        elif event.engine:
            self._at_work[event.engine] = event, time.monotonic()
        if event.kind in (*_ENDS, events.PLAN) or (event.kind == events.PHASE and event.message):
            self._live.console.print(Text(describe_event(event), style=_STYLES.get(event.kind, "")))

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()

    def _draw(self) -> Table:
        """A row for each build at work, its clock going on between events, and one for the whole."""
        table = Table.grid(padding=(0, 1))
        for event, seen in tuple(self._at_work.values()):
            passed = BuildEvent(**{**vars(event), "elapsed_s": event.elapsed_s + time.monotonic() - seen})
            name = f"{event.engine}/{event.engines} {describe_engine(event)}"
            table.add_row(self._spinner, Text(name), Text(describe_progress(passed)))
        if self._last is not None and self._last.left_s:
            table.add_row("", Text(f"{describe_seconds(self._last.left_s)} left by past builds"), "")
        return table
