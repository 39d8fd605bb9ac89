"""Cold starts in new processes, of a model in each state in random turns: what is lost without `build()` is a row."""

from __future__ import annotations

import json
import os
import pathlib
import random
import shutil
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from beforehand.benchmark.open_way import Sample
from beforehand.benchmark.records import ColdRow
from beforehand.benchmark.time_ways import compare
from beforehand.build_engines.settings import BuildSettings
from beforehand.build_engines.supervise import Watch, run_child
from beforehand.records import Signature
from beforehand.targets import slim

NEVER, NOT_BUILT, BUILT, ALONE = "never converted", "converted, not built", "converted and built", "without TensorFlow"
WAYS = (NEVER, NOT_BUILT, BUILT, ALONE)
_MODULE = "beforehand.benchmark.cold_child"
STEPS = ("import_s", "load_s", "first_call_s", "second_call_s")


def copy_without_engines(converted: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """The converted model as it is saved where `build` was not called; files are links where they can be."""

    def link(source: str, copy: str) -> None:
        try:
            os.link(source, copy)
        except OSError:
            shutil.copyfile(source, copy)

    shutil.copytree(converted, target, copy_function=link)
    slim(target, engines=False)  # writes a new manifest in the place of the link, and removes links
    return target


def write_inputs(sample: Sample, signature: Signature, file: pathlib.Path) -> dict[str, str]:
    """Write a sample as a `.npz` file without pickles; the dtypes that its arrays are to have."""
    dtypes = {spec.name: spec.dtype for spec in signature.inputs}
    arrays: dict[str, Any] = {}
    for name, array in sample.items():
        if array.dtype.kind in "OSU":
            arrays[name] = np.array([_to_bytes(item) for item in array.ravel()] or [b""], "S")[: array.size].reshape(
                array.shape
            )
        else:
            arrays[name] = array.astype(np.float32) if array.dtype.kind == "V" else array  # bfloat16 is of kind V
    np.savez(file, **arrays)
    return dtypes


def _to_bytes(item: Any) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode()


def time_cold(
    folders: Mapping[str, str], job: Mapping[str, Any], scratch: pathlib.Path, processes: int, timeout_s: float
) -> list[ColdRow]:
    """A row for each way: medians over `processes` new processes of each.

    Args:
        folders: Of each way the model's folder; or, after "!", why there is none.
        job: "signature", "inputs" and "dtypes", see `cold_child`.
        scratch: An empty folder for logs.
        processes: Of each way; one more, the first, is not counted: it finds files that were not read yet.
        timeout_s: Longest that a process may take.
    """
    told: dict[str, list[dict[str, float]]] = {way: [] for way in folders}
    errors = {way: text[1:] for way, text in folders.items() if text.startswith("!")}
    turns = random.Random(1)  # noqa: S311 (an order is no secret)
    for _ in range(1 + processes if processes else 0):
        order = [way for way in folders if way not in errors]
        for way in turns.sample(order, len(order)):
            found = _run(way, {**job, "way": way, "folder": folders[way]}, scratch, timeout_s)
            if isinstance(found, str):
                errors[way] = found
            else:
                told[way].append(found)
    return [make_row(way, told[way][1:], told.get(NEVER, [])[1:], errors.get(way, "")) for way in folders]


def _run(way: str, job: Mapping[str, Any], scratch: pathlib.Path, timeout_s: float) -> dict[str, float] | str:
    file = scratch / f"{way.replace(' ', '_').replace(',', '')}.json"
    file.write_text(json.dumps(job))
    outcome = run_child(_MODULE, [str(file)], scratch, file.stem, BuildSettings(timeout_s=timeout_s), Watch())
    if outcome.result:
        found: dict[str, float] = json.loads(outcome.result)
        return found
    lines = outcome.log.read_text(errors="replace").splitlines() if outcome.log.is_file() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it told nothing")
    return f"exit code {outcome.code}{', ' + outcome.stopped if outcome.stopped else ''}: {last}"[:500]


def make_row(way: str, told: list[dict[str, float]], base: list[dict[str, float]], error: str = "") -> ColdRow:
    """The row of one way, beside the processes of the same rounds of the model never converted."""
    if error or not told:
        return ColdRow(way, error=error or "not asked for")
    medians: dict[str, Any] = {step: round(statistics.median(one[step] for one in told), 4) for step in STEPS}
    cold = [one["load_s"] + one["first_call_s"] for one in told]
    speedup = None
    if way != NEVER and len(base) == len(told):
        speedup = compare([one["load_s"] + one["first_call_s"] for one in base], cold)
    return ColdRow(way, **medians, cold_s=round(statistics.median(cold), 4), processes=len(told), speedup=speedup)
