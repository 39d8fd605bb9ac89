"""`add_target` and `slim`: engines come and go, the SavedModel stays whole for whoever reads it at whatever moment."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys
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
from beforehand.cli.collect_inspection import collect_inspection, is_whole
from beforehand.cli.main import main
from beforehand.errors import BuildError, IntegrityError, ManifestError, NoSourcesError, OptionValueError
from beforehand.records import Engine
from beforehand.store import layout
from beforehand.store.manifest import read_manifest


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_source(tmp_path_factory.mktemp("add_target") / "source")


@pytest.fixture(scope="module")
def built(source: pathlib.Path) -> pathlib.Path:
    folder = source.with_name("built")
    convert(source, folder)
    return folder


def make_foreign(data: dict[str, Any]) -> None:
    """As if another machine had built the engines: another target, other keys and files."""
    for number, engine in enumerate(data["engines"]):
        engine.update(target=OTHER, key=f"{number}" * 64)


@pytest.fixture
def foreign(built: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    folder = copy_edited(built, tmp_path / "model", make_foreign)
    for engine in json.loads(layout.find_manifest(folder).read_text())["engines"]:
        new = engine["file"].replace(".openvino", "") + "f.openvino"
        (folder / layout.ASSETS / engine["file"]).rename(folder / layout.ASSETS / new)
        edit_manifest(folder, lambda data, old=engine["file"], new=new: rename(data, old, new))
    return folder


def rename(data: dict[str, Any], old: str, new: str) -> None:
    for engine in data["engines"]:
        if engine["file"] == old:
            engine["file"] = new


def list_engines(folder: pathlib.Path) -> tuple[Engine, ...]:
    return read_manifest(layout.find_manifest(folder)).engines


def hash_others(folder: pathlib.Path) -> dict[str, str]:
    """Hashes of all files but the manifest and the lock."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in (layout.MANIFEST, layout.LOCK)
    }


def test_the_engines_of_this_machine_are_added_and_run(
    source: pathlib.Path, built: pathlib.Path, foreign: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    before, old = hash_others(foreign), list_engines(foreign)
    added = beforehand.add_target(foreign)
    assert [(engine.target, engine.shapes.shapes) for engine in added] == [(HERE, ((batch, 6),)) for batch in BATCHES]
    assert list_engines(foreign) == (*old, *added)
    after = hash_others(foreign)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {f"assets/{engine.file}" for engine in added}
    # What is built of what was kept is what was built at the conversion: equal parts, equal key.
    assert [engine.key for engine in added] == [engine.key for engine in list_engines(built)]
    with caplog.at_level(logging.WARNING, "beforehand"):
        assert check_answers(source, tf.saved_model.load(str(foreign))) == {"engine_calls": 2, "native_calls": 0}
    assert not caplog.records


def test_repeated_it_builds_nothing_and_forbidden_builds_do_not_matter(
    foreign: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beforehand.add_target(foreign)
    text = layout.find_manifest(foreign).read_bytes()
    monkeypatch.setenv("BEFOREHAND_FORBID_BUILD", "1")
    assert beforehand.add_target(foreign) == ()
    assert layout.find_manifest(foreign).read_bytes() == text


def test_what_was_altered_or_is_missing_is_built_again_and_nothing_else(
    source: pathlib.Path, foreign: pathlib.Path
) -> None:
    first, second = beforehand.add_target(foreign)
    (foreign / layout.ASSETS / first.file).write_bytes(b"altered")
    assert [engine.shapes for engine in beforehand.add_target(foreign)] == [first.shapes]
    (foreign / layout.ASSETS / second.file).unlink()
    assert [engine.shapes for engine in beforehand.add_target(foreign)] == [second.shapes]
    assert len(list_engines(foreign)) == 4
    assert is_whole(collect_inspection(foreign))
    assert check_answers(source, tf.saved_model.load(str(foreign)))["engine_calls"] == 2


def test_a_newer_version_of_the_backend_gets_engines_of_its_own(
    source: pathlib.Path, built: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = copy_edited(built, tmp_path / "model", set_engines(backend_version="2020.1", key="0" * 64))
    added = beforehand.add_target(folder)
    # The files have one name: it is of the key, and here only the manifest's key was changed.
    assert [engine.backend_version for engine in list_engines(folder)] == [engine.backend_version for engine in added]
    assert check_answers(source, tf.saved_model.load(str(folder)))["engine_calls"] == 2


def test_ranges_are_added_as_ranges(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    converter = beforehand.Converter(source)
    converter.convert()
    converter.build(shapes={"x": ((1, 8), 6)})
    converter.save(tmp_path / "model")
    edit_manifest(tmp_path / "model", make_foreign)
    [added] = beforehand.add_target(tmp_path / "model")
    assert (added.shapes.shapes, added.shapes.max_shapes) == (((1, 6),), ((8, 6),))
    assert check_answers(source, tf.saved_model.load(str(tmp_path / "model")), (1, 4, 8))["engine_calls"] == 3


@needs_lower
def test_engines_for_a_lesser_machine_can_be_added_here(
    source: pathlib.Path, built: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(built, folder)
    assert {engine.target for engine in beforehand.add_target(folder, LOWER)} == {LOWER}
    assert beforehand.add_target(folder, LOWER) == ()
    assert beforehand.add_target(folder) == ()
    x = draw(BATCHES[0])
    plain = tf.saved_model.load(str(source)).signatures[KEY]
    for limit in ("", find_limit(LOWER, HERE)):
        found = run_in_child(folder, [x], {**os.environ, "ONEDNN_MAX_CPU_ISA": limit})
        assert found["calls"] == {"engine_calls": 1, "native_calls": 0}
        np.testing.assert_allclose(found["answers"][0], plain(x=x)["y"], rtol=1e-3, atol=1e-4)


def test_neither_tensorflow_nor_the_source_is_needed(foreign: pathlib.Path) -> None:
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'tf2onnx', 'onnx']));"
        "import beforehand; print(len(beforehand.add_target(sys.argv[1])), len(beforehand.slim(sys.argv[1]).files))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(foreign)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "2"], done.stderr


def test_a_loaded_model_goes_on_while_engines_are_added_and_taken_out(
    source: pathlib.Path, foreign: pathlib.Path
) -> None:
    before = tf.saved_model.load(str(foreign))
    check_answers(source, before)
    beforehand.add_target(foreign)
    assert check_answers(source, before)["engine_calls"] == 0
    after = tf.saved_model.load(str(foreign))
    check_answers(source, after, BATCHES[:1])
    beforehand.slim(foreign, [OTHER])
    # One engine is open and needs its file no more; that of the other finds it gone, and TensorFlow answers.
    assert check_answers(source, after) == {"engine_calls": 2, "native_calls": 1}


@pytest.mark.parametrize("number", range(1, 5))
def test_a_crash_at_any_write_leaves_a_whole_model_and_what_was_finished(
    source: pathlib.Path, foreign: pathlib.Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Two engines are four renames: file, manifest, file, manifest."""
    rename_file, calls = pathlib.Path.replace, 0

    def crash(self: pathlib.Path, target: Any) -> Any:
        nonlocal calls
        if foreign in self.parents:
            calls += 1
            if calls == number:
                raise KeyboardInterrupt
        return rename_file(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            beforehand.add_target(foreign)
    assert calls == number
    assert is_whole(collect_inspection(foreign))
    finished = (number - 1) // 2
    assert len(list_engines(foreign)) == 2 + finished
    assert not list(foreign.rglob("*.tmp"))
    assert len(beforehand.add_target(foreign)) == 2 - finished
    assert is_whole(collect_inspection(foreign))
    assert check_answers(source, tf.saved_model.load(str(foreign)))["engine_calls"] == 2


@needs_lower
def test_two_processes_that_add_at_once_lose_nothing(foreign: pathlib.Path) -> None:
    script = "import sys, beforehand; beforehand.add_target(*sys.argv[1:])"
    jobs = [
        subprocess.Popen([sys.executable, "-c", script, str(foreign), target], stderr=subprocess.PIPE)
        for target in (HERE, LOWER, HERE)
    ]
    for job in jobs:
        assert job.wait(120) == 0, job.communicate()[1]
    engines = list_engines(foreign)
    assert sorted(engine.target for engine in engines) == sorted([OTHER, LOWER, HERE] * 2)
    assert is_whole(collect_inspection(foreign))


def test_one_failed_build_does_not_stop_the_others(
    foreign: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    from beforehand.build_engines import build_all

    build = build_all.build_engine

    def fail(spec: Any, *args: Any, **kwargs: Any) -> Engine:
        if spec.shapes.shapes[0][0] == BATCHES[0]:
            raise BuildError("no", cause="failed")
        return build(spec, *args, **kwargs)

    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(build_all, "build_engine", fail)
    with pytest.raises(BuildError, match="BH401 no"):
        beforehand.add_target(foreign)
    assert [engine.shapes.shapes for engine in list_engines(foreign)[2:]] == [((BATCHES[1], 6),)]


def test_what_cannot_be_added_to_is_refused_with_the_reason(
    foreign: pathlib.Path, source: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setenv("BEFOREHAND_CACHE", str(tmp_path / "empty"))  # what is found there needs no sources
    with pytest.raises(OptionValueError, match=r"BH102 target is 'cpu-sparc'.*one of "):
        beforehand.add_target(foreign, "cpu-sparc")
    with pytest.raises(ManifestError, match="BH502"):
        beforehand.add_target(source)
    [kept] = read_manifest(layout.find_manifest(foreign)).sources
    index, offset, _ = kept.pieces[0]
    weights = foreign / kept.weights_files[index]
    data = bytearray(weights.read_bytes())
    data[offset] ^= 1
    weights.write_bytes(data)
    with pytest.raises(IntegrityError, match="BH503"):
        beforehand.add_target(foreign)
    edit_manifest(foreign, lambda data: data.update(sources=[]))
    with pytest.raises(NoSourcesError, match=r"BH504 .*convert the original SavedModel again"):
        beforehand.add_target(foreign)


# slim


def test_slim_keeps_what_fits_here_and_says_what_it_freed(source: pathlib.Path, foreign: pathlib.Path) -> None:
    others = list_engines(foreign)
    added = beforehand.add_target(foreign)
    proto = (foreign / layout.SAVED_MODEL).read_bytes()
    size = sum(file.stat().st_size for file in (foreign / layout.ASSETS).glob("*.openvino"))
    found = beforehand.slim(foreign)
    assert found.files == tuple(sorted(engine.file for engine in others))
    left = sum(file.stat().st_size for file in (foreign / layout.ASSETS).glob("*.openvino"))
    assert found.bytes == sum(engine.bytes for engine in others) == size - left
    assert list_engines(foreign) == added
    assert (foreign / layout.SAVED_MODEL).read_bytes() == proto
    assert beforehand.slim(foreign) == beforehand.targets.Slimmed((), 0)
    assert is_whole(collect_inspection(foreign))
    assert check_answers(source, tf.saved_model.load(str(foreign)))["engine_calls"] == 2


def test_slim_keeps_the_targets_named(foreign: pathlib.Path) -> None:
    beforehand.add_target(foreign)
    beforehand.slim(foreign, [OTHER, HERE])
    assert len(list_engines(foreign)) == 4
    beforehand.slim(foreign, [OTHER])
    assert [engine.target for engine in list_engines(foreign)] == [OTHER, OTHER]


def test_slim_leaves_no_model_without_engines_unless_asked(source: pathlib.Path, foreign: pathlib.Path) -> None:
    for targets in (None, ["cpu-x86_64+nothing"]):
        with pytest.raises(
            OptionValueError, match=rf"BH102 .*none would be left.*{OTHER.replace('+', '.')}.*--no-engines"
        ):
            beforehand.slim(foreign, targets)
    assert is_whole(collect_inspection(foreign))
    assert len(beforehand.slim(foreign, engines=False).files) == 2
    loaded = tf.saved_model.load(str(foreign))
    assert check_answers(source, loaded) == {"engine_calls": 0, "native_calls": 2}
    assert not list((foreign / layout.ASSETS).glob("*.openvino"))


def test_slim_without_sources_leaves_engines_that_run(
    source: pathlib.Path, built: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(built, folder)
    [name] = beforehand.slim(folder, sources=False).files
    assert name.endswith(".onnx")
    assert check_answers(source, tf.saved_model.load(str(folder)))["engine_calls"] == 2
    with pytest.raises(NoSourcesError):
        beforehand.add_target(folder)


def test_a_crash_of_slim_leaves_files_too_many_and_none_too_few(
    foreign: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beforehand.add_target(foreign)
    unlink = pathlib.Path.unlink

    def crash(self: pathlib.Path, **kwargs: Any) -> None:
        if self.suffix == ".openvino":
            raise KeyboardInterrupt
        unlink(self, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "unlink", crash)
        with pytest.raises(KeyboardInterrupt):
            beforehand.slim(foreign)
    assert len(list_engines(foreign)) == 2
    assert is_whole(collect_inspection(foreign))


# The commands


def test_the_commands_do_the_same(foreign: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add-target", str(foreign)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"2 engines added to {foreign}\n")
    assert out.count(HERE) == 2
    assert main(["add-target", str(foreign)]) == 0
    assert "nothing was built" in capsys.readouterr().out
    assert main(["inspect", str(foreign)]) == 0
    out = capsys.readouterr().out
    assert f"{HERE}" in out
    assert main(["slim", str(foreign)]) == 0
    out = capsys.readouterr().out
    assert "2 files removed, " in out
    assert out.count("removed  TRTEngineOp") == 2
    assert main(["add-target", str(foreign), "--target", "cpu-sparc"]) == 2
    assert "BH102" in capsys.readouterr().err
    assert main(["slim", str(foreign), "--keep-target", OTHER]) == 2
    assert "none would be left" in capsys.readouterr().err
    assert main(["slim", str(foreign), "--no-engines", "--no-sources"]) == 0
