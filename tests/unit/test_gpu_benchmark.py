"""The GPU benchmark's arithmetic and tables, on made-up measurements: nothing here needs a GPU, TensorFlow or torch."""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
CEILINGS = {"flops": 500e12, "bandwidth": 2e12, "launch_us": 8.0, "graph_us": 6.0}


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def make_row(ours: float = 0.51, torch: float = 0.75) -> dict[str, Any]:
    single = {
        "beforehand": [ours] * 9,
        "TensorRT": [0.5] * 9,
        "torch contiguous": [torch] * 9,
        "torch channels_last": [torch + 1] * 9,
    }
    return {
        "failed": {},
        "single": single,
        "together": {way: [time - 0.1 for time in times] for way, times in single.items()},
        "host": {way: [time + 1 for time in times] for way, times in single.items() if way != "TensorRT"},
        "error": {"largest": 1e-3, "of": 2.0, "norm": 5e-4},
        "work": {"flops": 10**11, "least_bytes": 10**8, "most_bytes": 10**9},
        "first": {"cuda": 0.3, "load": 0.1, "opening": 0.02, "calls": [0.05, *[0.002] * 9]},
    }


def make_results(**rows: dict[str, Any]) -> dict[str, Any]:
    engine = {"shapes": "image=1x224x224x3", "seconds": 6.0, "bytes": 52_000_000}
    made = {"convert": 2.0, "build": 7.0, "segments": 1, "engines": [engine], "tensorflow": "2.21.0"}
    return {
        "precision": "FP16",
        "machine": {"gpu": "GPU of a test"},
        "ceilings": CEILINGS,
        "made": {"resnet50": made},
        "compiled": {"resnet50 1 contiguous": {"seconds": 41.0}},
        "rows": {"resnet50": rows},
        "failed": {},
    }


def test_the_floor_is_the_larger_of_the_two_times() -> None:
    from gpu_roofline import Ceilings, Work, find_floor

    work = Work(flops=10**11, least_bytes=10**8, most_bytes=10**9)
    assert find_floor(work, Ceilings(**CEILINGS)) == pytest.approx(0.2)  # 0.2 ms of arithmetic, 0.05 of bytes
    assert find_floor(work, Ceilings(**CEILINGS), most=True) == pytest.approx(0.5)


def test_the_section_has_a_verdict_for_every_target() -> None:
    from format_gpu import format_gpu

    text = format_gpu(make_results(**{"1": make_row(), "8": make_row(ours=0.6)}))
    assert (
        "| ResNet-50 | 1 | 0.510 | 0.500 | 10.0 [10.0, 10.0] | met | 0.750 | contiguous | 1.47 [1.47, 1.47] |" in text
    )
    assert "| 100.0 [100.0, 100.0] | missed |" in text
    assert "2 rows: 1.36 [1.36, 1.36] (target at least 1.3: met)" in text
    assert "The least: ResNet-50 8, 1.25 [1.25, 1.25] (target at least 0.9: met)" in text
    assert "| ResNet-50 | 1 | 0.30 | 0.10 | 50.0 | 20.0 | 30.0 | 2.000 | met |" in text
    assert "| ResNet-50 | 1 | 100.0 | 100 | 1000 | 0.200 | 49 % | 0.500 | 122 % | arithmetic |" in text
    assert "contiguous 41 |" in text
    assert "Hopper is not on the vendor's list" in text


def test_a_way_that_failed_leaves_gaps_and_is_told() -> None:
    from format_gpu import format_gpu, format_line

    row = make_row()
    for times in (row["single"], row["together"], row["host"]):
        times.pop("beforehand")
    row.pop("error")
    row["first"] = {"failed": "it ended"}
    row["failed"] = {"beforehand": "BH601 no"}
    text = format_gpu(make_results(**{"1": row}))
    assert "| ResNet-50 | 1 | - | 0.500 | - | - | 0.750 |" in text
    assert "resnet50 1, beforehand: BH601 no" in text
    assert "No row has both" in text
    assert "beyond TensorRT - µs" in format_line("resnet50", "1", row)


def test_errors_are_those_of_the_worst_output() -> None:
    from compare_answers import compare_answers

    found = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.5])}
    worst = compare_answers(found, {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0])})
    assert worst == {"largest": 0.5, "of": 4.0, "norm": pytest.approx(0.1)}
    nan = compare_answers({"a": np.array([np.nan]), "b": np.array([1.0])}, {"a": np.ones(1), "b": np.ones(1)})
    assert math.isnan(nan["norm"])


def test_inputs_are_the_same_at_every_draw_and_survive_the_disk(tmp_path: pathlib.Path) -> None:
    from gpu_models import draw_inputs, load_arrays, save_arrays

    drawn = draw_inputs("bert", 2)
    save_arrays(tmp_path, "bert", 2, "inputs", drawn)
    kept = load_arrays(tmp_path, "bert", 2, "inputs")
    assert {name: array.dtype.name for name, array in kept.items()} == {"input_ids": "int32", "attention_mask": "int32"}
    assert list(kept) == list(drawn)
    for name, array in draw_inputs("bert", 2).items():
        np.testing.assert_array_equal(kept[name], array)
    assert drawn["attention_mask"][:, :64].all()


def test_a_run_goes_on_where_the_last_one_ended(tmp_path: pathlib.Path) -> None:
    import gpu

    file = tmp_path / "r.json"
    options = argparse.Namespace(
        json=[str(file)], resume=True, format_only=False, precision="FP16", models=["bert", "resnet50"], batches=[1, 8],
        folder=str(tmp_path), layouts=["channels_last"],
    )  # fmt: skip
    assert gpu.read_results(options)["rows"] == {}
    gpu.keep(options, make_results(**{"1": make_row()}))
    results = gpu.read_results(options)
    assert list(results["rows"]["resnet50"]) == ["1"]
    assert json.loads(file.read_text())["precision"] == "FP16"
    results["rows"]["bert"] = {"1": make_row()}
    assert [key for key, _ in gpu.list_compilations(options, results)] == [
        "bert 8 contiguous", "resnet50 8 channels_last",
    ]  # fmt: skip
    assert not gpu.is_made(options, results, "bert")
    results["rows"]["bert"]["8"] = make_row()
    assert gpu.is_made(options, results, "bert")


def test_the_section_is_written_again_of_the_file_alone(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps({**make_results(**{"1": make_row()}), "described": "- a machine far away"}))
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--format-only", "--json", str(file)]
    subprocess.run([*command, "--output", str(tmp_path / "R.md")], check=True, capture_output=True)
    text = (tmp_path / "R.md").read_text()
    assert "- a machine far away\n- GPU of a test" in text
    assert "<!-- begin gpu -->" in text


def test_a_script_that_fails_is_told_with_its_last_line(tmp_path: pathlib.Path) -> None:
    from stream_script import stream_script

    options = argparse.Namespace(folder=str(tmp_path), at_once=3)
    [told] = list(stream_script(options, "not_there.py", {}))
    assert "No such file" in told["failed"]
