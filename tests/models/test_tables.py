"""Tables and their files: initialised wherever, however and how often the converted model is loaded, moved and saved."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import life_cycle
import pytest
from expect_structures import STRUCTURES
from expectations import KEY

MODELS = ("table_of_tensors", "table_of_a_file", "string_lookup", "v1_simple_save", "v1_builder", "v1_estimator")


def serve(mode: str, folder: pathlib.Path, answers: pathlib.Path, again: pathlib.Path | None = None) -> dict[str, Any]:
    models = {
        name: {
            "folder": str(folder / name),
            "answers": str(answers / f"{name}.npz"),
            "again": str(again / name) if again else None,
        }
        for name in MODELS
    }
    return life_cycle.run_step("serve_saved.py", json.dumps({"mode": mode, "models": models}))


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, pathlib.Path]:
    """The converted models in another place than they were saved in, and the sources' answers; the sources are gone."""
    folder = tmp_path_factory.mktemp("tables")
    made = life_cycle.make_models(MODELS, folder / "made") if (folder / "made").mkdir() is None else {}
    answers = folder / "answers"
    answers.mkdir()
    record_answers(made, answers)
    for name, model in made.items():
        life_cycle.convert_model(model, folder / "converted" / name, {KEY: STRUCTURES[name].built[KEY][:1]}, api="own")
    shutil.rmtree(folder / "made")
    shutil.move(folder / "converted", folder / "moved")
    return folder / "moved", answers


def record_answers(made: Mapping[str, life_cycle.MadeModel], answers: pathlib.Path) -> None:
    models = {
        name: {
            "folder": str(model.folder),
            "inputs": model.inputs,
            "shapes": STRUCTURES[name].built[KEY][0],
            "answers": str(answers / f"{name}.npz"),
        }
        for name, model in made.items()
    }
    life_cycle.run_step("serve_saved.py", json.dumps({"mode": "record", "models": models}))


def check(told: Mapping[str, Mapping[str, Any]], engine_calls: int | None) -> None:
    assert sorted(told) == sorted(MODELS)
    for name, result in told.items():
        assert result["misfit"] <= 0, f"{name}: {result}"
        assert engine_calls is None or result["engine_calls"] == engine_calls, f"{name}: {result}"
        assert not result.get("native_calls"), f"{name}: {result}"


def test_a_moved_model_fills_its_tables_without_beforehand_and_again_once_tensorflow_saved_it(
    moved: tuple[pathlib.Path, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    folder, answers = moved
    check(serve("plain", folder, answers, tmp_path / "again"), 0)
    check(serve("plain", tmp_path / "again", answers), 0)


def test_a_moved_model_fills_its_tables_and_runs_engines_and_again_once_tensorflow_saved_it(
    moved: tuple[pathlib.Path, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    folder, answers = moved
    check(serve("engines", folder, answers, tmp_path / "again"), 1)
    check(serve("plain", tmp_path / "again", answers), 0)
    check(serve("engines", tmp_path / "again", answers), 1)


def test_a_moved_model_fills_its_tables_in_a_session_as_tf_serving_loads(
    moved: tuple[pathlib.Path, pathlib.Path],
) -> None:
    check(serve("session", *moved), None)
