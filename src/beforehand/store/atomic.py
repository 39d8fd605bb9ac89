"""Files and folders that appear whole or not at all: written aside, synced, renamed."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator


def write_bytes(path: pathlib.Path, data: bytes, mode: int | None = None) -> None:
    """Write a file so that a reader sees the old one or the new one, whole, whatever is killed when.

    Args:
        path: The file.
        data: Its content.
        mode: Its permissions; None: those of any new file.
    """
    with _replace_file(path) as aside:
        if mode is not None:
            aside.touch(mode)
        aside.write_bytes(data)


def copy_file(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy a file, by a hard link where the file system can: engines are never changed in place."""
    try:
        os.link(source, target)
    except OSError:
        put_file(source, target)


def put_file(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy a file as `write_bytes` writes one."""
    with _replace_file(target) as aside:
        shutil.copyfile(source, aside)


@contextlib.contextmanager
def _replace_file(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a name beside `target` to write a file to; on success it takes the place of `target`, else it goes."""
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(target.parent)


def move_file(source: pathlib.Path, target: pathlib.Path) -> None:
    """Move a file within a file system, so that a reader of `target` sees the old one or the new one, whole."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: pathlib.Path) -> None:
    """Make the names in a folder durable."""
    with contextlib.suppress(OSError):  # not every file system can open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_tree(folder: pathlib.Path) -> None:
    """Make every file below a folder durable."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)


@contextlib.contextmanager
def replace_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a new folder beside `target` to write into; on success it takes the place of `target`, else it goes.

    TensorFlow's own save is not atomic. POSIX cannot exchange two folders in one portable call: between the two
    renames `target` is missing for an instant, and after a crash just then the old one lies beside, as `.NAME.XXXX.old`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    aside = target.with_name(f".{target.name}.{mark}.tmp")
    old = target.with_name(f".{target.name}.{mark}.old")
    aside.mkdir()
    try:
        yield aside
        sync_tree(aside)
        if target.exists():
            target.rename(old)
        try:
            aside.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        sync_folder(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
