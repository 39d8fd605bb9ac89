"""The cache's size and state: what was not used for longest goes first, what is in use stays, damage is found."""

from __future__ import annotations

import json
import os
import pathlib
import time
from typing import Any

import pytest

from beforehand.cli.main import main
from beforehand.errors import CacheError, OptionValueError
from beforehand.records import Engine, EngineSpec, ShapeSet
from beforehand.store import cache_content
from beforehand.store.cache_content import check_entry, clear, find_entry, list_engines, prune
from beforehand.store.cache_folder import CacheFolder
from beforehand.store.hashing import hash_file
from beforehand.store.parse_size import parse_bytes, parse_seconds

SHAPES = ShapeSet(("x",), ((1, 4),))
SIZE = 1000


def make_spec(key: str) -> EngineSpec:
    return EngineSpec("TRTEngineOp_000_000", 0, "", ("i",), ("o",), SHAPES, "openvino", "1", "FP32", "cpu", (), key)


def add(cache: CacheFolder, key: str, used: float = 0.0) -> Engine:
    spec = make_spec(key)
    with cache.lock(key), cache.make_scratch(key) as scratch:
        built = scratch / "built"
        built.write_bytes(os.urandom(SIZE))
        facts = {name: getattr(spec, name) for name in Engine.__dataclass_fields__ if hasattr(spec, name)}
        engine = Engine(**facts, file="built", bytes=SIZE, sha256=hash_file(built), build_seconds=1.5)
        kept = cache.add_engine(engine, spec, built)
    if used:
        os.utime(cache.engines / f"{key}.json", (used, used))
    return kept


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> CacheFolder:
    """Three engines, `a` used last."""
    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BEFOREHAND_CACHE_SIZE", raising=False)
    folder = CacheFolder()
    now = time.time()
    for number, key in enumerate("abc"):
        add(folder, key, now - 3600 * number - 60)
    return folder


def list_keys(cache: CacheFolder) -> str:
    return "".join(entry.key for entry in list_engines(cache))


def test_the_one_used_last_comes_first_and_a_hit_is_a_use(cache: CacheFolder) -> None:
    assert list_keys(cache) == "abc"
    assert cache.find_engine(make_spec("c")) is not None
    assert list_keys(cache) == "cab"


def test_a_new_engine_pushes_out_those_not_used_for_longest(
    cache: CacheFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEFOREHAND_CACHE_SIZE", str(2 * SIZE + 10))
    add(CacheFolder(), "d")
    assert list_keys(cache) == "da"
    assert {path.suffix for path in cache.engines.iterdir()} == {".json", ".openvino"}
    assert len(list(cache.engines.iterdir())) == 4


def test_an_engine_larger_than_the_bound_is_kept_until_the_next(
    cache: CacheFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEFOREHAND_CACHE_SIZE", "10")
    add(CacheFolder(), "d")
    assert list_keys(cache) == "d"


def test_what_is_locked_stays(cache: CacheFolder) -> None:
    with cache.lock("c"):
        pruned = prune(cache, max_bytes=0)
    assert (pruned.keys, pruned.busy, pruned.bytes, pruned.left_bytes) == (("b", "a"), ("c",), 2 * SIZE, SIZE)
    assert list_keys(cache) == "c"


def test_prune_by_age_size_and_damage(cache: CacheFolder) -> None:
    assert prune(cache, older_than_s=2 * 3600).keys == ("c",)
    (cache.engines / "b.openvino").write_bytes(b"other")
    assert prune(cache, damaged=True).keys == ("b",)
    assert prune(cache, max_bytes=SIZE).keys == ()
    assert clear(cache).left_bytes == 0
    assert list_keys(cache) == ""


@pytest.mark.parametrize(
    ("damage", "state"),
    [
        (lambda file, record: file.write_bytes(b"other"), cache_content.ALTERED),
        (lambda file, record: file.unlink(), cache_content.MISSING),
        (lambda file, record: record.write_text("{"), cache_content.UNREADABLE),
        (lambda file, record: record.write_text("[]"), cache_content.UNREADABLE),
        (lambda file, record: record.unlink(), cache_content.NO_RECORD),
    ],
)
def test_damage_is_found_told_and_removed(
    damage: Any, state: str, cache: CacheFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(cache.engines / "b.openvino", cache.engines / "b.json")
    assert check_entry(find_entry(cache, "b")) == state
    assert main(["cache", "verify"]) == 1
    assert state in capsys.readouterr().out
    assert main(["cache", "verify", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"engines": 3, "damaged": {"b": state}}
    assert main(["cache", "prune", "--damaged"]) == 0
    assert main(["cache", "verify"]) == 0
    assert not list(cache.engines.glob("b.*"))


def test_list_and_show(cache: CacheFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "list"]) == 0
    told = capsys.readouterr().out
    assert "3 engines, 3.0 kB of at most 20.0 GB" in told
    assert "openvino 1" in told
    assert main(["cache", "list", "--json"]) == 0
    assert [item["key"] for item in json.loads(capsys.readouterr().out)["engines"]] == ["a", "b", "c"]
    assert main(["cache", "show", "b", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["key"], shown["bytes"], shown["build_seconds"]) == ("b", SIZE, 1.5)
    assert main(["cache", "show", "x"]) == 2
    assert "BH505" in capsys.readouterr().err


def test_prune_from_the_command_line(cache: CacheFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "prune"]) == 0
    assert "0 engines removed" in capsys.readouterr().out
    assert main(["cache", "prune", "--max-size", "2.1kB", "--older-than", "1d"]) == 0
    assert list_keys(cache) == "ab"
    assert main(["cache", "prune", "--all", "--damaged"]) == 2
    assert main(["cache", "prune", "--all"]) == 0
    assert "2 engines removed, 2.0 kB; 0 bytes left" in capsys.readouterr().out


def test_two_keys_that_begin_alike_are_not_guessed(cache: CacheFolder) -> None:
    add(cache, "ab")
    with pytest.raises(CacheError, match="2 engines"):
        find_entry(cache, "a")


def test_a_size_that_is_none_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEFOREHAND_CACHE_SIZE", "much")
    with pytest.raises(OptionValueError, match="BEFOREHAND_CACHE_SIZE is 'much'"):
        CacheFolder()


@pytest.mark.parametrize(("text", "count"), [("12", 12), ("1.5 kB", 1500), ("20GB", 20e9), ("8GiB", 8 << 30)])
def test_sizes(text: str, count: int) -> None:
    assert parse_bytes(text, "size") == count


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("20min", 1200), ("1.5 h", 5400), ("30d", 30 * 86400)])
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text, "time") == seconds


@pytest.mark.parametrize("text", ["", "GB", "-1", "1 parsec", "1e3"])
def test_what_is_no_size_or_time(text: str) -> None:
    for parse in (parse_bytes, parse_seconds):
        with pytest.raises(OptionValueError, match="BH102 it is"):
            parse(text, "it")


def test_sweep_takes_what_killed_builds_left_and_nothing_that_is_built(cache: CacheFolder) -> None:
    building = cache.folder / "building"
    for key in ("dead", "alive"):
        (building / key).mkdir(parents=True)
        (building / key / "half").write_bytes(b"half an engine")
    with cache.lock("alive"):
        cache.sweep()
    assert [path.name for path in building.iterdir()] == ["alive"]


def rename_in_record(cache: CacheFolder, entry: str, **changed: str) -> None:
    record = cache.engines / f"{entry}.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), **changed}))


def test_a_record_that_names_another_engines_file_costs_that_one_nothing(cache: CacheFolder) -> None:
    """Once `prune` removed what the record named, under the lock of the record's key alone."""
    rename_in_record(cache, "b", file="a.openvino")
    assert check_entry(find_entry(cache, "b")) == cache_content.UNREADABLE
    with cache.lock("a"):
        assert prune(cache, damaged=True).keys == ("b",)
    assert list_keys(cache) == "ac"
    assert cache.find_engine(make_spec("a")) is not None
    assert not list(cache.engines.glob("b.*"))


def test_what_is_never_used_is_never_whole(cache: CacheFolder) -> None:
    rename_in_record(cache, "b", key="another")
    assert cache.find_engine(make_spec("b")) is None
    assert check_entry(find_entry(cache, "b")) == cache_content.UNREADABLE


def test_an_engine_used_since_it_was_listed_stays(cache: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = list_engines(cache)
    assert cache.find_engine(make_spec("c")) is not None
    monkeypatch.setattr(cache_content, "list_engines", lambda cache: listed)
    assert prune(cache, older_than_s=3600).keys == ("b",)
    assert cache.find_engine(make_spec("c")) is not None


def test_an_engine_that_goes_while_it_is_looked_at_is_missing(
    cache: CacheFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_first(file: pathlib.Path) -> str:
        file.unlink()
        return hash_file(file)

    monkeypatch.setattr(cache_content, "hash_file", remove_first)
    assert check_entry(find_entry(cache, "b")) == cache_content.MISSING


def test_a_folder_that_cannot_be_used_is_no_bug_of_ours(cache: CacheFolder, capsys: pytest.CaptureFixture[str]) -> None:
    for lock in (cache.folder / "locks").iterdir():
        lock.unlink()
    (cache.folder / "locks").rmdir()
    (cache.folder / "locks").write_text("a file, where a folder should be")
    assert main(["cache", "prune", "--all"]) == 2
    assert "BH505 the cache cannot be used" in capsys.readouterr().err


def test_an_engine_that_is_kept_is_not_lost_where_nothing_can_be_pruned(
    cache: CacheFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from beforehand.store import cache_folder

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no")

    monkeypatch.setattr(cache_folder, "prune", fail)
    add(cache, "d")
    assert cache.find_engine(make_spec("d")) is not None


def test_sweep_leaves_what_a_long_build_writes(cache: CacheFolder) -> None:
    old = time.time() - 10 * 3600
    building = cache.folder / "building" / "alive"
    building.mkdir(parents=True)
    for aside in (building / ".engine.1234.tmp", cache.engines / ".note.1234.tmp"):
        aside.write_bytes(b"half")
        os.utime(aside, (old, old))
    with cache.lock("alive"):
        cache.sweep()
    assert (building / ".engine.1234.tmp").exists()
    assert not (cache.engines / ".note.1234.tmp").exists()


def test_prune_as_json(cache: CacheFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "prune", "--max-size", "2.1kB", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"keys": ["c"], "bytes": SIZE, "left_bytes": 2 * SIZE, "busy": []}
