"""Scripts of this folder, each in a process of its own: what they print as JSON, when they print it.

`options` are those of gpu.py: `folder`, which has the caches and the logs, and `at_once`.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

HERE = pathlib.Path(__file__).parent


def run_script(options: argparse.Namespace, name: str, job: dict[str, Any]) -> dict[str, Any]:
    """The JSON of the last line that a script of this folder prints, or {"failed": text}."""
    *_, last = [{"failed": f"{name} printed nothing"}, *stream_script(options, name, job)]
    return last


def stream_script(options: argparse.Namespace, name: str, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each line of JSON that a script prints, when it does; last {"failed": text} if it fails. Its log lies in the folder."""
    log = pathlib.Path(options.folder, f"{name.removesuffix('.py')}-{job.get('model', '')}-{time.monotonic_ns()}.log")
    with (
        log.open("w") as errors,
        subprocess.Popen(
            write_command(options, name, job),
            env=make_environment(options),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
    if process.returncode:
        last = [line for line in log.read_text().splitlines() if line.strip()][-1:] or ["it said nothing"]
        yield {"failed": f"{name} ended with {process.returncode}: {last[0][:400]} ({log})"}


def show_script(options: argparse.Namespace, name: str, job: dict[str, Any]) -> int:
    """Let a script print for us; its exit status."""
    return subprocess.run(write_command(options, name, job), env=make_environment(options), check=False).returncode


def write_command(options: argparse.Namespace, name: str, job: dict[str, Any]) -> list[str]:
    return [sys.executable, str(HERE / name), json.dumps({"folder": options.folder, **job})]


def make_environment(options: argparse.Namespace) -> dict[str, str]:
    """Caches of this run alone; Inductor's workers share the cores."""
    cores = len(os.sched_getaffinity(0))
    return {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
        "TORCHINDUCTOR_COMPILE_THREADS": str(max(1, cores // max(1, options.at_once))),
        **os.environ,
        "BEFOREHAND_CACHE": str(pathlib.Path(options.folder, "cache")),
        "TORCHINDUCTOR_CACHE_DIR": str(pathlib.Path(options.folder, "inductor")),
        "PYTHONPATH": os.pathsep.join([str(HERE.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
