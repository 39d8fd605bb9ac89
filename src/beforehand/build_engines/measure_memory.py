"""Memory of this machine or container, and of a process with its children; how often the kernel killed for lack of it."""

from __future__ import annotations

import contextlib
import pathlib

import psutil

_CGROUPS = pathlib.Path("/sys/fs/cgroup")
_VMSTAT = pathlib.Path("/proc/vmstat")
# A cgroup without a limit has a number near 2**63 in version 1, and the word "max" in version 2.
_NO_LIMIT = 1 << 60


def find_available() -> int:
    """Bytes that may be taken without swapping: of the machine, or of the container if that has less."""
    available = int(psutil.virtual_memory().available)
    # The limit may be that of a cgroup further out, such as a pod's or a user's slice.
    folders = [outer for folder in _list_cgroups() for outer in (folder, *folder.parents)]
    for folder in dict.fromkeys(folders):
        limit = _read_number(folder, "memory.max", "memory.limit_in_bytes")
        used = _read_number(folder, "memory.current", "memory.usage_in_bytes")
        if limit is not None and used is not None and limit < _NO_LIMIT:
            cached = _read_table(folder / "memory.stat").get("inactive_file", 0)  # given back when it is asked for
            available = min(available, limit - used + cached)
    return max(0, available)


def measure_tree(pid: int) -> int:
    """Resident bytes of a process and its descendants; 0 once it is gone."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        total = process.memory_info().rss
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += child.memory_info().rss
    return total


def count_oom_kills() -> tuple[int, str] | None:
    """How many processes the kernel has killed for lack of memory, and where that was read; None where nothing tells.

    Of this process's cgroup, which its children share, if that counts them (Linux 4.13 and later); else of the machine.
    """
    for folder in _list_cgroups():
        for name in ("memory.events", "memory.oom_control"):
            count = _read_table(folder / name).get("oom_kill")
            if count is not None:
                return count, str(folder / name)
    count = _read_table(_VMSTAT).get("oom_kill")
    return None if count is None else (count, str(_VMSTAT))


def _list_cgroups() -> list[pathlib.Path]:
    """The memory cgroup of this process, version 2 or 1; nothing elsewhere than on Linux."""
    found = []
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                found.append(_CGROUPS / path.lstrip("/"))
            elif "memory" in controllers.split(","):
                # Inside a container the path may be the host's, and the container's own cgroup the root.
                found += [_CGROUPS / "memory" / path.lstrip("/"), _CGROUPS / "memory"]
    return [folder for folder in found if (folder / "memory.stat").is_file()]


def _read_number(folder: pathlib.Path, *names: str) -> int | None:
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            return int((folder / name).read_text())
    return None


def _read_table(file: pathlib.Path) -> dict[str, int]:
    """Lines of a name and a number."""
    table = {}
    with contextlib.suppress(OSError):
        for line in file.read_text().splitlines():
            name, _, value = line.partition(" ")
            if value.strip().isdigit():
                table[name] = int(value)
    return table
