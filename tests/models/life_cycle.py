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

HERE = pathlib.Path(__file__).parent
Shapes = Mapping[str, Sequence[int]]


def run_python(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, with what this process can import."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("BEFOREHAND_", "TF_TRT_"))}
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


@dataclasses.dataclass(frozen=True)
class MadeModel:
    """A SavedModel on disk, and the scales of its inputs."""

    folder: pathlib.Path
    scales: Mapping[str, float]


def make_models(names: Sequence[str], folder: pathlib.Path) -> dict[str, MadeModel]:
    """Process 1."""
    made = run_step("make_model.py", folder, *names)
    return {name: MadeModel(folder / name / "source", made[name]) for name in names}


def convert_model(
    source: pathlib.Path,
    output: pathlib.Path,
    builds: Mapping[str, Sequence[Shapes]],
    *,
    api: str = "drop-in",
    form: str = "dict",
    **options: Any,
) -> dict[str, Any]:
    """Process 2."""
    job = {"api": api, "source": str(source), "output": str(output), "form": form, "options": options}
    return run_step("convert_model.py", json.dumps({**job, "builds": list(builds.items())}))


def check_model(
    made: MadeModel,
    converted: pathlib.Path,
    built: Mapping[str, Sequence[Shapes]],
    unseen: Mapping[str, Shapes],
    *,
    repeats: int = 2,
    **more: Any,
) -> dict[str, Any]:
    """Process 3, where nothing may be built."""
    signatures = {key: {"built": shapes, "unseen": unseen.get(key)} for key, shapes in built.items()}
    job = {"source": str(made.folder), "converted": str(converted), "scales": made.scales, "seed": 1, **more}
    job = {**job, "repeats": repeats, "signatures": signatures}
    return run_step("check_model.py", json.dumps(job), BEFOREHAND_FORBID_BUILD="1")


def check_engines_answered(checked: Mapping[str, Any], *, segments: int = 1) -> None:
    """Assert that every call of a built shape was right and was answered by engines, `segments` of them a call."""
    built, stats = checked["built"], checked["built"]["stats"]
    engine_calls = native_calls = calls = 0
    for key, result in checked["signatures"].items():
        assert result["misfit"] <= 0, f"{key}: outside of the tolerance by {result['misfit']}"
        assert result["spread"] > 1e-3, f"{key}: random inputs give the same answer, nothing is compared"
        assert stats["signatures"][key]["engine_calls"] == result["calls"] * segments
        engine_calls += stats["signatures"][key]["engine_calls"]
        native_calls += stats["signatures"][key]["native_calls"]
        calls += result["calls"]
    assert len(built["spy"]) == engine_calls == calls * segments
    assert sum(engine["engine_calls"] for engine in stats["engines"]) == engine_calls
    assert sorted(built["spy"]) == sorted(
        list(engine["shapes"].values()) for engine in stats["engines"] for _ in range(engine["engine_calls"])
    )
    assert all(engine["loads"] == 1 for engine in stats["engines"])
    assert native_calls == 0
    assert stats["builds"] == 0
    assert stats["unseen_shapes"] == []
    assert built["warnings"] == []


def check_unseen_is_native(checked: Mapping[str, Any], *, segments: int = 1) -> None:
    """Assert that the call of an unseen shape was right, answered by TensorFlow, counted and told once."""
    after = checked["unseen"]
    asked = {key: result for key, result in checked["signatures"].items() if "unseen_misfit" in result}
    assert asked
    for key, result in asked.items():
        assert result["unseen_misfit"] <= 0, f"{key}: outside of the tolerance by {result['unseen_misfit']}"
        before = checked["built"]["stats"]["signatures"][key]
        assert after["stats"]["signatures"][key] == {**before, "native_calls": segments}
    assert after["spy"] == []
    assert after["stats"]["builds"] == 0
    assert [item["count"] for item in after["stats"]["unseen_shapes"]] == [1] * (segments * len(asked))
    assert len(after["warnings"]) == segments * len(asked)
    assert all("has no engine for the shapes" in text for text in after["warnings"])
