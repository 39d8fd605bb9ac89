"""Where engines run, where they do not, and that the answers are right in every case."""

import json
import pathlib
import shutil

import pytest

from tests.contract.saved_form.conftest import Scenario

KEY = "serving_default"
WAYS = (
    "signature",
    "callable of the root",
    "tf.function around it",
    "convert_variables_to_constants_v2",
    "tf.data.map, num_parallel_calls=None",
    "tf.data.map, num_parallel_calls=2",
    "MirroredStrategy.run",
    "run_functions_eagerly",
)


@pytest.fixture(scope="session")
def ways(made: pathlib.Path, scenario: Scenario) -> dict[str, dict[str, float]]:
    return scenario("use_in_many_ways", model=made / "a")


@pytest.mark.parametrize("way", WAYS)
def test_engines_run_in_this_way_of_use(way: str, ways: dict[str, dict[str, float]]) -> None:
    assert ways[way]["engine_calls"] == 1
    assert ways[way]["misfit"] <= 0


def test_a_frozen_function_takes_the_models_inputs_and_no_more(ways: dict[str, list[str]]) -> None:
    assert sorted(ways["frozen inputs"]) == ["extra", "image"]


def test_engines_run_in_a_keras_layer(made: pathlib.Path, scenario: Scenario) -> None:
    found = scenario("use_in_a_keras_layer", model=made / "a")
    assert found["misfit"] <= 0
    assert found["engine_calls"] >= 1


def test_a_function_kept_while_its_module_is_dropped_runs_engines(made: pathlib.Path, scenario: Scenario) -> None:
    found = scenario("keep_the_function_alone", model=made / "a")
    assert found["misfit"] <= 0
    assert found["stats"]["signatures"][KEY] == {"engine_calls": 3, "native_calls": 0}


def test_engines_can_be_switched_off_and_on(made: pathlib.Path, scenario: Scenario) -> None:
    found = scenario("switch_off_and_on", model=made / "a")
    assert found["before the import"] <= 0
    assert found["stats before enable"].startswith("BH602 ")
    assert found["enabled"] <= 0
    assert found["enabled stats"] == {"engine_calls": 1, "native_calls": 0}
    assert found["disabled"] <= 0
    assert found["disabled stats"] == {"engine_calls": 1, "native_calls": 1}
    assert found["BEFOREHAND_DISABLE"] <= 0
    assert found["BEFOREHAND_DISABLE stats"] == {"engine_calls": 0, "native_calls": 0}
    assert found["enabled again stats"] == {"engine_calls": 1, "native_calls": 0}
    assert found["enable of another"].startswith("BH602 ")


def test_new_shapes_run_natively_with_one_warning_each_and_are_counted(made: pathlib.Path, scenario: Scenario) -> None:
    found = scenario("meet_new_shapes", model=made / "a")
    assert found["misfit"] <= 0
    assert len(found["warnings"]) == 3, found["warnings"]
    for batch, warning in zip((3, 4, 5), found["warnings"], strict=True):
        assert f"{batch}x8x8x3" in warning
    unseen = {item["shapes"]["image"][0]: item["count"] for item in found["stats"]["unseen_shapes"]}
    # The two calls of batch 6 were vetoed, and counted too.
    assert unseen == {3: 3, 4: 2, 5: 1, 6: 2}
    assert found["stats"]["builds"] == 0
    assert found["served"] <= 0


def test_a_vetoed_call_raises_a_tensorflow_error_that_starts_with_our_code(
    made: pathlib.Path, scenario: Scenario
) -> None:
    found = scenario("meet_new_shapes", model=made / "a")
    assert sorted(found["raised"]) == ["in a function", "plain"]
    for text in found["raised"].values():
        # TensorFlow puts where it happened before the text: marks in double braces, or lines of its own.
        own = text.replace("{{", "\n{{").replace("}} ", "}}\n").splitlines()
        assert any(line.startswith("BH601: TRTEngineOp_000_000 has no engine for the shapes") for line in own), text
    name, text = found["last"]
    assert name == "EngineRunError"
    assert text.startswith("BH601 ")


def flip_a_byte(folder: pathlib.Path, file: pathlib.Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def truncate(folder: pathlib.Path, file: pathlib.Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def remove(folder: pathlib.Path, file: pathlib.Path) -> None:
    file.unlink()


def write_another_version(folder: pathlib.Path, file: pathlib.Path) -> None:
    manifest = folder / "assets/beforehand.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format_version": 999}))


def write_no_json(folder: pathlib.Path, file: pathlib.Path) -> None:
    (folder / "assets/beforehand.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (flip_a_byte, "BH503"),
        (truncate, "BH503"),
        (remove, "BH503"),
        (write_another_version, "BH502"),
        (write_no_json, "BH502"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_damaged_files_are_found_told_once_and_answered_natively(
    damage, code: str, made: pathlib.Path, scenario: Scenario, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(made / "a", tmp_path / "a")
    folder = tmp_path / "a/converted"
    for file in (folder / "assets").glob("*.openvino"):
        damage(folder, file)
    found = scenario("meet_broken_files", model=tmp_path / "a")
    assert found["misfit"] <= 0
    assert len(found["warnings"]) == 1, found["warnings"]
    assert found["warnings"][0].startswith(code)
    assert found["last"].startswith(code)
    if code == "BH503":
        assert found["stats"]["signatures"][KEY] == {"engine_calls": 0, "native_calls": 3}


def test_a_result_that_the_caller_holds_never_changes(made: pathlib.Path, scenario: Scenario) -> None:
    found = scenario("hold_a_result", model=made / "a")
    assert found["changed"] == []
    assert found["engine_calls"] == 80
    assert len(found["shared"]) >= 80
    assert not any(found["shared"])


@pytest.mark.parametrize("imports", [True, False], ids=["with beforehand", "without beforehand"])
def test_gradients_and_jit_compile_are_refused_and_sessions_run_natively(
    imports: bool, made: pathlib.Path, scenario: Scenario
) -> None:
    found = scenario("refuse", model=made / "a", imports=imports)
    for batch in (2, 3):
        assert "BH412" in found[f"gradient {batch}"]
        assert found[f"gradient {batch}"].startswith("LookupError")
    if imports:
        assert "BH411" in found["jit"]
    assert found["session"] <= 0


def test_ten_thousand_calls_in_eight_threads_build_nothing(made: pathlib.Path, scenario: Scenario) -> None:
    found = scenario(
        "call_from_many_threads", {"BEFOREHAND_FORBID_BUILD": "1"}, model=made / "a", threads=8, calls=10_000
    )
    assert found["misfit"] <= 0
    assert found["stats"]["signatures"][KEY] == {"engine_calls": 10_000, "native_calls": 0}
    assert found["stats"]["builds"] == 0
    assert sum(engine["engine_calls"] for engine in found["stats"]["engines"]) == 10_000
    assert [engine["loads"] for engine in found["stats"]["engines"]] == [1, 1]
    assert found["forbidden"].startswith("BH402 ")


def test_models_of_equal_names_do_not_mix(made: pathlib.Path, scenario: Scenario, tmp_path: pathlib.Path) -> None:
    shutil.copytree(made / "a", tmp_path / "a")
    shutil.copytree(made / "b", tmp_path / "b")
    found = scenario("keep_models_apart", folder=tmp_path)
    assert max(found["misfits"].values()) <= 0, found["misfits"]
    for name in ("a", "b", "a again", "b in its place"):
        assert found["calls"][name] == {"engine_calls": 3, "native_calls": 0}, name
