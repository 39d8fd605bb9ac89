"""Engines for another machine or version: never run, said in one line, and the policy followed; several targets in one model."""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import shutil
import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from make_targets import (
    BATCHES,
    HERE,
    KEY,
    LOWER,
    OTHER,
    check_answers,
    convert,
    copy_edited,
    draw,
    edit_manifest,
    make_source,
    needs_lower,
    run_in_child,
    set_engines,
)

import beforehand
from beforehand.backends.describe_cpu import find_limit
from beforehand.backends.registry import find_backend
from beforehand.errors import EngineMismatchError, OptionValueError
from beforehand.store import layout
from beforehand.store.manifest import read_manifest

VERSION = find_backend("openvino").find_version()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_source(tmp_path_factory.mktemp("targets") / "source")


@pytest.fixture(scope="module")
def built(source: pathlib.Path) -> pathlib.Path:
    folder = source.with_name("built")
    convert(source, folder)
    return folder


@pytest.fixture(scope="module")
def built_lower(source: pathlib.Path) -> pathlib.Path:
    folder = source.with_name("lower")
    convert(source, folder, target=LOWER)
    return folder


def test_where_all_fits_nothing_is_said(
    source: pathlib.Path, built: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "beforehand"):
        assert check_answers(source, tf.saved_model.load(str(built))) == {"engine_calls": 2, "native_calls": 0}
    assert not caplog.records
    engines = read_manifest(layout.find_manifest(built)).engines
    assert {(engine.backend_version, engine.target) for engine in engines} == {(VERSION, HERE)}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"target": OTHER}, f"[openvino {VERSION}, cpu-x86_64+other]"),
        ({"target": "cpu-x86_64"}, f"[openvino {VERSION}, cpu-x86_64]"),  # as it was before there were levels
        ({"backend_version": "2026.4.99"}, f"[openvino 2026.4.99, {HERE}]"),
        ({"backend": "tensorrt", "backend_version": "11", "target": "gpu-sm90"}, "[tensorrt 11, gpu-sm90]"),
    ],
)
def test_another_fingerprint_is_one_line_with_both_and_right_answers(
    source: pathlib.Path,
    built: pathlib.Path,
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    fields: dict[str, str],
    told: str,
) -> None:
    folder = copy_edited(built, tmp_path / "copy", set_engines(**fields))
    with caplog.at_level(logging.WARNING, "beforehand"):
        loaded = tf.saved_model.load(str(folder))
        assert check_answers(source, loaded, (*BATCHES, *BATCHES)) == {"engine_calls": 0, "native_calls": 4}
    [record] = caplog.records
    assert record.getMessage().startswith("BH605 2 of 2 engines of ")
    assert f"they were built for {told}, this machine is [" in record.getMessage()
    if fields.get("backend", "openvino") == "openvino":
        assert f"this machine is [openvino {VERSION}, {HERE}]" in record.getMessage()
    assert beforehand.stats(loaded)["unseen_shapes"] == []


def test_error_is_raised_by_tensorflows_own_load(built: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["policies"]["on_mismatch"] = "error"
        set_engines(backend_version="1")(data)

    folder = copy_edited(built, tmp_path / "copy", edit)
    with pytest.raises(EngineMismatchError, match=rf"BH605 2 of 2 engines of .*openvino 1, .*openvino {VERSION}, "):
        tf.saved_model.load(str(folder))
    assert isinstance(beforehand.last_error(), EngineMismatchError)


def test_the_policy_of_the_conversion_is_kept_and_the_environment_changes_it(
    source: pathlib.Path, built: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_edited(built, tmp_path / "copy", set_engines(target=OTHER))
    monkeypatch.setenv("BEFOREHAND_ON_MISMATCH", "error")
    with pytest.raises(EngineMismatchError):
        tf.saved_model.load(str(folder))
    monkeypatch.setenv("BEFOREHAND_ON_MISMATCH", "native")
    edit_manifest(folder, lambda data: data["policies"].update(on_mismatch="error"))
    assert check_answers(source, tf.saved_model.load(str(folder)))["native_calls"] == 2


def wait_for_builds(loaded: Any, count: int) -> None:
    end = time.monotonic() + 120
    while beforehand.stats(loaded)["builds"] < count:
        assert time.monotonic() < end, beforehand.stats(loaded)
        time.sleep(0.1)


def test_rebuild_builds_into_the_users_cache_and_the_next_load_finds_it(
    source: pathlib.Path,
    built: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["policies"]["on_mismatch"] = "rebuild"
        set_engines(target=OTHER)(data)

    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "cache"))
    folder = copy_edited(built, tmp_path / "copy", edit)
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    with caplog.at_level(logging.WARNING, "beforehand"):
        loaded = tf.saved_model.load(str(folder))
    [line] = [record.getMessage() for record in caplog.records if "BH605" in record.getMessage()]
    assert line.endswith("They are built in the background; until then such calls run natively, in TensorFlow.")
    check_answers(source, loaded)
    wait_for_builds(loaded, 2)
    calls = beforehand.stats(loaded)["signatures"][KEY]["engine_calls"]
    assert check_answers(source, loaded)["engine_calls"] == calls + 2
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
    # Nothing is built a second time, nor may it be.
    monkeypatch.setenv("BEFOREHAND_FORBID_BUILD", "1")
    again = tf.saved_model.load(str(folder))
    end = time.monotonic() + 60
    while len(beforehand.stats(again)["engines"]) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert check_answers(source, again)["engine_calls"] == 2
    assert beforehand.stats(again)["builds"] == 0


def test_rebuild_of_a_damaged_engine_serves_again(
    source: pathlib.Path, built: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "cache"))
    folder = copy_edited(built, tmp_path / "copy", lambda data: data["policies"].update(on_mismatch="rebuild"))
    alter(folder / layout.ASSETS / read_manifest(layout.find_manifest(folder)).engines[0].file)
    loaded = tf.saved_model.load(str(folder))
    check_answers(source, loaded, BATCHES[:1])
    wait_for_builds(loaded, 1)
    calls = beforehand.stats(loaded)["signatures"][KEY]["engine_calls"]
    assert check_answers(source, loaded)["engine_calls"] == calls + 2


def test_where_beforehand_is_off_no_fingerprint_matters(
    source: pathlib.Path,
    built: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = copy_edited(built, tmp_path / "copy", set_engines(target=OTHER))
    monkeypatch.setenv("BEFOREHAND_DISABLE", "1")
    monkeypatch.setenv("BEFOREHAND_ON_MISMATCH", "error")
    with caplog.at_level(logging.WARNING, "beforehand"):
        assert check_answers(source, tf.saved_model.load(str(folder)))["engine_calls"] == 0
    assert not caplog.records


def add_engines_of(other: pathlib.Path, data: dict[str, Any], folder: pathlib.Path) -> None:
    import json

    for engine in json.loads(layout.find_manifest(other).read_text())["engines"]:
        data["engines"].append(engine)
        shutil.copy(other / layout.ASSETS / engine["file"], folder / layout.ASSETS)


@needs_lower
def test_each_machine_takes_its_own_engines_of_one_model(
    source: pathlib.Path, built: pathlib.Path, built_lower: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """The other machine is this one with OpenVINO's own limit set: OpenVINO itself refuses engines for more."""
    folder = tmp_path / "both"
    shutil.copytree(built, folder)
    edit_manifest(folder, lambda data: add_engines_of(built_lower, data, folder))
    assert len(read_manifest(layout.find_manifest(folder)).engines) == 4
    inputs = [draw(batch) for batch in BATCHES]
    plain = tf.saved_model.load(str(source)).signatures[KEY]
    for limit in ("", find_limit(LOWER, HERE)):
        found = run_in_child(folder, inputs, {**os.environ, "ONEDNN_MAX_CPU_ISA": limit})
        assert found["calls"] == {"engine_calls": 2, "native_calls": 0}
        assert found["lines"] == []
        for x, answer in zip(inputs, found["answers"], strict=True):
            np.testing.assert_allclose(answer, plain(x=x)["y"], rtol=1e-3, atol=1e-4)


@needs_lower
def test_engines_of_a_better_or_a_lesser_machine_are_left_alone(
    built: pathlib.Path, built_lower: pathlib.Path, source: pathlib.Path
) -> None:
    plain = tf.saved_model.load(str(source)).signatures[KEY]
    x = draw(BATCHES[0])
    limit = find_limit(LOWER, HERE)
    for folder, value, made_for, here in ((built, limit, HERE, LOWER), (built_lower, "", LOWER, HERE)):
        found = run_in_child(folder, [x], {**os.environ, "ONEDNN_MAX_CPU_ISA": value})
        [line] = found["lines"]
        assert f"built for [openvino {VERSION}, {made_for}], this machine is [openvino {VERSION}, {here}]" in line
        assert found["calls"] == {"engine_calls": 0, "native_calls": 1}
        np.testing.assert_allclose(found["answers"][0], plain(x=x)["y"], rtol=1e-3, atol=1e-4)


@needs_lower
def test_a_manifest_that_lies_about_the_target_gives_no_wrong_answer(
    source: pathlib.Path, built_lower: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenVINO from 2026.4 on refuses the engine itself; where it does not, the engine is right all the same."""
    folder = copy_edited(built_lower, tmp_path / "copy", set_engines(target=HERE))
    with caplog.at_level(logging.WARNING, "beforehand"):
        counts = check_answers(source, tf.saved_model.load(str(folder)))
    assert counts["engine_calls"] == 2 or "isa mismatch" in caplog.text


@needs_lower
def test_the_process_that_converts_for_another_machine_does_not_run_its_engines(source: pathlib.Path) -> None:
    converter = beforehand.Converter(source, target=LOWER)
    functions = converter.convert()
    [engine] = converter.build(shapes={"x": (3, 6)})
    assert engine.target == LOWER
    x = tf.constant(draw(3))
    plain = tf.saved_model.load(str(source)).signatures[KEY]
    np.testing.assert_allclose(functions[KEY](x=x)["y"], plain(x=x)["y"], rtol=1e-3, atol=1e-4)
    assert beforehand.stats(functions[KEY])["engines"] == []


def test_a_target_that_cannot_be_built_here_is_refused_before_anything_is_read() -> None:
    with pytest.raises(OptionValueError, match=r"^BH102 target is 'cpu-sparc', and this CPU is cpu-.*Try: one of cpu-"):
        beforehand.Converter("there is no such folder", target="cpu-sparc")


def test_saved_again_by_tensorflow_the_engines_of_other_machines_go_along(
    source: pathlib.Path, built: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["engines"][0]["target"] = OTHER

    loaded = tf.saved_model.load(str(copy_edited(built, tmp_path / "copy", edit)))
    tf.saved_model.save(loaded, str(tmp_path / "again"), signatures=dict(loaded.signatures))
    manifest = read_manifest(layout.find_manifest(tmp_path / "again"))
    for engine in manifest.engines:
        file = layout.find_engine_file(tmp_path / "again" / layout.ASSETS, engine.file)
        assert file.stat().st_size == engine.bytes
    again = tf.saved_model.load(str(tmp_path / "again"))
    assert check_answers(source, again) == {"engine_calls": 1, "native_calls": 1}


# Engine files that are not what they were.


def alter(file: pathlib.Path) -> None:
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)


def truncate(file: pathlib.Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def remove(file: pathlib.Path) -> None:
    file.unlink()


@dataclasses.dataclass
class Builds:
    asked: list[tuple[int, Any]] = dataclasses.field(default_factory=list)

    def request(self, segment: int, shapes: Any) -> None:
        self.asked.append((segment, shapes))


def find_runtime(loaded: Any) -> Any:
    from beforehand.runtime import models, tensorflow_private

    [key] = tensorflow_private.find_keys(loaded)
    return models.find_model(key)


@pytest.mark.parametrize(("damage", "word"), [(alter, "altered"), (truncate, "altered"), (remove, "missing")])
@pytest.mark.parametrize("policy", ["native", "error", "rebuild"])
def test_a_damaged_engine_follows_the_policy_and_the_others_serve(
    source: pathlib.Path, built: pathlib.Path, tmp_path: pathlib.Path, damage: Any, word: str, policy: str
) -> None:
    folder = copy_edited(built, tmp_path / "copy", lambda data: data["policies"].update(on_mismatch=policy))
    damaged, _ = read_manifest(layout.find_manifest(folder)).engines
    damage(folder / layout.ASSETS / damaged.file)
    loaded = tf.saved_model.load(str(folder))
    runtime = find_runtime(loaded)
    builds = Builds()
    runtime.builds = builds
    x = tf.constant(draw(BATCHES[0]))
    if policy == "error":
        for _ in range(2):
            with pytest.raises(Exception, match=rf"BH503.*{word}"):
                loaded.signatures[KEY](x=x)
        assert type(beforehand.last_error()).__name__ == "IntegrityError"
    else:
        assert check_answers(source, loaded, BATCHES[:1] * 2) == {"engine_calls": 0, "native_calls": 2}
    assert set(builds.asked) == ({(0, damaged.shapes)} if policy == "rebuild" else set())
    assert check_answers(source, loaded, BATCHES[1:])["engine_calls"] == 1


def test_a_manifest_of_a_later_version_is_refused_by_name(
    source: pathlib.Path, built: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copy_edited(built, tmp_path / "copy", lambda data: data.update(format_version=99))
    with caplog.at_level(logging.WARNING, "beforehand"):
        loaded = tf.saved_model.load(str(folder))
    [record] = caplog.records
    assert record.getMessage().startswith(
        f"BH502 the manifest {folder.resolve()}/assets/beforehand.json has format_version 99."
    )
    assert "this beforehand reads 1 to 1" in record.getMessage()
    assert "Try: the version of beforehand that wrote it" in record.getMessage()
    x = tf.constant(draw(2))
    plain = tf.saved_model.load(str(source)).signatures[KEY]
    np.testing.assert_allclose(loaded.signatures[KEY](x=x)["y"], plain(x=x)["y"], rtol=1e-3, atol=1e-4)
