"""Which display shows builds: by the option, the environment and the terminal."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Protocol, TextIO

from beforehand import environment
from beforehand.build_engines.events import BuildEvent, OnEvent
from beforehand.errors import OptionValueError
from beforehand.options import PROGRESS
from beforehand.progress.json_lines import JsonLines
from beforehand.progress.log_lines import LogLines
from beforehand.progress.plain import PlainLines

_log = logging.getLogger("beforehand")


class Display(Protocol):
    """Shows events."""

    def show(self, event: BuildEvent) -> None:
        """Show one."""

    def close(self) -> None:
        """No more will come."""


@contextlib.contextmanager
def open_display(progress: str, on_event: OnEvent | None = None) -> Iterator[OnEvent]:
    """Give what events are handed to: the display, and the user's function.

    Neither can cost a build anything: a display that cannot write and a function that raises are told once, in the log,
    and not called again. KeyboardInterrupt goes through.

    Args:
        progress: One of `options.PROGRESS`; BEFOREHAND_PROGRESS stands above it. `live` is `plain` where stderr is no
            terminal, or one that cannot draw; `auto` also where this process is in the terminal's background.
        on_event: The user's function.

    Raises:
        OptionValueError: BH102, the environment's value is none.
    """
    display = _choose(choose_progress(progress), sys.stderr)
    shows = [_Guarded("the display of builds", display.show)] if display is not None else []
    if on_event is not None:
        shows.append(_Guarded("on_event", on_event, is_users=True))

    def tell(event: BuildEvent) -> None:
        for show in shows:
            show(event)

    try:
        yield tell
    finally:
        if display is not None:
            with contextlib.suppress(Exception):  # a stream that is closed or gone
                display.close()


def choose_progress(progress: str) -> str:
    """One of `options.PROGRESS`: the environment's, else `progress`.

    Raises:
        OptionValueError: BH102, the environment's value is none.
    """
    value = environment.read_progress()
    if value and value not in PROGRESS:
        raise OptionValueError(f"BEFOREHAND_PROGRESS is {value!r}", advice="one of " + ", ".join(PROGRESS))
    return value or progress


def _choose(progress: str, stream: TextIO | None) -> Display | None:
    if progress == "log":
        return LogLines()
    if progress == "off" or stream is None:  # a program without a console has no stderr
        return None
    if progress == "json":
        return JsonLines(stream)
    if progress in ("live", "auto"):
        return _open_live(stream, is_wanted=progress == "live") or PlainLines(stream)
    return PlainLines(stream)


def _open_live(stream: TextIO, *, is_wanted: bool) -> Display | None:
    """The live display, where it can be: else nothing would be seen of builds until their end."""
    try:
        if not stream.isatty():
            return None
        from beforehand.progress import live  # noqa: PLC0415 (rich takes 50 ms)

        if live.can_draw(stream) and (is_wanted or not live.is_in_background(stream)):
            return live.LiveDisplay(stream)
    except (AttributeError, OSError, ValueError):  # a stream that is closed, gone, or not quite one
        pass
    return None


class _Guarded:
    """A function that is called until it raises."""

    def __init__(self, what: str, call: OnEvent, *, is_users: bool = False) -> None:
        self._what, self._call, self._is_users, self._is_broken = what, call, is_users, False

    def __call__(self, event: BuildEvent) -> None:
        if self._is_broken:
            return
        try:
            self._call(event)
        except Exception as error:  # noqa: BLE001 (no build is lost for it)
            self._is_broken = True
            with contextlib.suppress(Exception):  # where the log goes may be what is broken
                _log.warning(
                    "%s failed, and is not called again: %s: %s", self._what, type(error).__name__, error,
                    exc_info=self._is_users,
                )  # fmt: skip
