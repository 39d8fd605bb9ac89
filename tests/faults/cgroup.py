"""A memory cgroup for a test, of version 1 or 2, where this process may make one."""

from __future__ import annotations

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator

_V1 = pathlib.Path("/sys/fs/cgroup/memory")
_V2 = pathlib.Path("/sys/fs/cgroup")


class NoCgroup(Exception):  # noqa: N818 (a reason to skip)
    """Why there can be none here."""


@contextlib.contextmanager
def make_cgroup(limit: int) -> Iterator[pathlib.Path]:
    """An empty cgroup; a process enters it by writing its id into its `cgroup.procs`."""
    root, name = (_V2, "memory.max") if (_V2 / "cgroup.controllers").is_file() else (_V1, "memory.limit_in_bytes")
    folder = root / f"beforehand-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    try:
        folder.mkdir()
    except OSError as error:
        raise NoCgroup(f"no memory cgroup can be made here: {error}") from error
    try:
        try:
            (folder / name).write_text(str(limit))
            if root == _V2:
                (folder / "memory.swap.max").write_text("0")
        except OSError as error:
            raise NoCgroup(f"a cgroup's memory cannot be limited here: {error}") from error
        yield folder
    finally:
        folder.rmdir()
