"""Engines built at run time, in fresh processes: answered natively at once, swapped in, found by the next process."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from life_cycle import HERE, run_python

import beforehand

SCRIPT = HERE / "call_until_built.py"
BUILDING = "building an engine at run time"


class Dense(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng()
        self.a = tf.Variable(rng.normal(size=(256, 256)).astype(np.float32) / 16)
        self.b = tf.Variable(rng.normal(size=(256, 10)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 256], tf.float32, "x")])
    def predict(self, x: Any) -> dict[str, Any]:
        return {"y": tf.nn.softmax(tf.nn.relu(x @ self.a) @ self.b)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("source") / "model"
    model = Dense()
    tf.saved_model.save(model, str(folder), signatures=model.predict)
    return folder


def convert(source: pathlib.Path, target: pathlib.Path, *, build: bool = True, **options: Any) -> pathlib.Path:
    converter = beforehand.Converter(source, **{"on_unseen_shape": "build", **options})
    converter.convert()
    if build:
        converter.build(shapes={"x": (2, 256)})
    converter.save(target)
    return target


@pytest.fixture(scope="module")
def converted(source: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return convert(source, tmp_path_factory.mktemp("converted") / "model")


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    if (tmp_path / "cache").exists():
        assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
        assert list((tmp_path / "cache").rglob("*.tmp")) == []


def make_job(source: pathlib.Path, converted: pathlib.Path, **job: Any) -> str:
    defaults = {"batch": 3, "wait_s": 60, "until": "engine", "source": str(source), "converted": str(converted)}
    return json.dumps({**defaults, **job})


def call(
    source: pathlib.Path, converted: pathlib.Path, job: dict[str, Any] | None = None, **env: str
) -> dict[str, Any]:
    process = run_python(SCRIPT, make_job(source, converted, **(job or {})), **env)
    assert process.returncode == 0, process.stderr[-4000:]
    result: dict[str, Any] = json.loads(process.stdout.strip().splitlines()[-1])
    assert result["error"] < 1e-4
    return result


def count_builds(*results: dict[str, Any]) -> int:
    return sum(text.startswith(BUILDING) for result in results for text in result["told"])


def list_state(folder: pathlib.Path) -> dict[str, Any]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_ctime_ns, path.is_dir() or hash_of(path))
        for path in (folder, *folder.rglob("*"))
    }


def hash_of(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_answers_natively_then_by_the_engine_and_the_next_process_finds_that(
    source: pathlib.Path, converted: pathlib.Path, cache: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = pathlib.Path(shutil.copytree(converted, tmp_path / "read_only"))
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = list_state(folder)
    first, second = call(source, folder), call(source, folder)
    assert list_state(folder) == before
    for result in (first, second):
        assert result["first"] == {"engine_calls": 0, "native_calls": 1}
        assert result["stats"]["signatures"]["serving_default"]["engine_calls"] > 2
        assert result["stats"]["failed_builds"] == []
    assert (first["stats"]["builds"], second["stats"]["builds"]) == (1, 0)
    assert (count_builds(first), count_builds(second)) == (1, 0)
    [done] = [text for text in first["told"] if text.startswith("built an engine")]
    assert "TRTEngineOp_000_000 for x=3x256" in done
    assert str(cache) in done
    assert [file.suffix for file in sorted((cache / "engines").iterdir())] == [".json", ".openvino"]
    assert list((cache / "building").iterdir()) == []


def test_two_processes_at_once_build_a_key_once(
    source: pathlib.Path, converted: pathlib.Path, cache: pathlib.Path
) -> None:
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: call(source, converted), range(2)))
    assert sum(result["stats"]["builds"] for result in results) == 1
    assert count_builds(*results) == 1
    assert all(result["stats"]["signatures"]["serving_default"]["engine_calls"] > 2 for result in results)
    assert len(list((cache / "engines").glob("*.openvino"))) == 1


def test_an_altered_engine_in_the_cache_is_built_again(
    source: pathlib.Path, converted: pathlib.Path, cache: pathlib.Path
) -> None:
    call(source, converted)
    [engine] = (cache / "engines").glob("*.openvino")
    content = bytearray(engine.read_bytes())
    content[len(content) // 2] ^= 1
    engine.write_bytes(content)
    assert call(source, converted)["stats"]["builds"] == 1


def test_a_failed_build_is_remembered_and_not_tried_again_at_once(
    source: pathlib.Path, cache: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = convert(source, tmp_path / "converted", build=False, timeout_s=0.01)
    first = call(source, folder, {"until": "failure", "more_calls": 50, "settle_s": 1})
    second = call(source, folder, {"until": "failure", "more_calls": 50, "settle_s": 1})
    assert (count_builds(first), count_builds(second)) == (1, 0)
    for result in (first, second):
        [failure] = result["stats"]["failed_builds"]
        assert (failure["segment"], failure["shapes"]) == ("TRTEngineOp_000_000", {"x": [3, 256]})
        assert "BH401" in failure["reason"]
        assert "longer than 0.01 s" in failure["reason"]
        assert result["stats"]["signatures"]["serving_default"]["engine_calls"] == 0
        assert len([text for text in result["told"] if "longer than 0.01 s" in text]) == 1
    [record] = (cache / "failures").iterdir()
    record.write_text(json.dumps({**json.loads(record.read_text()), "time": time.time() - 3601}))
    assert count_builds(call(source, folder, {"until": "failure"})) == 1
    assert not (cache / "engines").exists()


def test_where_builds_are_forbidden_one_line_says_so_and_what_was_built_is_used(
    source: pathlib.Path, converted: pathlib.Path, cache: pathlib.Path
) -> None:
    refused = call(source, converted, {"until": "calls"}, BEFOREHAND_FORBID_BUILD="1")
    assert len([text for text in refused["told"] if "BEFOREHAND_FORBID_BUILD is set" in text]) == 1
    assert refused["stats"]["signatures"]["serving_default"]["engine_calls"] == 0
    assert not cache.exists()
    call(source, converted)
    allowed = call(source, converted, BEFOREHAND_FORBID_BUILD="1")
    assert allowed["stats"]["signatures"]["serving_default"]["engine_calls"] > 2
    assert allowed["stats"]["builds"] == 0


def test_a_cache_that_cannot_be_written_leaves_the_model_native_and_is_told(
    source: pathlib.Path, converted: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "file" / "cache"))
    result = call(source, converted, {"until": "failure", "more_calls": 20})
    assert (
        len([text for text in result["told"] if "no engine of TRTEngineOp_000_000 for x=3x256 can be built" in text])
        == 1
    )


def test_the_end_of_the_process_is_not_held_up_and_leaves_nothing_behind(
    source: pathlib.Path, converted: pathlib.Path, cache: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    mark = tmp_path / "mark"
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "if 'beforehand.build_engines.child' in sys.orig_argv:\n"
        f"    open({str(mark)!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(300)\n"
    )
    start = time.monotonic()
    path = os.pathsep.join([str(slow), *(entry for entry in sys.path if entry and pathlib.Path(entry) != HERE)])
    environ = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    job = make_job(source, converted, until="building", mark=str(mark))
    process = subprocess.run([sys.executable, SCRIPT, job], env=environ, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-4000:]
    assert mark.is_file()
    assert time.monotonic() - start < 100
    time.sleep(0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)
    assert not (cache / "engines").exists()
    assert not (cache / "failures").exists()
    assert list((cache / "building").iterdir()) == []


def test_an_altered_engine_of_the_model_is_built_anew_where_the_policy_says_so(
    source: pathlib.Path, converted: pathlib.Path, cache: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = pathlib.Path(shutil.copytree(converted, tmp_path / "altered"))
    [engine] = (folder / "assets").glob("*.openvino")
    engine.write_bytes(engine.read_bytes()[:-1])
    before = list_state(folder)
    result = call(source, folder, {"batch": 2}, BEFOREHAND_ON_MISMATCH="rebuild")
    assert result["first"] == {"engine_calls": 0, "native_calls": 1}
    assert result["stats"]["builds"] == 1
    assert list_state(folder) == before
    assert len(list((cache / "engines").glob("*.openvino"))) == 1


def test_one_that_tensorflow_saved_again_within_another_answers_right_whether_or_not_it_can_be_built(
    source: pathlib.Path, converted: pathlib.Path, cache: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    outer = tf.Module()
    outer.aaa = tf.Variable(np.ones(1000, np.float32))
    outer.inner = tf.saved_model.load(str(converted))
    folder = tmp_path / "again"
    tf.saved_model.save(outer, str(folder), signatures=outer.inner.signatures["serving_default"])
    result = call(source, folder, {"until": "failure", "wait_s": 40})
    [failure] = result["stats"]["failed_builds"]
    assert "BH503" in failure["reason"]
    assert "TensorFlow alone saved it again" in failure["reason"]


def test_the_drop_in_does_the_same_in_static_mode(
    source: pathlib.Path, cache: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    from beforehand.trt_convert import TrtGraphConverterV2

    def samples() -> Iterator[Any]:
        yield [np.zeros((2, 256), np.float32)]

    for allowed in (True, False):
        converter = TrtGraphConverterV2(str(source), allow_build_at_runtime=allowed)
        converter.convert()
        converter.build(samples)
        folder = tmp_path / str(allowed)
        converter.save(str(folder))
        result = call(source, folder, {"until": "engine" if allowed else "calls", "batch": 5})
        assert (result["stats"]["signatures"]["serving_default"]["engine_calls"] > 2) == allowed
        assert result["stats"]["builds"] == allowed
        served = [engine["max_shapes"] for engine in result["stats"]["engines"]]
        assert ({"x": [5, 256]} in served) == allowed, "built at run time too, an engine serves every smaller batch"
