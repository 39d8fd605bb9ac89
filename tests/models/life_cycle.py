"""A model's whole life cycle in three fresh processes: make, convert, load and compare. Results travel as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from expectations import Expectation, Shapes

HERE = pathlib.Path(__file__).parent


def run_python(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, with what this process can import."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("BEFOREHAND_", "TF_TRT_"))}
    environ["BEFOREHAND_CACHE"] = os.environ["BEFOREHAND_CACHE"]
    environ["BEFOREHAND_MIN_SPEEDUP"] = "0"  # small models: their engines are to run, faster or not
    path = os.pathsep.join(entry for entry in sys.path if entry and pathlib.Path(entry) != HERE)
    environ.update(PYTHONPATH=path, TF_CPP_MIN_LOG_LEVEL="3", **environment)
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=500, check=False)


def run_step(script: str, *arguments: Any, **environment: str) -> dict[str, Any]:
    """Run a script of this folder; what it printed last, as data."""
    process = run_python(HERE / script, *arguments, **environment)
    assert process.returncode == 0, f"{script} {arguments} failed:\n{process.stdout}\n{process.stderr[-6000:]}"
    result: dict[str, Any] = json.loads(process.stdout.strip().splitlines()[-1])
    return result


def run_jobs(script: str, jobs: Sequence[Mapping[str, Any]], **environment: str) -> list[dict[str, Any]]:
    """Run jobs in one process, which prints a line for each; a job that ends its process takes none of the others along."""
    results: list[dict[str, Any]] = []
    while len(results) < len(jobs):
        process = run_python(HERE / script, json.dumps(jobs[len(results) :]), **environment)
        lines = [line for line in process.stdout.splitlines() if line.startswith("{")]
        results.extend(map(json.loads, lines))
        if len(results) < len(jobs):
            results.append({"failed": f"{script} ended by {process.returncode}:\n{process.stderr[-6000:]}"})
    return results


def run_job(script: str, job: Mapping[str, Any], **environment: str) -> dict[str, Any]:
    """Run one job, which has to succeed."""
    [result] = run_jobs(script, [job], **environment)
    assert "failed" not in result, f"{script} {job} failed:\n{result['failed']}"
    return result


@dataclasses.dataclass(frozen=True)
class MadeModel:
    """A SavedModel on disk, and how each of its inputs is drawn (see draw_inputs.py)."""

    folder: pathlib.Path
    inputs: Mapping[str, Mapping[str, Any]]


def make_models(names: Sequence[str], folder: pathlib.Path) -> dict[str, MadeModel]:
    """Process 1."""
    made = run_step("make_model.py", folder, *names)
    return {name: MadeModel(folder / name / "source", made[name]) for name in names}


def describe_conversion(
    made: MadeModel,
    output: pathlib.Path,
    builds: Mapping[str, Sequence[Shapes]],
    *,
    api: str = "drop-in",
    form: str = "dict",
    calibration: str = "",
    **options: Any,
) -> dict[str, Any]:
    """A job for process 2."""
    job = {"api": api, "source": str(made.folder), "output": str(output), "inputs": made.inputs, "form": form}
    return {**job, "options": options, "builds": list(builds.items()), "calibration": calibration}


def describe_check(
    made: MadeModel,
    converted: pathlib.Path,
    built: Mapping[str, Sequence[Shapes]],
    unseen: Mapping[str, Shapes],
    **more: Any,
) -> dict[str, Any]:
    """A job for process 3."""
    job = {"source": str(made.folder), "converted": str(converted), "inputs": made.inputs}
    signatures = {key: {"built": shapes, "unseen": unseen.get(key)} for key, shapes in built.items()}
    defaults = {"seed": 1, "repeats": 2, "rtol": 1e-3, "atol": 1e-4}
    return {**defaults, **job, **more, "signatures": signatures}


def convert_model(
    made: MadeModel, output: pathlib.Path, builds: Mapping[str, Sequence[Shapes]], **more: Any
) -> dict[str, Any]:
    """Process 2, for one model; see `describe_conversion`."""
    return run_job("convert_model.py", describe_conversion(made, output, builds, **more))


def check_model(
    made: MadeModel,
    converted: pathlib.Path,
    built: Mapping[str, Sequence[Shapes]],
    unseen: Mapping[str, Shapes],
    **more: Any,
) -> dict[str, Any]:
    """Process 3, for one model; nothing may be built in it."""
    return run_job(
        "check_model.py", describe_check(made, converted, built, unseen, **more), BEFOREHAND_FORBID_BUILD="1"
    )


@dataclasses.dataclass(frozen=True)
class Life:
    """What the second and the third process told of a model, and where its source and the converted model lie."""

    converted: Mapping[str, Any]
    checked: Mapping[str, Any]
    source: pathlib.Path
    folder: pathlib.Path


def run_lives(made: Mapping[str, MadeModel], table: Mapping[str, Expectation], folder: pathlib.Path) -> dict[str, Life]:
    """Processes 2 and 3, for several models; a model's failure is told in its own life."""
    names = list(made)
    conversions = run_jobs(
        "convert_model.py",
        [
            describe_conversion(made[name], folder / name, table[name].built, api="own", **table[name].options)
            for name in names
        ],
    )
    converted = dict(zip(names, conversions, strict=True))
    good = [name for name in names if "failed" not in converted[name]]
    checks = run_jobs(
        "check_model.py",
        [
            describe_check(
                made[name],
                folder / name,
                table[name].built,
                table[name].unseen,
                rtol=table[name].rtol,
                atol=table[name].atol,
            )
            for name in good
        ],
        BEFOREHAND_FORBID_BUILD="1",
    )
    checked = dict(zip(good, checks, strict=True))
    failed = {"failed": "it was not converted"}
    return {name: Life(converted[name], checked.get(name, failed), made[name].folder, folder / name) for name in names}


def check_life(life: Life, expected: Expectation) -> None:
    """Assert all that the table expects of a model."""
    converted, checked = life.converted, life.checked
    assert "failed" not in converted, converted["failed"]
    assert "failed" not in checked, checked["failed"]
    for key, shapes in expected.built.items():
        segments = [segment for segment in converted["segments"] if segment["signature"] == key]
        names = {segment["name"] for segment in segments}
        engines = [engine for engine in converted["engines"] if engine["segment"] in names]
        reasons = [node for signature, node in converted["left_out"] if signature == key]
        share = sum(segment["share"] for segment in segments)
        assert share >= expected.share, f"{key}: {share:.4f} of the work is inside, left out: {reasons}"
        assert len(engines) <= expected.engines * len(shapes), f"{key}: {len(engines)} engines, left out: {reasons}"
        assert expected.segments in (None, len(segments)), f"{key}: {len(segments)} segments, left out: {reasons}"
    check_engines_answered(checked, segments=expected.segments, still=expected.still)
    if expected.unseen:
        check_unseen_is_native(checked, segments=expected.segments)


def check_engines_answered(checked: Mapping[str, Any], *, segments: int | None = 1, still: Sequence[str] = ()) -> None:
    """Assert that every call of a built shape was right and was answered by engines, `segments` of them a call."""
    built, stats = checked["built"], checked["built"]["stats"]
    engine_calls = native_calls = 0
    for key, result in checked["signatures"].items():
        for name, misfit in result["misfits"].items():
            assert misfit <= 0, (
                f"{key}: {name} is outside of the tolerance by {misfit}, off by {result['errors'][name]}"
            )
        for name, spread in result["spreads"].items():
            assert spread > 1e-3 or name in still, f"{key}: random inputs give the same {name}, nothing is compared"
        answered = stats["signatures"][key]["engine_calls"]
        if segments is None:
            assert answered >= result["calls"]
        else:
            assert answered == result["calls"] * segments
        engine_calls += answered
        native_calls += stats["signatures"][key]["native_calls"]
    assert native_calls == 0
    assert len(built["spy"]) == engine_calls
    assert sum(engine["engine_calls"] for engine in stats["engines"]) == engine_calls
    check_spied(built["spy"], stats["engines"])
    assert all(engine["loads"] == 1 for engine in stats["engines"])
    assert stats["builds"] == 0
    assert stats["unseen_shapes"] == []
    assert built["warnings"] == []


def check_spied(spied: Sequence[Any], engines: Sequence[Mapping[str, Any]]) -> None:
    """Assert that what reached the backend is what the counters say, engine by engine; ranges take what others leave."""
    left = [tuple(map(tuple, shapes)) for shapes in spied]
    for engine in sorted(engines, key=lambda item: item["max_shapes"] is not None):
        low = list(engine["shapes"].values())
        high = list((engine["max_shapes"] or engine["shapes"]).values())
        fits = [shapes for shapes in left if _lies_between(shapes, low, high)]
        assert len(fits) >= engine["engine_calls"]
        for shapes in fits[: engine["engine_calls"]]:
            left.remove(shapes)
    assert left == []


def _lies_between(shapes: Sequence[Any], low: Sequence[Any], high: Sequence[Any]) -> bool:
    return len(shapes) == len(low) and all(
        len(shape) == len(least) and all(a <= dim <= b for a, dim, b in zip(least, shape, most, strict=True))
        for shape, least, most in zip(shapes, low, high, strict=True)
    )


def check_unseen_is_native(checked: Mapping[str, Any], *, segments: int | None = 1) -> None:
    """Assert that the call of an unseen shape was right, answered by TensorFlow, counted and told once."""
    after = checked["unseen"]
    asked = {key: result for key, result in checked["signatures"].items() if "unseen_misfits" in result}
    assert asked
    for key, result in asked.items():
        for name, misfit in result["unseen_misfits"].items():
            assert misfit <= 0, f"{key}: {name} is outside of the tolerance by {misfit}"
        before, counted = (counts["stats"]["signatures"][key] for counts in (checked["built"], after))
        assert counted["engine_calls"] == before["engine_calls"]
        assert counted["native_calls"] == segments or (segments is None and counted["native_calls"])
    assert after["spy"] == []
    assert after["stats"]["builds"] == 0
    unseen = after["stats"]["unseen_shapes"]
    # A model that would build at run time, as the drop-in's do by default, says once that it must not.
    warnings = [text for text in after["warnings"] if "BEFOREHAND_FORBID_BUILD is set" not in text]
    assert len(warnings) == len(unseen)
    assert all("has no engine for the shapes" in text for text in warnings)
    if segments is not None:
        assert [item["count"] for item in unseen] == [1] * (segments * len(asked))
