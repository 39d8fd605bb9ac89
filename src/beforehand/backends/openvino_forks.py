"""OpenVINO after a fork: it is refused in the child, where it would wait for ever for threads that exist in the parent alone.

Seen with 2026.4. OpenVINO keeps executors, each with threads of its own, for the whole process, and gives those that are
idle to the next model, of whatever Core: in the child a new model then waits for a dead thread (`run_and_wait`, below
`import_model`), a model of the parent's presumably for one of its calls under way. What works depends on what the parent
did: a child answered in 8 of 8 tries while the parent's model was open, and hung in 12 of 12 where it had been closed,
with a Core of its own too. Its objects cannot be destroyed there either, so that plain Python hung at its end.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any

from beforehand.errors import EngineRunError

_cores: list[Any] = []
_executables: weakref.WeakSet[Any] = weakref.WeakSet()
_is_used = False  # by this process or one that it was forked of: threads of OpenVINO's were started
_is_refused = False


def keep_core(core: Any) -> Any:
    """The Core, which a forked child is to leave alone."""
    _cores.append(core)
    return core


def keep_executable(executable: Any) -> None:
    """Have the `run` of an executable refuse calls in a forked child. In this process its calls cost what they did."""
    _executables.add(executable)


def note_use() -> None:
    """From now on OpenVINO has threads, which no fork takes along.

    Raises:
        EngineRunError: BH601, this is a fork's child already.
    """
    global _is_used  # noqa: PLW0603 (what is told is the process's state)
    check_process()
    _is_used = True


def check_process() -> None:
    """Refuse to use OpenVINO in the child of a process that had used it.

    Raises:
        EngineRunError: BH601.
    """
    if _is_refused:
        _refuse()


def _refuse(*_: Any, **__: Any) -> Any:
    raise EngineRunError(
        "OpenVINO cannot be used in this process: it was forked of one that had called or built engines",
        why="OpenVINO's threads do not exist here, and it would wait for them for ever",
        advice='processes started by spawn (multiprocessing.get_context("spawn")), or a fork before the first call',
    )


def _leave_to_parent() -> None:
    """In a forked child: whatever the parent opened is neither called nor destroyed, not even at the end of the process."""
    global _is_refused  # noqa: PLW0603 (as above)
    _is_refused = _is_refused or _is_used
    executables = list(_executables)
    for held in (*_cores, *executables):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))
    for executable in executables:
        executable.run = _refuse


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
