"""Limits of memory that containers have, in cgroups made here; skipped where none can be made."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

MEMORY = pathlib.Path("/sys/fs/cgroup/memory")
LIMIT = 300 << 20
ASK = """
import os, pathlib, sys
pathlib.Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
from beforehand.build_engines.measure_memory import find_available
print(find_available())
"""


@pytest.fixture
def limited() -> Iterator[pathlib.Path]:
    """A cgroup (version 1) without a limit, in one that has a limit."""
    outer = MEMORY / f"beforehand-{uuid.uuid4().hex[:8]}"
    try:
        (outer / "inner").mkdir(parents=True)
        (outer / "memory.limit_in_bytes").write_text(str(LIMIT))
    except OSError as error:
        with contextlib.suppress(OSError):
            outer.rmdir()
        pytest.skip(f"no cgroup of version 1 can be made here: {error}")
    yield outer / "inner"
    (outer / "inner").rmdir()
    outer.rmdir()


def test_a_limit_of_an_outer_cgroup_counts(limited: pathlib.Path) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", ASK, str(limited)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60)
    assert 0 < int(done.stdout) <= LIMIT
