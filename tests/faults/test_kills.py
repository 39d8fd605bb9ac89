"""kill -9 at any moment: a build goes on where it was, and ends with the same engines."""

from __future__ import annotations

import collections
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


def kill(process: subprocess.Popen[bytes], *, with_children: bool) -> None:
    """Of everything at once, or of the parent alone: its children must see to themselves."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in children if with_children else ():
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=3)
    assert not alive


def read_engines(folder: pathlib.Path) -> dict[str, bytes]:
    cache = CacheFolder(folder / "cache")
    for entry in list_engines(cache):
        assert check_entry(entry) == WHOLE
    return {entry.key: entry.file.read_bytes() for entry in list_engines(cache)}


def count_built(journal: pathlib.Path) -> collections.Counter[str]:
    return collections.Counter(journal.read_text().split()) if journal.exists() else collections.Counter()


def run_killed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kills: int, workers: int, backend: str = "fake"
) -> None:
    draw = random.Random(f"{kills} {workers} {backend}")  # noqa: S311 (no secret)
    folders = (tmp_path / f"run{number}" for number in range(1000))
    done, expected, used = 0, None, 0
    while done < kills or used == 0:
        folder = next(folders)
        folder.mkdir()
        journal = folder / "journal"
        monkeypatch.setenv("BEFOREHAND_FAKE", json.dumps({"*": "sleep 0.05", "journal": str(journal)}))
        killed_here = 0
        while True:
            process = start(folder, workers, backend, folder / "output")
            if done < kills:
                time.sleep(draw.uniform(0.1, 2.0))
            else:
                process.wait(MOST_S)
            if process.poll() is not None:
                break
            kill(process, with_children=draw.random() < 0.5)
            done, killed_here = done + 1, killed_here + 1
        assert process.returncode == 0, (folder / "output").read_text()
        engines = read_engines(folder)
        assert len(engines) == COUNT
        expected = expected or engines
        assert engines == expected  # also across runs: another process, another folder, the same bytes
        assert list((folder / "cache" / "building").iterdir()) == []
        assert not list(folder.rglob("*.tmp"))
        if backend == "fake":
            built = count_built(journal)
            assert sum(built.values()) - COUNT <= killed_here * workers, (built, killed_here)
        used += 1


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
