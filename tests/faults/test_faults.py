"""Whatever happens to a build, this process lives, and is told what it was."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
import time

import psutil
import pytest

from beforehand import causes
from beforehand.build_engines.bound_log import MOST_BYTES, bound_log
from beforehand.build_engines.build_engine import build_engine
from beforehand.build_engines.events import CHECKING, Progress
from beforehand.build_engines.settings import BuildSettings
from beforehand.errors import BuildError
from tests.faults.fault_table import FAULTS, Fault, make_spec, run_fault

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "faults.md"


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_every_fault_is_told_as_what_it_is(fault: Fault, tmp_path: pathlib.Path) -> None:
    seen = run_fault(fault, tmp_path)
    if seen.cause == "not run":
        pytest.skip(seen.why)
    assert seen.cause == fault.cause, seen
    deadline = time.monotonic() + 3
    while left := [words for words in list_commands() if "time.sleep(600" in words or str(tmp_path) in words]:
        assert time.monotonic() < deadline, left


def list_commands() -> list[str]:
    """Of all processes of this machine."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(process.cmdline()))
    return found


def test_the_page_has_every_fault_and_what_was_seen() -> None:
    """That this is what is seen is the test above."""
    _, _, after = PAGE.read_text().partition("<!-- begin faults -->\n")
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|")) for line in after.splitlines()[2:] if "|" in line
    ]
    assert rows == [(fault.name, fault.cause, fault.cause) for fault in FAULTS]


def test_every_cause_has_its_advice_on_the_page() -> None:
    page = PAGE.read_text()
    for cause, advice in causes.ADVICE.items():
        assert f"| `{cause}` |" in page
        assert advice in page


def fail(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, told: str, settings: BuildSettings) -> BuildError:
    monkeypatch.setenv("BEFOREHAND_FAKE", f'{{"*": "{told}"}}')
    with pytest.raises(BuildError) as caught:
        build_engine(make_spec(folder, "fake"), folder, settings)
    return caught.value


def test_an_error_has_all_that_the_user_needs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = fail(tmp_path, monkeypatch, "signal 11", BuildSettings())
    assert (error.segment, error.shapes, error.cause) == ("TRTEngineOp_000_000", "x=1x4", "crashed")
    assert error.nodes == ("model/reshape", "model/dense/op")
    text = str(error)
    assert "killed by signal 11 (SIGSEGV) while compiling" in text
    assert "Nodes of the segment: model/reshape, model/dense/op." in text
    assert f"Try: {causes.ADVICE['crashed']}" in text
    assert pathlib.Path(error.log).is_file()
    assert text.endswith(f"Log: {error.log}")


def test_the_nodes_that_a_backend_blames_are_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(BuildError) as caught:
        build_engine(make_spec(tmp_path, "openvino", op="Det"), tmp_path)
    assert caught.value.nodes == ("model/dense/op",)
    assert "Nodes blamed: model/dense/op" in str(caught.value)
    assert "no conversion rule" in str(caught.value)
    assert "Traceback" in pathlib.Path(caught.value.log).read_text()


def test_the_killer_is_named_with_evidence_or_not_at_all(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = fail(tmp_path, monkeypatch, "signal 9", BuildSettings())
    assert error.cause == "killed"
    assert "killed by signal 9 (SIGKILL)" in error.why
    [fault] = [fault for fault in FAULTS if fault.cause == causes.OOM_KILLED]
    seen = run_fault(fault, tmp_path)
    if seen.cause == "not run":
        pytest.skip(seen.why)
    assert "count of processes killed for lack of memory rose from" in seen.why
    assert "GB of memory last seen" in seen.why


def test_a_cap_is_told_with_both_numbers(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = fail(tmp_path, monkeypatch, "allocate", BuildSettings(max_build_memory_bytes=300_000_000))
    assert "more than the 0.30 GB that max_build_memory_bytes allows" in error.why


def test_a_log_without_end_is_cut_and_its_ends_are_kept(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "BEFOREHAND_FAKE", '{"*": ["say the first word", "flood 3e8", "sleep 0.3", "say the last word", "exit 3"]}'
    )
    with pytest.raises(BuildError) as caught:
        build_engine(make_spec(tmp_path, "fake"), tmp_path)
    log = pathlib.Path(caught.value.log)
    assert log.stat().st_size < 2 * MOST_BYTES
    text = log.read_text()
    assert text.startswith("the first word")
    assert text.rstrip().endswith("the last word")
    assert "of the log left out here" in text


def test_an_engine_that_is_altered_before_it_is_recorded_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEFOREHAND_FAKE", '{"check": 2}')

    def alter(progress: Progress) -> None:
        if progress.phase == CHECKING:
            [engine] = tmp_path.glob("*.fake")
            engine.write_bytes(engine.read_bytes()[:-1])

    with pytest.raises(BuildError, match="altered since") as caught:
        build_engine(make_spec(tmp_path, "fake"), tmp_path, report=alter)
    assert caught.value.cause == causes.INVALID_ENGINE
    assert not list(tmp_path.glob("*.fake"))


def test_a_log_within_bounds_is_left_alone(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"0123456789" * 10)
    bound_log(log, most_bytes=100, kept=10)
    assert log.read_bytes() == b"0123456789" * 10
    bound_log(log, most_bytes=99, kept=10)
    assert log.read_bytes() == b"0123456789\n[beforehand: 80 bytes of the log left out here]\n0123456789"


def test_a_build_that_hangs_is_cancelled_within_seconds(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    monkeypatch.setenv("BEFOREHAND_FAKE", '{"*": "hang holding the GIL"}')
    cancel = threading.Event()
    threading.Timer(1.0, cancel.set).start()
    begun = time.monotonic()
    with pytest.raises(BuildError, match="BH403"):
        build_engine(make_spec(tmp_path, "fake"), tmp_path, cancel=cancel)
    assert time.monotonic() - begun < 1 + 5
    assert not list(tmp_path.glob("*.fake"))


PARENT = """
import pathlib, sys
from beforehand.build_engines.build_engine import build_engine
from tests.faults.fault_table import make_spec
folder = pathlib.Path(sys.argv[1])
build_engine(make_spec(folder, "fake"), folder, on_start=lambda child: print(child.pid, flush=True))
"""


@pytest.mark.parametrize("told", ["hang", "hang holding the GIL"])
@pytest.mark.parametrize("sign", [9, 15])
def test_a_build_does_not_outlive_its_parent(
    told: str, sign: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEFOREHAND_FAKE", f'{{"*": "{told}"}}')
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    root = pathlib.Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        time.sleep(1.0)
        assert child.is_running()
        parent.send_signal(sign)
        parent.wait()
        child.wait(timeout=3)


def test_nothing_of_the_working_directory_is_imported(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own json.py must not stand in for Python's."""
    for folder in (tmp_path, tmp_path / "build"):
        folder.mkdir(exist_ok=True)
        (folder / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    (tmp_path / "build" / "json.py").unlink()
    engine = build_engine(make_spec(tmp_path, "fake"), tmp_path / "build")
    assert engine.bytes > 0
