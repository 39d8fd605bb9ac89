"""What a step came to, in one line that a user sees without having asked for a log."""

from __future__ import annotations

import contextlib
import logging
import sys

from beforehand import environment
from beforehand.progress.choose import choose_progress

_log = logging.getLogger("beforehand")
_SHOWN = ("auto", "live", "plain")


def tell_line(progress: str, text: str) -> None:
    """Log a line at INFO; where the log shows no INFO, write it to stderr, as the progress of builds is.

    Args:
        progress: The option: with `json`, `log` and `off`, and where BEFOREHAND_LOG is set, there is the log alone.
        text: Without a line break.
    """
    _log.info("%s", text)
    is_shown = _log.isEnabledFor(logging.INFO) and _log.hasHandlers()
    if is_shown or environment.read_log_level() or choose_progress(progress) not in _SHOWN or sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        sys.stderr.write(f"beforehand: {text}\n")
        sys.stderr.flush()
