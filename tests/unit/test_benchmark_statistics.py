"""Medians, their intervals and verdicts; the sections of RESULTS.md; one whole run on a tiny model."""

from __future__ import annotations

import json
import math
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_ranks_are_those_of_the_tables() -> None:
    from beforehand.speed.estimate_median import find_rank

    # The sign test's: with 6 values the extremes are a 96.9 % interval, with 5 there is none of 95 %.
    assert [find_rank(n) for n in (1, 5, 6, 8, 9, 20, 30, 100)] == [0, 0, 1, 1, 2, 6, 10, 40]


def test_the_interval_holds_the_median_as_often_as_promised() -> None:
    from beforehand.speed.estimate_median import estimate_median

    rng = np.random.default_rng(1)
    found = [estimate_median(rng.exponential(size=25).tolist()) for _ in range(2000)]
    share = np.mean([item.low <= math.log(2) <= item.high for item in found])
    assert 0.95 <= share < 0.99


def test_too_few_values_decide_nothing() -> None:
    from beforehand.speed.estimate_median import estimate_median

    assert estimate_median([1.0] * 5).judge(100.0, at_most=True) == "inconclusive"
    with pytest.raises(ValueError, match="nothing"):
        estimate_median([])


@pytest.mark.parametrize(
    ("threshold", "at_most", "at_least"),
    [(0.5, "missed", "met"), (5.0, "inconclusive", "inconclusive"), (20.0, "met", "missed")],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(threshold: float, at_most: str, at_least: str) -> None:
    from beforehand.speed.estimate_median import Estimate

    estimate = Estimate(5.0, 1.0, 10.0, 9)
    assert estimate.judge(threshold, at_most=True) == at_most
    assert estimate.judge(threshold, at_most=False) == at_least


def test_the_geometric_mean_takes_all_bounds_at_once() -> None:
    from beforehand.speed.estimate_median import Estimate, combine_geometric

    mean = combine_geometric([Estimate(2.0, 1.0, 4.0, 9), Estimate(8.0, 4.0, 9.0, 7)])
    assert (mean.median, mean.low, mean.high, mean.count) == (pytest.approx(4), pytest.approx(2), pytest.approx(6), 7)


def test_rounds_call_every_way_once_and_end_when_decided() -> None:
    from beforehand.benchmark.alternate_calls import WARM_UP, alternate_calls

    calls: list[str] = []
    ways: dict[str, Any] = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = alternate_calls(ways, lambda _: True, rounds=(7, 100), seconds=60)
    assert {name: len(found) for name, found in times.items()} == {"a": 10, "b": 10, "c": 10}
    for start in range(3 * WARM_UP, len(calls), 3):
        assert sorted(calls[start : start + 3]) == ["a", "b", "c"]


def test_a_section_is_replaced_and_the_others_are_kept(tmp_path: pathlib.Path) -> None:
    from write_section import write_section

    file = tmp_path / "RESULTS.md"
    for name, text in (("cpu", "old"), ("models", "a table"), ("cpu", r"new \1")):
        write_section(file, name, text)
    text = file.read_text()
    assert text.count("<!-- begin cpu -->") == text.count("<!-- begin models -->") == 1
    assert "old" not in text
    assert r"new \1" in text
    assert "a table" in text


def test_int8_is_judged_beside_half_precision_and_an_encoder_beside_float32() -> None:
    from format_results import format_int8

    def make_item(ours: float, half: float) -> dict[str, Any]:
        return {"times": {"TensorFlow": [9.0] * 9, "beforehand": [ours] * 9, "half": [half] * 9}}

    text = "\n".join(format_int8({"ResNet50": make_item(2.0, 3.0), "BERT-base": make_item(6.0, 4.0)}))
    assert "BERT-base: 1.50 [1.50, 1.50] times as fast as TensorFlow's signature" in text
    assert "(target at least 2: missed)" in text
    assert "| ResNet50 | 1.50 [1.50, 1.50] | met |" in text
    assert "| BERT-base | 0.67 [0.67, 0.67] | missed |" in text


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["FP32", "INT8"])
def test_the_benchmark_runs_on_a_tiny_model(tmp_path: pathlib.Path, precision: str) -> None:
    pytest.importorskip("onnxruntime")
    if precision != "FP32":
        from beforehand.backends.describe_cpu import describe_this_cpu
        from beforehand.backends.openvino_precisions import find_arithmetic
        from beforehand.errors import PrecisionError

        try:
            [find_arithmetic(mode, describe_this_cpu()) for mode in ("BF16", "INT8")]
        except PrecisionError as error:
            pytest.skip(str(error))
    command = [sys.executable, str(BENCHMARKS / "cpu.py"), "--models", "tiny", "--batch", "1", "--rounds", "6", "6"]
    command += ["--precision", precision]
    files = ["--json", str(tmp_path / "r.json"), "--output", str(tmp_path / "R.md")]
    process = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    found = json.loads((tmp_path / "r.json").read_text())
    batch = found["calls"]["tiny"]["batches"]["1"]
    assert {len(times) for times in batch["times"].values()} == {6}
    # Of the answers, which are between 0 and 1; those of the other ways are float32's.
    bounds = {"beforehand": 0.02, "OpenVINO": 0.02, "half": 0.02} if precision == "INT8" else {}
    for way, difference in batch["differences"].items():
        assert difference < bounds.get(way, 1e-4) < batch["spread"], way
    assert ("half" in batch["differences"]) == (precision == "INT8")
    assert found["calls"]["tiny"]["native_calls"] == 0 < found["calls"]["tiny"]["engine_calls"]
    assert found["memory"]["tiny"]["parent"] > found["memory"]["tiny"]["child"] > 1e7
    text = (tmp_path / "R.md").read_text()
    assert "| tiny |" in text
    assert ("calibrate" in text) == (precision == "INT8")
