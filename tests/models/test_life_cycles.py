"""Each model of the first issue through its whole life, in fresh processes, against TensorFlow."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import life_cycle

Make = Callable[[str], life_cycle.MadeModel]
KEY = "serving_default"


def test_the_digits_model_is_as_accurate_as_it_was(made_model: Make, tmp_path: pathlib.Path) -> None:
    made = made_model("digits")
    built = {KEY: [{"image": [batch, 8, 8, 1]} for batch in (1, 10)]}

    converted = life_cycle.convert_model(made, tmp_path / "converted", built, form="array")
    checked = life_cycle.check_model(
        made,
        tmp_path / "converted",
        built,
        {KEY: {"image": [11, 8, 8, 1]}},
        accuracy=str(made.folder.parent / "digits_test.npz"),
    )

    assert len(converted["engines"]) == 2
    life_cycle.check_engines_answered(checked)
    life_cycle.check_unseen_is_native(checked)
    accuracy = checked["accuracy"]
    assert accuracy["engine_calls"] == accuracy["of"] // 10 == 36
    assert accuracy["converted"] == accuracy["original"]
    assert accuracy["original"] / accuracy["of"] > 0.9


def test_two_inputs_and_two_outputs_go_by_name_in_any_order(made_model: Make, tmp_path: pathlib.Path) -> None:
    made = made_model("mlp")
    built = {KEY: [{"deep": [batch, 10], "wide": [batch, 6]} for batch in (1, 5)]}

    converted = life_cycle.convert_model(made, tmp_path / "converted", built, form="reversed dict")
    checked = life_cycle.check_model(
        made, tmp_path / "converted", built, {KEY: {"wide": [6, 6], "deep": [6, 10]}}, repeats=3
    )

    assert [engine["max_shapes"] or engine["shapes"] for engine in converted["engines"]] == built[KEY]
    life_cycle.check_engines_answered(checked)
    life_cycle.check_unseen_is_native(checked)


def test_the_example_of_the_questions_answer_gives_exactly_two_engines(
    made_model: Make, tmp_path: pathlib.Path
) -> None:
    """`yield [inp1]` of (1, 112, 112, 3) and (1, 224, 224, 3), for one model of any image size."""
    made = made_model("any_size")
    built = {KEY: [{"inp1": [1, size, size, 3]} for size in (112, 224)]}

    converted = life_cycle.convert_model(made, tmp_path / "converted", built, form="list")
    checked = life_cycle.check_model(made, tmp_path / "converted", built, {KEY: {"inp1": [1, 96, 160, 3]}})

    assert [engine["shapes"] for engine in converted["engines"]] == built[KEY]
    assert len({engine["key"] for engine in converted["engines"]}) == 2
    assert len(list((tmp_path / "converted" / "assets").glob("TRTEngineOp_*.openvino"))) == 2
    life_cycle.check_engines_answered(checked)
    life_cycle.check_unseen_is_native(checked)


def test_two_signatures_are_both_converted_and_share_their_weights(made_model: Make, tmp_path: pathlib.Path) -> None:
    made = made_model("two_signatures")
    built = {KEY: [{"x": [1, 128]}, {"x": [3, 128]}], "embed": [{"words": [2, 128]}]}

    converted = life_cycle.convert_model(made, tmp_path / "converted", built, api="own", form="shapes")
    checked = life_cycle.check_model(
        made, tmp_path / "converted", built, {KEY: {"x": [5, 128]}, "embed": {"words": [1, 128]}}
    )

    assert sorted(segment["name"] for segment in converted["segments"]) == [
        "TRTEngineOp_000_000",
        "TRTEngineOp_001_000",
    ]
    assert len(converted["engines"]) == 3
    assert checked["keys"] == checked["source_keys"] == ["embed", KEY]
    life_cycle.check_engines_answered(checked)
    life_cycle.check_unseen_is_native(checked)
    sizes = [count_bytes_of_variables(folder) for folder in (made.folder, tmp_path / "converted")]
    assert sizes[1] < 1.05 * sizes[0]


def test_an_op_without_translation_splits_a_model_into_two_segments(made_model: Make, tmp_path: pathlib.Path) -> None:
    """The second segment's shapes are no input's: a native run of the sample measures them."""
    made = made_model("mixed")
    built = {KEY: [{"x": [1, 6]}, {"x": [4, 6]}]}

    converted = life_cycle.convert_model(made, tmp_path / "converted", built, form="tuple")
    checked = life_cycle.check_model(made, tmp_path / "converted", built, {KEY: {"x": [5, 6]}})

    shapes = [
        (engine["segment"], *engine["shapes"].values(), *(engine["max_shapes"] or {}).values())
        for engine in converted["engines"]
    ]
    assert sorted(shapes) == [
        ("TRTEngineOp_000_000", [1, 6]),
        ("TRTEngineOp_000_000", [1, 6], [4, 6]),
        ("TRTEngineOp_000_001", [1, 8], [2, 8]),
        ("TRTEngineOp_000_001", [1, 8], [8, 8]),
    ]
    life_cycle.check_engines_answered(checked, segments=2)
    life_cycle.check_unseen_is_native(checked, segments=2)


def count_bytes_of_variables(folder: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in (folder / "variables").glob("*.data-*"))
