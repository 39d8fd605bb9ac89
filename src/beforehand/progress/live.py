"""A live display on a terminal: what is being built moves at the bottom, what has ended scrolls above.

It moves with the events, which come every second at least, in the thread that calls: no thread of its own could die of a
terminal that is gone, or draw into what comes after.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from beforehand.build_engines import events
from beforehand.build_engines.events import BuildEvent
from beforehand.build_engines.tell_builds import REPLACED
from beforehand.progress.describe import describe_engine, describe_event, describe_left, describe_progress

_DONE = (events.FINISHED, events.CACHED)
_ENDS = (*_DONE, events.FAILED, events.CANCELLED)
_STYLES = {events.FAILED: "red", events.CANCELLED: "yellow", events.FINISHED: "green", events.CACHED: "green"}


class _Terminal(Console):
    """rich's console, but for two habits."""

    def show_cursor(self, show: bool = True) -> bool:
        """Leave the cursor alone: a process that is killed could not bring it back."""
        return False

    def on_broken_pipe(self) -> None:
        """Not SystemExit, which would end the build."""
        raise BrokenPipeError


class LiveDisplay:
    """Draws on `stream`, a terminal, and leaves it as it was."""

    def __init__(self, stream: TextIO) -> None:
        self._console = _make_console(stream)
        self._at_work: dict[int, tuple[BuildEvent, float]] = {}
        self._done = self._failed = 0
        self._last: BuildEvent | None = None
        self._live = Live(
            get_renderable=self._draw,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=is_terminal(sys.stdout),  # else what a program prints into a file would come here
        )
        self._live.start()

    def show(self, event: BuildEvent) -> None:
        """Take an event in, and draw."""
        self._last = event
        self._done += event.kind in _DONE
        self._failed += event.kind == events.FAILED
        if event.kind in _ENDS or event.phase == REPLACED:
            self._at_work.pop(event.engine, None)
        elif event.engine:
            self._at_work[event.engine] = event, time.monotonic()
        if event.kind in (*_ENDS, events.PLAN) or (event.kind == events.PHASE and event.message):
            # soft_wrap: the terminal wraps, so that paths can be copied.
            self._console.print(Text(describe_event(event), style=_STYLES.get(event.kind, "")), soft_wrap=True)
        self._live.refresh()

    def close(self) -> None:
        """Give the terminal back."""
        self._at_work.clear()
        self._last = None
        self._live.stop()

    def _draw(self) -> Group:
        """A line for each build at work, its clock going on between its events, and one for the whole."""
        lines = [self._draw_build(event, seen) for event, seen in self._at_work.values()]
        if self._last is not None and self._last.engines:
            failed = f", {self._failed} failed" if self._failed else ""
            whole = f"{self._done} of {self._last.engines} engines done{failed}; {describe_left(self._last)}"
            lines.append(Text(whole, style="dim"))
        # Wrapped here: where something is printed above with soft_wrap, rich would not wrap these, nor know their height.
        return Group(
            *(part for line in lines for part in line.wrap(self._console, self._console.width, overflow="fold"))
        )

    @staticmethod
    def _draw_build(event: BuildEvent, seen: float) -> Text:
        # Without its message, which was told above, and can be long.
        now = dataclasses.replace(event, elapsed_s=event.elapsed_s + time.monotonic() - seen, message="")
        name = f"engine {event.engine} of {event.engines} {describe_engine(event)}: "
        return Text.assemble(name, (describe_progress(now), "cyan"))


def _make_console(stream: TextIO) -> Console:
    return _Terminal(file=stream, highlight=False, force_jupyter=False)


def can_draw(stream: TextIO) -> bool:
    """Whether `stream` is a terminal on which lines can be drawn again."""
    return is_terminal(stream) and _make_console(stream).is_interactive


def is_terminal(stream: TextIO | None) -> bool:
    """Whether it is one; a stream that is closed, or that somebody made, may not even know."""
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):
        return False


def is_in_background(stream: TextIO) -> bool:
    """Whether the terminal is somebody else's now: of the shell that began this process with `&`."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not on Windows; not this process's terminal
        return os.tcgetpgrp(stream.fileno()) != os.getpgrp()
    return False
