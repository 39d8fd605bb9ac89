"""Where the folder lies and what happens to it while the model is in use."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.contract.unusual_use.conftest import Runner, Saved, assert_close, count_calls, list_state

READ_ONLY = """
import numpy as np, tensorflow as tf, beforehand
# A first model, so that all that is imported late is there before the rights go.
first = tf.saved_model.load(arguments["other"])
x = np.random.default_rng().normal(size=(2, 8)).astype("f4")
first.signatures["serving_default"](x=x)
want = tf.saved_model.load(arguments["source"]).signatures["serving_default"](x=x)["y"].numpy()
os.chdir("/")
if os.geteuid() == 0:
    os.setuid(65534)
try:
    open(os.path.join(arguments["folder"], "written"), "w")
    refused = False
except PermissionError:
    refused = True
loaded = tf.saved_model.load(arguments["folder"])
have = loaded.signatures["serving_default"](x=x)["y"].numpy()
report(
    refused=refused, right=bool(np.allclose(have, want, 1e-3, 1e-4)),
    calls=beforehand.stats(loaded)["signatures"]["serving_default"],
)
"""


def test_a_user_who_may_only_read_runs_engines_and_nothing_is_written(
    module_model: Saved, other_model: Saved, run_python: Runner, request: pytest.FixtureRequest
) -> None:
    # Not below pytest's folder, which only its owner may enter.
    top = pathlib.Path(shutil.copytree(module_model.converted, f"/tmp/beforehand_read_only_{os.getpid()}"))  # noqa: S108
    request.addfinalizer(lambda: shutil.rmtree(top))
    source = pathlib.Path(shutil.copytree(module_model.source, top / "not_part_of_it"))
    paths = [top, *top.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = list_state(top)
    found = run_python(READ_ONLY, {"folder": top, "other": other_model.converted, "source": source})
    assert found["refused"], "the child could have written"
    assert found["right"]
    assert found["calls"] == {"engine_calls": 1, "native_calls": 0}
    assert list_state(top) == before
    for path in paths:
        path.chmod(0o755)


@pytest.mark.parametrize("name", ["with a space", "ümläut", "link"])
def test_the_folder_may_have_any_name_or_be_a_link(
    name: str,
    module_model: Saved,
    load: Callable[[pathlib.Path], Any],
    rng: np.random.Generator,
    expect: Callable[..., Any],
    tmp_path: pathlib.Path,
) -> None:
    if name == "link":
        (tmp_path / name).symlink_to(module_model.converted, target_is_directory=True)
    else:
        module_model.copy_to(tmp_path / name)
    loaded, inputs = load(tmp_path / name), module_model.make_inputs(rng, 2)
    assert_close(loaded.signatures["serving_default"](**inputs), expect(module_model, inputs))
    assert count_calls(loaded) == (1, 0)


def test_a_model_loaded_by_a_relative_path_runs_engines_after_a_change_of_folder(
    module_model: Saved,
    load: Callable[[pathlib.Path], Any],
    rng: np.random.Generator,
    expect: Callable[..., Any],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Engines are opened at their first call: by then the program may be elsewhere."""
    monkeypatch.chdir(module_model.converted.parent)
    loaded, inputs = load(pathlib.Path("converted")), module_model.make_inputs(rng, 1)
    monkeypatch.chdir(tmp_path)
    assert_close(loaded.signatures["serving_default"](**inputs), expect(module_model, inputs))
    assert count_calls(loaded) == (1, 0)


LOCKED_OUT = """
import tensorflow as tf, beforehand
other = tf.saved_model.load(arguments["other"])
other.signatures["serving_default"](x=tf.ones([1, 8]))  # so that all that is imported late is there
loaded = tf.saved_model.load(arguments["folder"])
os.chdir(arguments["locked"])
if os.geteuid() == 0:
    os.setuid(65534)
loaded.signatures["serving_default"](x=tf.ones([1, 8]))
report(calls=beforehand.stats(loaded)["signatures"]["serving_default"])
"""


def test_a_working_folder_that_may_not_be_entered_does_not_end_the_process(
    module_model: Saved, other_model: Saved, run_python: Runner, request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> None:
    """A server that gave up root is often in such a folder. OpenVINO looks for a file `.bin` there when it imports."""
    top = pathlib.Path(shutil.copytree(module_model.converted, f"/tmp/beforehand_locked_{os.getpid()}"))  # noqa: S108
    request.addfinalizer(lambda: shutil.rmtree(top))
    for path in (top, *top.rglob("*")):
        path.chmod(0o755)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    found = run_python(LOCKED_OUT, {"folder": top, "other": other_model.converted, "locked": locked})
    assert sum(found["calls"].values()) == 1


IN_PLACE = """
import glob, numpy as np, tensorflow as tf, beforehand
loaded = tf.saved_model.load(arguments["folder"])
serve = loaded.signatures["serving_default"]
original = tf.saved_model.load(arguments["source"]).signatures["serving_default"]
rng = np.random.default_rng()
def is_right():
    x = rng.normal(size=(1, 8)).astype("f4")
    return bool(np.allclose(serve(x=x)["y"], original(x=x)["y"], 1e-3, 1e-4))
before = is_right()
for file in glob.glob(arguments["folder"] + "/assets/*.openvino"):
    size = os.path.getsize(file)
    if arguments["damage"] == "truncated":
        os.truncate(file, 0)
    else:
        with open(file, "r+b") as opened:
            opened.write(bytes(size))
report(before=before, after=[is_right() for _ in range(3)])
"""


@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_an_engine_file_changed_in_place_while_it_is_in_use_never_gives_a_wrong_answer_nor_ends_the_process(
    damage: str, module_model: Saved, run_python: Runner, tmp_path: pathlib.Path
) -> None:
    """`cp` and `rsync --inplace` write into files that a server has open; the hash was checked at the first call."""
    folder = module_model.copy_to(tmp_path / "in_use")
    found = run_python(IN_PLACE, {"folder": folder, "source": module_model.source, "damage": damage})
    assert found["before"]
    assert found["after"] == [True, True, True]


@pytest.mark.parametrize("called_before", [True, False])
def test_a_model_answers_as_before_when_another_is_saved_over_its_folder(
    *,
    called_before: bool,
    module_model: Saved,
    other_model: Saved,
    load: Callable[[pathlib.Path], Any],
    rng: np.random.Generator,
    expect: Callable[..., Any],
    tmp_path: pathlib.Path,
) -> None:
    """As `Converter.save` replaces it: also where the first call, which opens the engine, comes too late."""
    from beforehand.store.atomic import replace_folder

    folder = module_model.copy_to(tmp_path / "model")
    old, inputs = load(folder), module_model.make_inputs(rng, 2)
    if called_before:
        old.signatures["serving_default"](**inputs)
    with replace_folder(folder) as new_folder:
        shutil.copytree(other_model.converted, new_folder, dirs_exist_ok=True)
    new = load(folder)
    for _ in range(2):
        assert_close(old.signatures["serving_default"](**inputs), expect(module_model, inputs))
        assert_close(new.signatures["serving_default"](**inputs), expect(other_model, inputs))
    assert count_calls(old) == ((3, 0) if called_before else (0, 2))
    assert count_calls(new) == (2, 0)
