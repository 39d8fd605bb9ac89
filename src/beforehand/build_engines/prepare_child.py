"""What a supervised child does first: it ends with its parent, and the kernel takes it before its parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import signal
import sys
import threading
import time

_WATCH_S = 0.5
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_OOM_SCORE = pathlib.Path("/proc/self/oom_score_adj")
_FIRST_TO_GO = "1000"


def prepare_child(parent: int) -> None:
    """Tie this process to its parent, whose process id is given.

    Linux ends it in the moment in which the thread that started it ends; elsewhere, and should that fail, it looks for its
    parent twice a second. If memory runs out, the kernel is asked to take this process first, not the user's interpreter.
    """
    with contextlib.suppress(OSError):  # no Linux, or not allowed
        _OOM_SCORE.write_text(_FIRST_TO_GO)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before the lines above
        os._exit(1)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)  # a backend's threads may be at work
