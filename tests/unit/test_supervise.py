"""Children under watch: what they tell, what they hold, and what the kernel says of them."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beforehand.build_engines import diagnose, measure_memory
from beforehand.build_engines.find_nodes import find_nodes
from beforehand.build_engines.keep_log import keep_log
from beforehand.build_engines.settings import BuildSettings
from beforehand.build_engines.status_file import Failure, StatusReader, StatusWriter
from beforehand.build_engines.supervise import Outcome

HOLD = "import sys, time; held = b'1' * 200_000_000; print('held', flush=True); time.sleep(60)"


def test_memory_is_that_of_a_process_and_its_children() -> None:
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 200_000_000 < measure_memory.measure_tree(process.pid) < 400_000_000
        os.killpg(process.pid, 9)
        process.wait()
    assert measure_memory.measure_tree(process.pid) == 0


def test_what_is_free_is_no_more_than_the_machine_has() -> None:
    assert 0 < measure_memory.find_available() <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.stat": "inactive_file 100\n", "memory.max": "1000\n", "memory.current": "400\n"}, 700),
        ({"memory.stat": "inactive_file 0\n", "memory.limit_in_bytes": "900", "memory.usage_in_bytes": "1000"}, 0),
    ],
    ids=["version 2", "version 1, over its limit"],
)
def test_a_containers_limit_counts(
    files: dict[str, str], expected: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(measure_memory, "_list_cgroups", lambda: [tmp_path])
    assert measure_memory.find_available() == expected


@pytest.mark.parametrize(
    "files",
    [
        {"memory.stat": "", "memory.max": "max\n", "memory.current": "400\n"},
        {"memory.stat": "", "memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": "1000"},
        {"memory.stat": ""},
    ],
    ids=["version 2", "version 1", "neither file"],
)
def test_no_limit_is_no_limit(files: dict[str, str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(measure_memory, "_list_cgroups", lambda: [tmp_path])
    assert measure_memory.find_available() > 1000


@pytest.mark.parametrize("name", ["memory.events", "memory.oom_control"])
def test_the_kernels_count_is_read_from_the_cgroup_first(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_text("under_oom 0\noom_kill 7\n")
    monkeypatch.setattr(measure_memory, "_list_cgroups", lambda: [tmp_path])
    assert measure_memory.count_oom_kills() == (7, str(tmp_path / name))
    (tmp_path / name).unlink()
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 3\n")
    monkeypatch.setattr(measure_memory, "_VMSTAT", tmp_path / "vmstat")
    assert measure_memory.count_oom_kills() == (3, str(tmp_path / "vmstat"))
    (tmp_path / "vmstat").unlink()
    assert measure_memory.count_oom_kills() is None


def test_what_is_told_arrives_whole_and_once(tmp_path: pathlib.Path) -> None:
    writer, reader = StatusWriter(tmp_path / "status"), StatusReader(tmp_path / "status")
    assert reader.read_phases() == []
    writer.tell_phase("reading")
    writer.tell_phase("compiling, \u00e9 and \n a line")
    assert reader.read_phases() == ["reading", "compiling, \u00e9 and \n a line"]
    assert reader.read_phases() == []
    failure = Failure("unsupported", "what", "why", "advice", ("a", "b"))
    writer.tell_failure(failure)
    assert reader.read_phases() == []
    assert reader.failure == failure


@given(st.binary(max_size=200), st.integers(0, 60))
def test_a_status_file_of_anything_is_read(tmp_path_factory: pytest.TempPathFactory, noise: bytes, cut: int) -> None:
    file = tmp_path_factory.mktemp("status") / "status"
    StatusWriter(file).tell_phase("reading")
    whole = file.read_bytes()
    file.write_bytes(noise + b"\n" + whole + whole[:cut])
    reader = StatusReader(file)
    assert "reading" in reader.read_phases()
    with file.open("ab") as more:
        more.write(whole[cut:])
    assert reader.read_phases() == (["reading"] if cut < len(whole) else [])


def make_outcome(
    tmp_path: pathlib.Path, code: int, kills: tuple[int, int, str] | None = None, log: str = ""
) -> Outcome:
    (tmp_path / "log").write_text(log)
    return Outcome(code, "", None, "", 12.3, "compiling", 5_000_000_000, 6_000_000_000, 10**12, kills, tmp_path / "log")


@pytest.mark.parametrize(
    ("code", "kills", "log", "cause", "words"),
    [
        (-9, (3, 4, "/sys/x"), "", "oom-killed", "rose from 3 to 4 (/sys/x)"),
        (-9, (3, 3, "/sys/x"), "", "killed", "killed by signal 9 (SIGKILL) while compiling after 12.3 s, with 5.00 GB"),
        (-9, None, "", "killed", "SIGKILL"),
        (-15, (3, 4, "/sys/x"), "", "killed", "SIGTERM"),  # whoever the kernel killed just then, it was not this one
        (-11, None, "", "crashed", "SIGSEGV"),
        (-6, None, "what(): std::bad_alloc", "host-memory", "could not get the memory"),
        (-6, None, "an assertion", "crashed", "SIGABRT"),
        (-64, None, "", "killed", "signal 64"),
        (3, None, "first\nlast words", "failed", "ended with code 3. last words"),
        (0, None, "", "invalid-engine", "left no engine"),
        (65, None, "", "disk-full", "no room left"),
    ],
)
def test_what_an_end_means(
    code: int, kills: tuple[int, int, str] | None, log: str, cause: str, words: str, tmp_path: pathlib.Path
) -> None:
    failure = diagnose.find_failure(make_outcome(tmp_path, code, kills, log), BuildSettings())
    assert failure.cause == cause
    assert words in failure.why


def test_nodes_have_their_names_in_tensorflow() -> None:
    assert find_nodes("/no/such/file", ["a/b__12", "a/b", "c"]) == ("a/b", "c")
    assert find_nodes("/no/such/file", []) == ()


def test_the_newest_logs_are_kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "cache"))
    log = tmp_path / "engine.log"
    for number in range(53):
        log.write_text(str(number))
        kept = keep_log(log)
        os.utime(kept, (time.time() - 1000 + number,) * 2)
    assert kept.read_text() == "52"
    assert sorted(int(path.read_text()) for path in kept.parent.iterdir())[0] >= 2
    assert len(list(kept.parent.iterdir())) == 50


def test_a_log_is_kept_somewhere_where_there_is_no_cache(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "cache"))
    (tmp_path / "engine.log").write_text("words")
    assert keep_log(tmp_path / "engine.log").read_text() == "words"
