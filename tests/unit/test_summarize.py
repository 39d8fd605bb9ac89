"""The summary: numbers, plain data, and TF-TRT's table to the character."""

from __future__ import annotations

import json

import pytest

from beforehand.records import SegmentRecord, TensorSpec
from beforehand.report.summarize import EngineRow, Summary, format_summary, make_summary

HEADER = (
    "TRTEngineOP Name                 Device        # Nodes # Inputs      # Outputs     "
    "Input DTypes       Output Dtypes      Input Shapes       Output Shapes     "
)
ROW_0 = (
    "TRTEngineOp_000_000              device:GPU:0  7       1             2             "
    "['float32']        ['float32', 'i ... [[-1, 224, 224 ... [[-1, 10], []]    "
)


def make_segment(name: str = "TRTEngineOp_000_000", nodes: int = 7) -> SegmentRecord:
    return SegmentRecord(
        name=name,
        signature="serving_default",
        nodes=nodes,
        flops_share=1.0,
        inputs=(TensorSpec("x", "float32", (None, 224, 224, 3)),),
        outputs=(TensorSpec("y", "float32", (None, 10)), TensorSpec("z", "int32", ())),
        node_ops=(("Relu", 2), ("Const", 3), ("Conv2D", 2)),
    )


def make_row(**changes: object) -> EngineRow:
    values: dict[str, object] = {
        "name": "TRTEngineOp_000_000",
        "device": "CPU",
        "nodes": 3,
        "inputs": 1,
        "outputs": 1,
        "input_dtypes": ("float32",),
        "output_dtypes": ("float32",),
        "input_shapes": ((1, 2),),
        "output_shapes": ((1, 2),),
        "ops": (("Relu", 3),),
    }
    return EngineRow(**{**values, **changes})  # type: ignore[arg-type]


def test_one_engine_gives_the_table_of_tf_trt() -> None:
    summary = make_summary([make_segment()], 5, "/job:localhost/replica:0/task:0/device:GPU:0")
    assert format_summary(summary) == [
        HEADER,
        "=" * 160,
        ROW_0,
        "",
        "\t- Const: 3x",
        "\t- Conv2D: 2x",
        "\t- Relu: 2x",
        "\n" + "=" * 160,
        "[*] Total number of TensorRT engines: 1",
        "[*] % of OPs Converted: 58.33% [7/12]\n",
    ]


def test_several_engines_are_sorted_and_each_has_a_separator_before_it() -> None:
    segments = [make_segment("TRTEngineOp_000_001", 3), make_segment()]
    lines = format_summary(make_summary(segments, 0, "device:GPU:0"), detailed=False)
    separator = "\n" + "-" * 40 + "\n"
    assert lines[2:6] == [separator, ROW_0, separator, lines[5]]
    assert lines[5].startswith("TRTEngineOp_000_001  ")
    assert lines[6:] == [
        "\n" + "=" * 160,
        "[*] Total number of TensorRT engines: 2",
        "[*] % of OPs Converted: 100.00% [10/10]\n",
    ]


@pytest.mark.parametrize(("native", "share"), [(9, "0.00% [0/9]"), (0, "0.00% [0/0]")])
def test_no_engine_is_zero_percent(native: int, share: str) -> None:
    assert format_summary(make_summary([], native, "CPU")) == [
        HEADER,
        "=" * 160,
        "\n" + "=" * 160,
        "[*] Total number of TensorRT engines: 0",
        f"[*] % of OPs Converted: {share}\n",
    ]


def test_without_detail_no_op_types_follow() -> None:
    lines = format_summary(Summary((make_row(),), 1), detailed=False)
    assert len(lines) == 6
    assert not any(line.startswith("\t") or line == "" for line in lines)


@pytest.mark.parametrize(("length", "cut"), [(31, False), (32, False), (33, True)])
def test_a_name_longer_than_its_column_is_cut_and_the_next_column_stays(length: int, cut: bool) -> None:
    line = format_summary(Summary((make_row(name="n" * length),), 0))[2]
    assert line[:32] == ("n" * 28 + " ..." if cut else ("n" * length).ljust(32))
    assert line[32:37] == " CPU "


@pytest.mark.parametrize(
    ("line_length", "starts"),
    [(160, [0, 33, 47, 55, 69, 83, 102, 121, 140]), (200, [0, 41, 59, 69, 87, 105, 129, 153, 177])],
)
def test_columns_begin_at_shares_of_the_line_length(line_length: int, starts: list[int]) -> None:
    lines = format_summary(Summary((), 0), line_length=line_length)
    names = ["TRTEngineOP Name", "Device", "# Nodes", "# Inputs", "# Outputs"]
    names += ["Input DTypes", "Output Dtypes", "Input Shapes", "Output Shapes"]
    assert [lines[0].index(name) for name in names] == starts
    assert lines[1] == "=" * line_length


def test_an_unknown_dimension_is_minus_one_and_an_unknown_rank_none() -> None:
    line = format_summary(Summary((make_row(input_shapes=((None, 4), None)),), 0))[2]
    assert line[121:139] == "[[-1, 4], None]   "


def test_counts_follow_from_the_rows() -> None:
    summary = Summary((make_row(nodes=3), make_row(nodes=5)), 8)
    assert (summary.converted_nodes, summary.total_nodes, summary.percent) == (8, 16, 50.0)


def test_plain_data_survive_json() -> None:
    plain = make_summary([make_segment()], 5, "CPU").to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["engines"][0] == {
        "name": "TRTEngineOp_000_000",
        "device": "CPU",
        "nodes": 7,
        "inputs": 1,
        "outputs": 2,
        "input_dtypes": ["float32"],
        "output_dtypes": ["float32", "int32"],
        "input_shapes": [[None, 224, 224, 3]],
        "output_shapes": [[None, 10], []],
        "ops": {"Relu": 2, "Const": 3, "Conv2D": 2},
    }
    assert {key: plain[key] for key in plain if key != "engines"} == {
        "native_nodes": 5,
        "converted_nodes": 7,
        "total_nodes": 12,
        "percent": pytest.approx(58.3333, abs=1e-4),
        "precision_asked": "FP32",
        "precision_run": "FP32",
        "accuracy": "",
        "speed": "",
    }


def test_a_precision_that_is_not_the_one_asked_for_is_told_after_the_table() -> None:
    plain = format_summary(make_summary([make_segment()], 5, "CPU", ("BF16", "BF16")))
    assert plain == format_summary(make_summary([make_segment()], 5, "CPU"))
    summary = make_summary([make_segment()], 5, "CPU", ("FP16", "BF16"))
    assert format_summary(summary) == [*plain, "[*] Precision: FP16 asked for, engines run in BF16\n"]
    assert (summary.to_dict()["precision_asked"], summary.to_dict()["precision_run"]) == ("FP16", "BF16")


def test_how_engines_compare_with_tensorflow_is_told_after_the_table() -> None:
    plain = format_summary(make_summary([make_segment()], 5, "CPU"))
    summary = make_summary([make_segment()], 5, "CPU", notes=("1 of 1 engines compared", "1 of 1 timed"))
    assert format_summary(summary) == [
        *plain,
        "[*] Accuracy: 1 of 1 engines compared\n",
        "[*] Speed: 1 of 1 timed\n",
    ]
    assert summary.to_dict()["speed"] == "1 of 1 timed"
    assert summary.to_dict()["accuracy"] == "1 of 1 engines compared"
