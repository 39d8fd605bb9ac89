"""The machine that a conversion runs on, in words; nothing that names a host, a user or a folder."""

from __future__ import annotations

import os
import platform

import psutil

from beforehand.backends.describe_cpu import find_cpu_model


def describe_machine() -> tuple[tuple[str, str], ...]:
    """Processor, cores that this process may use, memory, operating system, Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        ("processor", find_cpu_model() or platform.machine()),
        ("cores", str(cores)),
        ("memory", f"{psutil.virtual_memory().total / 1e9:.0f} GB"),
        ("system", f"{platform.system()} {platform.machine()}"),
        ("Python", platform.python_version()),
    )
