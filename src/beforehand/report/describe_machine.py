"""The machine that a conversion runs on, in words; nothing that names a host, a user or a folder."""

from __future__ import annotations

import os
import pathlib
import platform

import psutil


def describe_machine() -> tuple[tuple[str, str], ...]:
    """Processor, cores that this process may use, memory, operating system, Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        ("processor", _find_processor()),
        ("cores", str(cores)),
        ("memory", f"{psutil.virtual_memory().total / 1e9:.0f} GB"),
        ("system", f"{platform.system()} {platform.machine()}"),
        ("Python", platform.python_version()),
    )


def _find_processor() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
