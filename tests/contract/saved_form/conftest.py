"""Models made once, and fresh processes for everything that is checked on them."""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

HERE = pathlib.Path(__file__).parent
Scenario = Callable[..., Any]


def run_script(*arguments: str, cwd: pathlib.Path, **environ: str) -> str:
    """Run Python on a script of this folder, from a folder that has nothing to do with it."""
    given = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environ}
    command = [sys.executable, *arguments]
    process = subprocess.run(command, cwd=cwd, env=given, capture_output=True, text=True, check=False)
    assert process.returncode == 0, f"{arguments} failed:\n{process.stdout[-2000:]}\n{process.stderr[-6000:]}"
    return process.stdout


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a/source, a/converted, b/source, b/converted (see make_models.py); tests do not write into it."""
    folder = tmp_path_factory.mktemp("contract")
    run_script(str(HERE / "make_models.py"), str(folder), cwd=folder)
    return folder


@pytest.fixture(scope="session")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """Runs a scenario of child.py in a process of its own: `scenario(name, environ=None, **given)`."""

    def run(name: str, environ: dict[str, str] | None = None, **given: Any) -> Any:
        texts = {key: str(value) if isinstance(value, pathlib.Path) else value for key, value in given.items()}
        output = run_script(
            str(HERE / "child.py"), name, json.dumps(texts), cwd=tmp_path_factory.mktemp(name), **(environ or {})
        )
        return json.loads(output.strip().splitlines()[-1])

    return run
