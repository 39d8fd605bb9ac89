"""The converted SavedModel is an ordinary one: to TensorFlow alone, to its tools, to its C API, wherever it lies."""

import functools
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig

import numpy as np
import pytest

from tests.contract.saved_form.child import find_misfit, make_inputs
from tests.contract.saved_form.conftest import HERE, Scenario, run_script

BATCHES = ["1", "2", "3"]


@functools.cache
def show_all(folder: pathlib.Path) -> str:
    tool = pathlib.Path(sys.executable).with_name("saved_model_cli")
    environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(tool), "show", "--dir", str(folder), "--all"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout


def sort_dict(line: str) -> str:
    """The tool prints a dict in the order of a protobuf map, which is another in each process."""
    return " ".join(sorted(re.split(r"(?<=\)), |[{}\x08]", line))) if "Value: {" in line else line


def hash_files(folder: pathlib.Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


def run_c_api(folder: pathlib.Path, inputs: dict[str, np.ndarray], work: pathlib.Path) -> dict[str, np.ndarray]:
    """The outputs of `serving_default` by the C API."""
    libraries = pathlib.Path(sysconfig.get_paths()["purelib"], "tensorflow")
    if not list(libraries.glob("libtensorflow_cc.so.2")):
        pytest.skip("this TensorFlow wheel has no libtensorflow_cc, so no C API to call")
    text = show_all(folder)
    section = text[text.index("signature_def['serving_default']") :]
    section = section[: section.index("Method name is")]
    tensors = dict(re.findall(r"\['(\w+)'\] tensor_info:\n.*\n.*\n\s+name: (\S+)", section))
    np.savez(work / "inputs.npz", **{tensors[name].partition(":")[0]: array for name, array in inputs.items()})
    outputs = [name for name in tensors if name not in inputs]
    wanted = ",".join(tensors[name] for name in outputs)
    script = str(HERE / "c_api_load.py")
    run_script(script, str(folder), str(work / "inputs.npz"), wanted, str(work / "outputs.npz"), cwd=work)
    found = np.load(work / "outputs.npz")
    return {name: found[tensors[name]] for name in outputs}


@pytest.fixture(scope="session")
def expected(made: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, np.ndarray]]:
    """What TensorFlow makes of the source, by the same C API, for batches 2 and 3."""
    work = tmp_path_factory.mktemp("expected")
    return {batch: run_c_api(made / "a/source", make_inputs(batch), work) for batch in (2, 3)}


def test_it_holds_stock_operations_only_and_one_asset(made: pathlib.Path, scenario: Scenario) -> None:
    found = scenario("list_unknown_ops", folder=made / "a/converted")
    assert found["unknown"] == []
    assert "PyFuncStateless" in found["ops"]
    assert found["native_segments"], "no function bears TF-TRT's name of a native segment"
    assert found["assets"] == ["beforehand.json"]


def test_the_command_line_shows_the_same_but_for_its_line_of_ops(made: pathlib.Path) -> None:
    before, after = (
        [
            sort_dict(line)
            for line in show_all(made / "a" / name).splitlines()
            if "contains the following ops" not in line
        ]
        for name in ("source", "converted")
    )
    assert after == before
    assert any("Function Name: 'serve'" in line for line in after)


def test_without_beforehand_it_gives_tensorflows_own_answers(made: pathlib.Path, scenario: Scenario) -> None:
    found = scenario("answer", folder=made / "a/converted", source=made / "a/source")
    assert not found["beforehand"]
    assert found["keys"] == ["serve", "serving_default"]
    assert list(found["misfits"]) == BATCHES
    assert max(found["misfits"].values()) <= 0


def test_the_c_api_gives_tensorflows_own_answers(
    made: pathlib.Path, expected: dict[int, dict[str, np.ndarray]], tmp_path: pathlib.Path
) -> None:
    for batch, want in expected.items():
        assert find_misfit(run_c_api(made / "a/converted", make_inputs(batch), tmp_path), want) <= 0


@pytest.mark.parametrize("first", ["beforehand", "tensorflow"])
def test_a_plain_load_runs_engines_in_either_order_of_imports(
    first: str, made: pathlib.Path, scenario: Scenario
) -> None:
    found = scenario("answer_after_import", folder=made / "a/converted", source=made / "a/source", first=first)
    assert found["misfit"] <= 0
    assert found["stats"]["signatures"]["serving_default"] == {"engine_calls": 1, "native_calls": 0}


def test_moved_and_read_only_it_works_and_nothing_is_written(
    made: pathlib.Path, scenario: Scenario, tmp_path: pathlib.Path
) -> None:
    moved = tmp_path / "elsewhere" / "under another name"
    shutil.copytree(made / "a/converted", moved)
    before = hash_files(moved)
    for path in [moved, *moved.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    found = scenario("answer_after_import", folder=moved, source=made / "a/source", first="tensorflow")
    assert found["misfit"] <= 0
    assert found["stats"]["signatures"]["serving_default"]["engine_calls"] == 1
    assert hash_files(moved) == before
    for path in [moved, *moved.rglob("*")]:
        path.chmod(0o755)


def test_each_weight_is_stored_once_in_tensorflows_form(made: pathlib.Path, scenario: Scenario) -> None:
    sizes = scenario("measure_checkpoint", folder=made / "a/converted", source=made / "a/source")
    # Rows of 64 bytes: at most one row more for each of the model's dozen variables.
    assert sizes["converted"] <= sizes["source"] + 16 * 64
    assert sizes["converted"] >= 0.5 * sizes["source"]
    assert sizes["converted values"] == [-1]


def test_saved_again_it_answers_natively_and_with_beforehand_by_engines(
    made: pathlib.Path, expected: dict[int, dict[str, np.ndarray]], scenario: Scenario, tmp_path: pathlib.Path
) -> None:
    copied = scenario("save_again", model=made / "a", out=tmp_path)
    assert copied["calls of the copy"] == {"engine_calls": 1, "native_calls": 0}
    copies = [tmp_path / name for name in ("alone", "inside", "enabled", "twice")]
    folders = [str(copy) for copy in copies]
    native = scenario("answer_copies", folders=folders, source=made / "a/source", imports=False)
    assert not native["beforehand"]
    assert max(result["misfit"] for result in native["results"]) <= 0
    served = scenario("answer_copies", folders=folders, source=made / "a/source", imports=True)
    assert max(result["misfit"] for result in served["results"]) <= 0
    # The model that was loaded before beforehand was imported is a plain object of TensorFlow's, and so is its copy.
    assert [result["engine_calls"] for result in served["results"]] == [1, 1, 0, 1]
    for copy in copies[1:]:
        assert find_misfit(run_c_api(copy, make_inputs(2), tmp_path), expected[2]) <= 0, copy.name
