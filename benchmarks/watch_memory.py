"""Peaks of resident memory, of this process and of its children apart."""

import os
import pathlib
import threading


class MemoryWatch:
    """While it is open, notes the peak of every child whose command line holds a text.

    Not by `ru_maxrss`: a process that was started by vfork has its parent's peak there, from before its exec. `VmHWM`
    belongs to the program that runs; it only rises, so looking often and last seen shortly before the end is enough.
    """

    def __init__(self, command: str) -> None:
        self._command = command.encode()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.child_bytes = 0

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.004):
            for child in _list_children():
                try:
                    if self._command in pathlib.Path(f"/proc/{child}/cmdline").read_bytes():
                        self.child_bytes = max(self.child_bytes, read_peak(child))
                except OSError:  # it has ended
                    continue


def read_peak(process: int | str = "self") -> int:
    """The peak of a process's resident memory since its exec, in bytes; 0 if it has ended."""
    for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 0


def _list_children() -> list[int]:
    found = []
    for task in pathlib.Path(f"/proc/{os.getpid()}/task").iterdir():
        try:
            found += [int(text) for text in (task / "children").read_text().split()]
        except OSError:  # the thread has ended
            continue
    return found
