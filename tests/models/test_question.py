"""The founding question's scripts, as its asker would run them, and with the mistakes that its asker made."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess

import life_cycle
import pytest
from draw_inputs import uniform

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the tests run without the repository around them")

BATCH = {"inp1": [8, 16, 16, 3], "inp2": [8, 16, 16, 3]}


@pytest.fixture(scope="session")
def question_model(tmp_path_factory: pytest.TempPathFactory) -> life_cycle.MadeModel:
    """The model of examples/make_models.py, on disk."""
    folder = tmp_path_factory.mktemp("question") / "source"
    made = life_cycle.run_python(EXAMPLES / "make_models.py", folder)
    assert made.returncode == 0, made.stderr[-3000:]
    return life_cycle.MadeModel(folder, {"inp1": uniform(), "inp2": uniform()})


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A change of the second script: old text, new text."""

    old: str
    new: str


def run_script_2(source: pathlib.Path, output: pathlib.Path, *mistakes: Mistake) -> subprocess.CompletedProcess[str]:
    """Run the second script, with mistakes put back into it."""
    text = (EXAMPLES / "question_script_2.py").read_text()
    for mistake in mistakes:
        assert mistake.old in text, f"the script has no {mistake.old!r} any more"
        text = text.replace(mistake.old, mistake.new, 1)
    script = output.parent / "script.py"
    script.write_text(text)
    return life_cycle.run_python(script, source, output)


def test_the_first_script_saves_a_model_that_answers_natively_and_warns(
    question_model: life_cycle.MadeModel, tmp_path: pathlib.Path
) -> None:
    ran = life_cycle.run_python(EXAMPLES / "question_script_1.py", question_model.folder, tmp_path / "converted")
    checked = life_cycle.check_model(question_model, tmp_path / "converted", {"serving_default": [BATCH]}, {})

    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "is saved without engines: build() was not called. Calls run natively" in ran.stderr
    assert {file.suffix for file in (tmp_path / "converted" / "assets").iterdir()} == {".html", ".json", ".onnx"}
    result, built = checked["signatures"]["serving_default"], checked["built"]
    assert max(result["misfits"].values()) <= 0
    assert result["calls"] == 2
    assert built["spy"] == []
    assert built["stats"]["engines"] == []
    assert built["stats"]["signatures"]["serving_default"]["engine_calls"] == 0


def test_the_second_script_prints_its_output_and_saves_one_engine_for_its_shapes(
    question_model: life_cycle.MadeModel, tmp_path: pathlib.Path
) -> None:
    ran = run_script_2(question_model.folder, tmp_path / "converted")
    unseen = {"inp1": [9, 16, 16, 3], "inp2": [9, 16, 16, 3]}
    checked = life_cycle.check_model(
        question_model, tmp_path / "converted", {"serving_default": [BATCH]}, {"serving_default": unseen}
    )

    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.splitlines()[-1] == "(8, 10)"
    assert [engine["max_shapes"] for engine in checked["built"]["stats"]["engines"]] == [BATCH]
    life_cycle.check_engines_answered(checked)
    life_cycle.check_unseen_is_native(checked)


def test_the_questions_typo_is_answered_with_the_right_name(
    question_model: life_cycle.MadeModel, tmp_path: pathlib.Path
) -> None:
    typo = Mistake("maximum_cached_engines=100", "maximum_cached_engiens=100")

    ran = run_script_2(question_model.folder, tmp_path / "converted", typo)

    assert ran.returncode != 0
    last = ran.stderr.strip().splitlines()[-1]
    assert "BH101" in last
    assert "`maximum_cached_engiens`" in last
    assert "did you mean `maximum_cached_engines`?" in last
    assert not (tmp_path / "converted").exists()


def test_the_questions_undefined_name_stays_a_name_error_with_a_note_of_input_fn(
    question_model: life_cycle.MadeModel, tmp_path: pathlib.Path
) -> None:
    """The question makes `Inp1` and yields `inp1`."""
    ran = run_script_2(question_model.folder, tmp_path / "converted", Mistake("    inp1 = np.", "    Inp1 = np."))

    assert ran.returncode != 0
    assert "NameError: name 'inp1' is not defined" in ran.stderr
    assert "this was raised by your own input_fn" in ran.stderr
    assert not (tmp_path / "converted").exists()


def test_int8_without_calibration_data_is_refused_with_advice(
    question_model: life_cycle.MadeModel, tmp_path: pathlib.Path
) -> None:
    whole = Mistake('precision_mode="FP32"', 'precision_mode="INT8"')

    ran = run_script_2(question_model.folder, tmp_path / "converted", whole)

    assert ran.returncode != 0
    last = ran.stderr.strip().splitlines()[-1]
    assert "BH123 INT8 calibration needs data and calibration_input_fn is missing" in last
    assert "Try: convert(calibration_input_fn=...)" in last
    assert not (tmp_path / "converted").exists()
