"""`beforehand bench` in fresh processes: every way and state is measured or says why not. Times are never asserted."""

from __future__ import annotations

import json
import math
import pathlib
from typing import Any

import life_cycle
import psutil
import pytest
from make_targets import make_source
from test_verify import make_source as make_source_of_three

import beforehand
from beforehand.benchmark.way_process import Job, WayProcess
from beforehand.store import layout
from beforehand.store.hashing import hash_file


def convert(source: pathlib.Path, shape: tuple[int, ...]) -> pathlib.Path:
    converter = beforehand.Converter(source, progress="off")
    converter.convert()
    converter.build(shapes={"x": shape})
    converter.save(source.with_name("converted"))
    return source.with_name("converted")


def run_bench(*arguments: Any) -> tuple[int, str, str]:
    process = life_cycle.run_python("-m", "beforehand", "bench", *arguments)
    return process.returncode, process.stdout, process.stderr


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_source(tmp_path_factory.mktemp("bench") / "source")


@pytest.fixture(scope="module")
def converted(source: pathlib.Path) -> pathlib.Path:
    return convert(source, (2, 6))


def test_all_ways_and_all_states_are_measured(
    source: pathlib.Path, converted: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    before = {path.name: hash_file(path) for path in (converted / layout.ASSETS).iterdir()}
    code, told, errors = run_bench(
        converted, "--against", source, "--rounds", 2, 2, "--callers", 1, "--callers", 2, "--processes", 1,
        "--json", tmp_path / "bench.json", "--keep",
    )  # fmt: skip
    assert code == 0, errors
    found = json.loads((tmp_path / "bench.json").read_text())
    assert json.loads((converted / layout.ASSETS / layout.BENCH).read_text()) == found
    assert [(row["way"], row["callers"]) for row in found["rows"]] == [
        (way, callers) for callers in (1, 2) for way in ("native", "frozen", "xla", "converted", "standalone")
    ]
    for row in found["rows"]:
        assert row["error"] is None
        assert (row["signature"], row["shapes"]) == ("serving_default", {"x": [2, 6]})
        assert 0 < row["median_ms"] <= row["p95_ms"] <= row["p99_ms"] < math.inf
        assert row["per_second"] > 0
        assert 0 < len(row["samples_ms"]) <= 200
        assert row["answered_by"] == ("engines" if row["way"] in ("converted", "standalone") else "TensorFlow")
    memory = {row["way"]: row["rss_mb"] for row in found["rows"]}
    assert memory["standalone"] < memory["native"]  # TensorFlow is not in that process
    ways = ["never converted", "converted, not built", "converted and built", "without TensorFlow"]
    assert [row["way"] for row in found["cold"]] == ways
    for row in found["cold"]:
        assert row["error"] is None
        assert row["processes"] == 1
        assert all(row[step] > 0 for step in ("import_s", "load_s", "first_call_s", "second_call_s"))
    assert set(found["steady"]) >= {"ok", "told"}
    assert "without build():" in told
    assert "too few rounds" in told
    # What is measured is left as it was.
    assert {path.name for path in (converted / layout.ASSETS).iterdir()} == {*before, layout.BENCH}
    assert {name: hash_file(converted / layout.ASSETS / name) for name in before} == before


def test_a_way_that_cannot_run_says_why_in_its_row(tmp_path: pathlib.Path) -> None:
    source = make_source_of_three(tmp_path / "source")
    converted = convert(source, (2, 16))
    ways = [word for way in ("native", "xla", "converted", "standalone") for word in ("--way", way)]
    arguments = [*ways, "--rounds", 1, 1, "--callers", 1, "--processes", 0, "--json", tmp_path / "bench.json"]
    code, told, errors = run_bench(converted, *arguments)
    assert code == 0, errors
    rows = {row["way"]: row for row in json.loads((tmp_path / "bench.json").read_text())["rows"]}
    assert rows["native"]["error"] is None
    assert rows["native"]["answered_by"] == "TensorFlow"  # without its engines, though the model has some
    assert rows["converted"]["answered_by"] == "engines"
    assert "--against SRC" in rows["xla"]["error"]
    assert "BH606" in rows["standalone"]["error"]
    assert "BH606" in told
    # A source that cannot be loaded is no end of it.
    (source / layout.SAVED_MODEL).write_bytes(b"no SavedModel")
    code, told, errors = run_bench(converted, "--against", source, *arguments)
    assert code == 0, errors
    rows = {row["way"]: row for row in json.loads((tmp_path / "bench.json").read_text())["rows"]}
    assert rows["native"]["error"]
    assert rows["converted"]["error"] is None
    assert rows["converted"]["speedup"] is None


def test_mistakes_are_told_before_anything_is_measured(source: pathlib.Path, converted: pathlib.Path) -> None:
    code, _, told = run_bench(source)
    assert (code, "BH502" in told) == (2, True)
    code, _, told = run_bench(converted, "--against", source / "nowhere")
    assert (code, "BH201" in told) == (2, True)
    code, _, told = run_bench(converted, "--shapes", "y=1x3")
    assert (code, "BH122" in told) == (2, True)


def find_children() -> list[psutil.Process]:
    """The processes of ways that are children of this one."""
    found = psutil.Process().children(recursive=True)
    return [child for child in found if "beforehand.benchmark.child" in child.cmdline()]


def test_a_process_that_is_killed_or_does_not_answer_is_told_and_none_is_left(
    converted: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    job = Job("standalone", str(converted), str(converted), "serving_default", None, None)
    process = WayProcess(job, tmp_path, 120.0)
    assert process.error == ""
    assert process.ask({"warm": 0})["answered_by"] == "engines"
    assert "KeyError" in process.ask({"time": 7, "callers": 1, "calls": 1})["error"]
    assert len(process.ask({"time": 0, "callers": 3, "calls": 2})["ms"]) == 6  # a mistake is no end
    [child] = find_children()
    child.kill()
    assert "its process ended, exit code -9" in process.ask({"time": 0, "callers": 1, "calls": 1})["error"]
    assert "its process ended, exit code -9" in process.ask({"warm": 0})["error"]
    (second := tmp_path / "second").mkdir()
    assert WayProcess(job, second, 1e-3).error.startswith(("it did not start", "it did not answer within 0.001 s"))
    assert not find_children()
