"""Logs of failed builds: what a build was made of goes with it, and what explains its failure must stay."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import tempfile
import uuid

from beforehand.store.cache_folder import find_cache_folder

_MOST_LOGS = 50
_PRIVATE = 0o700


def keep_log(log: pathlib.Path) -> pathlib.Path:
    """Copy a log into the user's cache folder, where the newest 50 stay; to a temporary folder if that cannot be written.

    Returns:
        Where it lies now; `log` itself if it can be copied nowhere.
    """
    name = f"{log.stem}.{uuid.uuid4().hex[:8]}.log"
    with contextlib.suppress(OSError):
        folder = find_cache_folder() / "logs"
        folder.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        folder.mkdir(mode=_PRIVATE, exist_ok=True)
        shutil.copyfile(log, folder / name)
        _drop_oldest(folder)
        return folder / name
    with contextlib.suppress(OSError):
        kept = pathlib.Path(tempfile.mkdtemp(prefix="beforehand-log-")) / name
        shutil.copyfile(log, kept)
        return kept
    return log


def _drop_oldest(folder: pathlib.Path) -> None:
    logs = []
    for path in folder.glob("*.log"):
        with contextlib.suppress(OSError):  # another process may remove it
            logs.append((path.stat().st_mtime, path))
    for _, path in sorted(logs)[:-_MOST_LOGS]:
        path.unlink(missing_ok=True)
