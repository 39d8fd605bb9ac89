"""Convert two models, build, save, load in a second process, check the answers, and print latencies.

The models are a MobileNetV2 with seeded random weights and a small network trained for a few epochs on scikit-learn's
digits. Nothing is downloaded. Each is built for batch 1 and 8. The second process compares with TensorFlow on fresh
random inputs and counts the calls that engines served; cold starts are measured in processes of their own.

Exit code 0, after the line `demo ok`, only if all answers agreed and engines served every call; else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from beforehand.check_packages import CONVERTING, check_packages
from beforehand.cli.format_inspection import format_table
from beforehand.cli.progress import log, show_progress, time_step
from beforehand.converter import Converter

FORMAT_VERSION = 1
BATCHES = (1, 8)
_TIMEOUT_S = 600.0
_CALLS, _QUICK_CALLS = 60, 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `beforehand demo`."""
    parser.add_argument(
        "--workdir", metavar="DIR", type=pathlib.Path, help="where models and demo.json go (default: a new folder)"
    )
    parser.add_argument("--quick", action="store_true", help="smaller images, fewer epochs and calls")


def run(arguments: argparse.Namespace) -> int:
    """Run it all; 0 if every answer agreed and came from an engine."""
    workdir = (arguments.workdir or pathlib.Path(tempfile.mkdtemp(prefix="beforehand-demo-"))).resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    with show_progress():
        check_packages("the demo", (*CONVERTING, "sklearn"))
        rows = [
            row for model in _make_models(workdir, quick=arguments.quick) for row in _try_model(model, arguments.quick)
        ]
    ok = all(row["answers_agree"] and row["served_by_engines"] for row in rows)
    file = workdir / "demo.json"
    file.write_text(
        json.dumps({"format_version": FORMAT_VERSION, "ok": ok, "quick": arguments.quick, "rows": rows}, indent=1)
    )
    print("\n".join(["", *format_rows(rows), "", f"figures: {file}"]))
    print("demo ok" if ok else "demo FAILED: see the columns `answers` and `by engines`")
    return 0 if ok else 1


def _make_models(workdir: pathlib.Path, *, quick: bool) -> list[dict[str, Any]]:
    """Export and convert each model; what the second process needs to know of it."""
    from beforehand.cli.make_demo_models import make_demo_models  # noqa: PLC0415 (imports Keras)

    made = []
    for name, model in make_demo_models(quick=quick):
        source, target = workdir / name / "native", workdir / name / "converted"
        with time_step(f"exporting {name}"):
            model.export(str(source), verbose=False)
        converter = Converter(source, min_speedup=None)  # it is to be seen what engines do, faster or not
        with time_step(f"converting {name}"):
            converter.convert()
        (spec,) = converter.signatures[0].inputs
        image = tuple(dim for dim in spec.shape or () if dim is not None)
        converter.build(shapes=[{spec.name: (batch, *image)} for batch in BATCHES])
        with time_step(f"saving {name}"):
            converter.save(target)
        made.append({"name": name, "native": str(source), "converted": str(target), "input": spec.name, "image": image})
    return made


def _try_model(model: dict[str, Any], quick: bool) -> list[dict[str, Any]]:
    """One row of the table for each batch."""
    rows = []
    for batch in BATCHES:
        task = {**model, "batch": batch, "seed": 100 + batch, "calls": _QUICK_CALLS if quick else _CALLS}
        log.info("%s, batch %d: a second process loads it, checks its answers and times it", model["name"], batch)
        row = {"model": model["name"], "batch": batch, **run_second_process("compare", task)}
        row["ratio"] = row["native_ms"] / row["converted_ms"]
        for kind in ("native", "converted"):
            row[f"cold_{kind}_s"] = run_second_process("start", {**task, "folder": model[kind]})["seconds"]
        rows.append(row)
    return rows


def run_second_process(job: str, task: dict[str, Any]) -> dict[str, Any]:
    """What `beforehand.cli.demo_second_process` says of a task.

    Raises:
        subprocess.CalledProcessError: It failed; its own words stand on stderr.
    """
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "BEFOREHAND_DISABLE": "",
        "BEFOREHAND_FORBID_BUILD": "1",  # nothing may be built after save()
    }
    command = [sys.executable, "-m", "beforehand.cli.demo_second_process", job, json.dumps(task)]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, timeout=_TIMEOUT_S, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return found


def format_rows(rows: list[dict[str, Any]]) -> list[str]:
    """The table; the ratio is native time by converted time, cold start is from load to the first answer."""
    head = (
        "model", "batch", "native ms", "converted ms", "ratio", "cold native s", "cold converted s", "answers",
        "by engines",
    )  # fmt: skip
    table = [head]
    for row in rows:
        table.append(
            (
                row["model"], str(row["batch"]), f"{row['native_ms']:.2f}", f"{row['converted_ms']:.2f}",
                f"{row['ratio']:.2f}x", f"{row['cold_native_s']:.2f}",
                f"{row['cold_converted_s']:.2f}", "agree" if row["answers_agree"] else "DIFFER",
                f"{row['engine_calls']} of {row['engine_calls'] + row['native_calls']}",
            )
        )  # fmt: skip
    worst = max(row["max_difference"] for row in rows)
    slower = [row["converted_ms"] - row["native_ms"] for row in rows if row["ratio"] < 1]
    cost = (
        f"ratio below 1: slower by up to {max(slower, default=0):.2f} ms a call; "
        "so small a model does not repay the way from TensorFlow to an engine"
    )
    lines = [*format_table(table), *([cost] if slower else [])]
    return [*lines, f"largest difference of an answer: {worst:.1e} (medians of {rows[0]['calls']} calls)"]
