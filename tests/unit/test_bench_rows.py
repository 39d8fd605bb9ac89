"""What is made of measured times: rows, verdicts, percentiles, steadiness. No time is measured here."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest

from beforehand.benchmark.bench_model import Settings
from beforehand.benchmark.check_steady import judge_steady
from beforehand.benchmark.records import Bench, Steady
from beforehand.benchmark.time_cold import NEVER, NOT_BUILT, make_row, write_inputs
from beforehand.benchmark.time_ways import Plan, choose_calls, find_percentile, thin_out, time_ways
from beforehand.cli.format_bench import format_bench
from beforehand.errors import OptionValueError
from beforehand.records import Signature, TensorSpec

SHAPES = {"x": [1, 3]}
PLAN = Plan((7, 30), 60.0, (1, 2))


class Told:
    """In a process's place: answers with the times given, a round each, and notes what it was asked."""

    def __init__(self, times: list[float], log: list[str], name: str, fails_at: int = -1) -> None:
        self.error, self._times, self._log, self._name, self._fails_at, self._turn = "", times, log, name, fails_at, 0

    def ask(self, data: dict[str, Any]) -> dict[str, Any]:
        if "warm" in data:
            return {"first_ms": 50.0, "second_ms": 15.0, "answered_by": "engines"}
        self._log.append(self._name)
        self._turn += 1
        if self._turn == self._fails_at:
            return {"error": "its process ended, exit code -9"}
        ms = [self._times[self._turn % len(self._times)]] * data["calls"] * data["callers"]
        return {"ms": ms, "seconds": sum(ms) / 1000 / data["callers"], "rss_mb": 100.0}


def test_every_way_has_a_turn_in_each_round_and_rounds_end_when_it_is_known_which_is_faster() -> None:
    log: list[str] = []
    ways = {"native": Told([10.0, 11.0], log, "native"), "converted": Told([2.0, 2.2], log, "converted")}
    native, converted, native_2, converted_2 = time_ways(ways, 0, "serving_default", SHAPES, PLAN)
    rounds = [sorted(log[place : place + 2]) for place in range(0, len(log), 2)]
    assert rounds == [["converted", "native"]] * len(rounds)
    assert {log[place] for place in range(0, len(log), 2)} == {
        "converted",
        "native",
    }  # the first is not always the same
    assert native.speedup is None
    assert converted.speedup is not None
    assert converted.speedup.median == pytest.approx(5)
    assert converted.speedup.verdict == "faster"
    assert converted.speedup.rounds < 30
    assert (converted.calls, converted.first_ms) == (10 * converted.speedup.rounds, 50.0)
    assert converted.per_second == pytest.approx(1000 / converted.median_ms, rel=0.1)
    assert converted_2.per_second == pytest.approx(2 * converted.per_second, rel=0.05)
    assert (native_2.callers, converted_2.callers) == (2, 2)


def test_what_is_as_fast_is_inconclusive_and_what_is_slower_is_told() -> None:
    log: list[str] = []
    ways = {
        "native": Told([10.0, 11.0, 9.0], log, "native"),
        "frozen": Told([10.0, 9.0, 11.0, 10.5], log, "frozen"),
        "xla": Told([30.0], log, "xla"),
    }
    rows = {row.way: row for row in time_ways(ways, 0, "serving_default", SHAPES, Plan((7, 30), 60.0, (1,)))}
    assert rows["frozen"].speedup is not None
    assert rows["frozen"].speedup.verdict == "inconclusive"
    assert rows["frozen"].speedup.rounds == 30
    assert rows["xla"].speedup is not None
    assert rows["xla"].speedup.verdict == "slower"


def test_too_few_rounds_have_no_interval() -> None:
    log: list[str] = []
    ways = {"native": Told([10.0], log, "native"), "converted": Told([1.0], log, "converted")}
    converted = time_ways(ways, 0, "serving_default", SHAPES, Plan((2, 2), 60.0, (1,)))[1]
    assert converted.speedup is not None
    assert (converted.speedup.low, converted.speedup.high, converted.speedup.verdict) == (None, None, "inconclusive")


def test_a_way_whose_process_is_lost_says_why_and_the_others_go_on() -> None:
    log: list[str] = []
    ways = {"native": Told([10.0], log, "native"), "xla": Told([5.0], log, "xla", fails_at=3)}
    native, xla = time_ways(ways, 0, "serving_default", SHAPES, Plan((7, 7), 60.0, (1,)))
    assert xla.error == "its process ended, exit code -9"
    assert xla.median_ms is None
    assert native.calls == 70


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)])
def test_percentiles_are_values_that_were_measured(share: float, expected: int) -> None:
    assert find_percentile(list(range(1, 101)), share) == expected
    assert find_percentile([7.0], share) == 7.0


def test_turns_last_about_as_long_whatever_a_call_takes_and_at_most_200_samples_are_kept() -> None:
    assert [choose_calls(ms) for ms in (0.01, 10.0, 100.0, 5000.0)] == [20, 15, 1, 1]
    assert thin_out(list(range(1000))) == list(range(0, 1000, 5))
    assert thin_out([1.0, 2.0]) == [1.0, 2.0]


@pytest.mark.parametrize(("before", "after", "load", "word"), [
    ([1.0] * 40, [1.0] * 40, 0.0, "steady"),
    ([1.0] * 30 + [1.5] * 10, [1.0] * 40, 0.0, "differ by 50 %"),
    ([1.0] * 40, [1.2] * 40, 0.0, "took 20 % longer or shorter"),
    ([1.0] * 40, [1.0] * 40, 2.0, "load average 2.00 a core"),
])  # fmt: skip
def test_a_machine_is_steady_if_a_fixed_loop_takes_as_long_all_the_time(
    before: list[float], after: list[float], load: float, word: str
) -> None:
    found = judge_steady(before, after, load)
    assert found.ok is (word == "steady")
    assert word in found.told


def test_cold_starts_are_compared_round_by_round() -> None:
    def tell(cold: float) -> dict[str, float]:
        return {"import_s": 3.0, "load_s": cold / 2, "first_call_s": cold / 2, "second_call_s": 0.01}

    base = [tell(1.0 + place / 10) for place in range(9)]
    row = make_row(NOT_BUILT, [tell(2.0 + place / 5) for place in range(9)], base)
    assert row.cold_s == pytest.approx(2.8)
    assert row.speedup is not None
    assert (row.speedup.median, row.speedup.verdict) == (0.5, "slower")
    assert make_row(NEVER, base, base).speedup is None
    assert make_row(NOT_BUILT, [], base, "exit code 1: no room").error == "exit code 1: no room"


def test_inputs_travel_without_pickles(tmp_path: pathlib.Path) -> None:
    signature = Signature("k", (TensorSpec("x", "float32", (2,)), TensorSpec("words", "string", (2,))), ())
    sample = {"x": np.ones(2, np.float32), "words": np.array([b"a", "büro"], object)}
    dtypes = write_inputs(sample, signature, tmp_path / "inputs.npz")
    assert dtypes == {"x": "float32", "words": "string"}
    with np.load(tmp_path / "inputs.npz", allow_pickle=False) as file:
        assert file["words"].tolist() == [b"a", "büro".encode()]


@pytest.mark.parametrize(
    "wrong", [{"callers": (0,)}, {"rounds": (5, 2)}, {"processes": -1}, {"ways": ("native", "fast")}, {"timeout_s": 0}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionValueError, match=next(iter(wrong))):
        Settings(**wrong)


def test_what_is_printed_has_every_way_every_reason_and_the_answer() -> None:
    log: list[str] = []
    ways = {
        "native": Told([10.0], log, "native"),
        "converted": Told([2.0], log, "converted"),
        "xla": Told([1.0], log, "xla", fails_at=1),
    }
    rows = time_ways(ways, 0, "serving_default", SHAPES, PLAN)
    step = {"import_s": 3.0, "load_s": 1.0, "first_call_s": 0.5, "second_call_s": 0.01}
    cold = [
        make_row(way, [{**step, "load_s": load}], [step])
        for way, load in ((NOT_BUILT, 2.0), ("converted and built", 1.0))
    ]
    machine = {"processor": "a CPU", "cores": "2", "memory": "8 GB"}
    found = Bench("", machine, {}, tuple(rows), tuple(cold), Steady(False, "others were at work", 1, 1, 1))
    text = "\n".join(format_bench(found))
    assert "calls of serving_default, x=1x3" in text
    assert "5.00 [5.00, 5.00]" in text
    assert "xla, 1 callers: its process ended" in text
    assert "without build(): 2.500 s until the first answer instead of 1.500 s" in text
    assert "THE MACHINE WAS NOT STEADY: others were at work" in text
    assert json.loads(json.dumps(found.to_dict()))["version"] == 1
