"""kill -9 at any moment: a build goes on where it was, and ends with the same engines."""

from __future__ import annotations

import contextlib
import json
import pathlib
import random
import subprocess
import sys
import time

import psutil
import pytest

from beforehand.store.cache_content import WHOLE, check_entry, list_engines
from beforehand.store.cache_folder import CacheFolder
from tests.faults.kill_builds import COUNT

ROOT = pathlib.Path(__file__).parents[2]
MOST_S = 60.0


def start(folder: pathlib.Path, workers: int, backend: str, output: pathlib.Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.faults.kill_builds", str(folder), str(workers), backend]
    with output.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT)


def kill(process: subprocess.Popen[bytes], folder: pathlib.Path, *, with_children: bool) -> None:
    """Of everything at once, or of the parent alone: its children must see to themselves."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in children if with_children else ():
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
    deadline = time.monotonic() + 3
    while left := list_at_work(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def list_at_work(folder: pathlib.Path) -> list[str]:
    """Processes of this machine that are at work in a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(process.cmdline()))
    return [words for words in found if f"{folder}/" in words]


def read_engines(folder: pathlib.Path) -> dict[str, bytes]:
    """Of the cache, all of which must be whole."""
    entries = list_engines(CacheFolder(folder / "cache"))
    assert {check_entry(entry) for entry in entries} <= {WHOLE}
    return {entry.key: entry.file.read_bytes() for entry in entries}


def list_cached(folder: pathlib.Path) -> set[str]:
    """The shapes of the engines in the cache."""
    entries = list_engines(CacheFolder(folder / "cache"))
    return {entry.engine.shapes.describe() for entry in entries if entry.engine is not None}


class Journal:
    """The builds that begin, by shapes: an engine that was in the cache at a kill is never built again."""

    def __init__(self, folder: pathlib.Path, workers: int) -> None:
        self.file, self._folder, self._workers = folder / "journal", folder, workers
        self._read = 0
        self._cached: set[str] = set()

    def check(self) -> None:
        """After a run was killed, or came to its end."""
        lines = self.file.read_text().split() if self.file.exists() else []
        begun, self._read = lines[self._read :], len(lines)
        assert not self._cached.intersection(begun)
        self._cached = list_cached(self._folder)
        assert len(set(begun) - self._cached) <= self._workers, begun
        assert len(begun) == len(set(begun))


def run_killed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kills: int, workers: int, backend: str = "fake"
) -> None:
    draw = random.Random(f"{kills} {workers} {backend}")  # noqa: S311 (no secret)
    folders = (tmp_path / f"run{number}" for number in range(1000))
    done, expected = 0, None
    while done < kills:
        folder = next(folders)
        folder.mkdir()
        journal = Journal(folder, workers)
        monkeypatch.setenv("BEFOREHAND_FAKE", json.dumps({"*": "sleep 0.05", "journal": str(journal.file)}))
        while True:
            process = start(folder, workers, backend, folder / "output")
            if done < kills:
                time.sleep(draw.uniform(0.1, 2.0))
            else:
                process.wait(MOST_S)
            if process.poll() is not None:
                break
            kill(process, folder, with_children=draw.random() < 0.5)
            journal.check()
            done += 1
        assert process.returncode == 0, (folder / "output").read_text()
        journal.check()
        engines = read_engines(folder)
        assert len(engines) == COUNT
        expected = expected or engines
        assert engines == expected  # also across runs: another process, another folder, the same bytes
        delivered = [path.read_bytes() for path in (folder / "engines").glob(f"*.{backend}")]
        assert sorted(delivered) == sorted(engines.values())
        assert list((folder / "cache" / "building").iterdir()) == []
        assert not list(folder.rglob("*.tmp"))


def test_ten_kills_one_at_a_time(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_killed(tmp_path, monkeypatch, kills=10, workers=1)


@pytest.mark.slow
def test_fifty_kills(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_killed(tmp_path, monkeypatch, kills=50, workers=1)


@pytest.mark.slow
def test_fifty_kills_of_builds_in_parallel(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_killed(tmp_path, monkeypatch, kills=50, workers=3)


@pytest.mark.slow
def test_fifty_kills_with_openvino(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_killed(tmp_path, monkeypatch, kills=50, workers=1, backend="openvino")
