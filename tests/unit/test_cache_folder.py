"""The cache folder of engines built at run time: by key, private, whole or not at all."""

from __future__ import annotations

import dataclasses
import pathlib
import threading
import time

import pytest

from beforehand.records import Engine, EngineSpec, ShapeSet
from beforehand.store import cache_folder
from beforehand.store.cache_folder import RETRY_S, CacheFolder, find_cache_folder
from beforehand.store.hashing import hash_file

SHAPES = ShapeSet(("x",), ((1, 4),), ((8, 4),), one_batch=True)
SPEC = EngineSpec("TRTEngineOp_000_000", 0, "", ("i",), ("o",), SHAPES, "openvino", "1", "FP32", "cpu", (), "key")


@pytest.fixture
def cache(tmp_path: pathlib.Path) -> CacheFolder:
    return CacheFolder(tmp_path / "a" / "cache")


def add(cache: CacheFolder, spec: EngineSpec = SPEC, content: bytes = b"engine") -> Engine:
    with cache.make_scratch(spec.key) as scratch:
        built = scratch / "built"
        built.write_bytes(content)
        facts = {name: getattr(spec, name) for name in Engine.__dataclass_fields__ if hasattr(spec, name)}
        engine = Engine(**facts, file="built", bytes=len(content), sha256=hash_file(built), build_seconds=1.5)
        return cache.add_engine(engine, spec, built)


def test_an_engine_comes_back_with_its_record(cache: CacheFolder) -> None:
    assert cache.find_engine(SPEC) is None
    assert not cache.folder.exists()
    kept = add(cache)
    assert cache.find_engine(SPEC) == kept
    assert (cache.engines / kept.file).read_bytes() == b"engine"
    assert cache.find_engine(dataclasses.replace(SPEC, key="other")) is None


def test_another_model_finds_it_under_its_own_names(cache: CacheFolder) -> None:
    add(cache)
    shapes = dataclasses.replace(SHAPES, names=("images",))
    found = cache.find_engine(dataclasses.replace(SPEC, segment="TRTEngineOp_000_007", segment_index=7, shapes=shapes))
    assert found is not None
    assert (found.segment, found.segment_index, found.shapes) == ("TRTEngineOp_000_007", 7, shapes)


@pytest.mark.parametrize("damage", ["altered", "truncated", "missing", "no JSON", "other key", "no record", "a list"])
def test_a_damaged_entry_is_absent_and_can_be_replaced(damage: str, cache: CacheFolder) -> None:
    kept = add(cache)
    engine, record = cache.engines / kept.file, cache.engines / "key.json"
    content = {"altered": b"Engine", "truncated": b"engin"}
    texts = {"no JSON": "{", "other key": record.read_text().replace('"key"', '"yek"'), "a list": "[]"}
    if damage in content:
        engine.write_bytes(content[damage])
    elif damage in texts:
        record.write_text(texts[damage])
    else:
        (engine if damage == "missing" else record).unlink()
    assert cache.find_engine(SPEC) is None
    add(cache)
    assert cache.find_engine(SPEC) == kept


def test_all_folders_are_private(cache: CacheFolder) -> None:
    add(cache)
    cache.add_failure("k", "r")
    with cache.lock("key"):
        pass
    folders = [cache.folder, *(path for path in cache.folder.iterdir())]
    assert {path.name for path in folders[1:]} == {"building", "engines", "failures", "locks"}
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


def test_a_failure_is_remembered_for_a_time_and_ends_with_success(
    cache: CacheFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.find_failure("key") is None
    cache.add_failure("key", "no memory")
    assert (cache.find_failure("key"), cache.find_failure("other")) == ("no memory", None)
    now = time.time()
    monkeypatch.setattr(cache_folder.time, "time", lambda: now + RETRY_S + 1)
    assert cache.find_failure("key") is None
    monkeypatch.undo()
    add(cache)
    assert cache.find_failure("key") is None


@pytest.mark.parametrize("text", ["", "[]", '{"reason": "r"}', '{"reason": "r", "time": 9e12}'])
def test_a_damaged_failure_or_one_of_the_future_holds_nobody_up(text: str, cache: CacheFolder) -> None:
    cache.add_failure("key", "r")
    (cache.folder / "failures" / "key.json").write_text(text)
    assert cache.find_failure("key") is None


def test_a_scratch_folder_is_empty_and_goes(cache: CacheFolder) -> None:
    left = cache.folder / "building" / "key"
    left.mkdir(parents=True)
    (left / "left by a process that was killed").write_text("")
    with cache.make_scratch("key") as scratch:
        assert list(scratch.iterdir()) == []
        (scratch / "file").write_text("")
    assert not left.exists()


def test_one_at_a_time_is_at_work_on_a_key(cache: CacheFolder) -> None:
    inside, most = 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with cache.lock("key"):
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            with guard:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    with cache.lock("another"):  # is nobody's concern
        pass
    for thread in threads:
        thread.join()
    assert most == 1


def test_the_environment_says_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("BEFOREHAND_CACHE", "~/engines")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_cache_folder() == tmp_path / "engines"
    monkeypatch.delenv("BEFOREHAND_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert find_cache_folder().name == "beforehand"
