"""What a user sees who asked for no log, and one who did; each in a process of its own, as handlers are a process's."""

from __future__ import annotations

import pathlib
import re

import pytest
from life_cycle import run_python

EVERYTHING = """
import beforehand
for name in beforehand.__all__:
    getattr(beforehand, name)
"""
STEPS = """
import logging, sys
{before}
import beforehand
converter = beforehand.Converter({source!r}{options})
converter.convert()
print("-", file=sys.stderr)
converter.build(shapes={{"x": (2, 16)}})
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    import numpy as np
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("logs") / "source"
    module = tf.Module()
    module.weights = tf.Variable(np.random.default_rng().normal(size=(16, 4)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 16], tf.float32, "x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        y = tf.nn.softmax(tf.nn.relu(x @ module.weights))
        return {"y": y, "text": tf.strings.as_string(tf.argmax(y, axis=1))}

    tf.saved_model.save(module, str(folder), signatures=serve)
    return folder


def read_lines(source: pathlib.Path, *, before: str = "", options: str = "", **environment: str) -> list[list[str]]:
    """Lines of ours on stderr, of convert() and of build(); TensorFlow's own apart."""
    script = STEPS.format(source=str(source), before=before, options=options)
    process = run_python("-c", script, **environment)
    assert process.returncode == 0, process.stderr
    assert process.stdout == ""
    converting, building = process.stderr.split("-\n", 1)
    return [[line for line in text.splitlines() if "beforehand" in line] for text in (converting, building)]


def test_an_import_prints_nothing_whatever_is_used_of_it() -> None:
    process = run_python("-c", EVERYTHING)
    assert process.returncode == 0, process.stderr
    assert (process.stdout, process.stderr) == ("", "")


def test_convert_tells_one_line_and_build_one_beside_its_progress(source: pathlib.Path) -> None:
    converting, building = read_lines(source, options=", min_speedup=0")
    [line] = converting
    assert line.startswith("beforehand: converted in ")
    assert "nodes in 1 segment, " in line
    assert "in TensorFlow: resource or string " in line
    told = [line for line in building if line.startswith("beforehand: built in ")]
    assert len(told) == 1
    assert re.search(r": 1 engine, \d+\.\d kB$", told[0])
    progress = [line for line in building if line not in told]
    assert progress
    assert all(line.startswith(("beforehand: engine 1 of 1 ", "beforehand: 1 engine: ")) for line in progress)


@pytest.mark.parametrize("progress", ["off", "log"])
def test_without_progress_nothing_is_told(source: pathlib.Path, progress: str) -> None:
    assert read_lines(source, options=f", progress={progress!r}") == [[], []]


def test_a_program_that_logs_gets_the_lines_once(source: pathlib.Path) -> None:
    before = "logging.basicConfig(level=logging.INFO, format='LOG %(name)s %(message)s')"
    converting, building = read_lines(source, before=before)
    assert len([line for line in converting if "converted in" in line]) == 1
    assert converting[0].startswith("LOG beforehand converted in")
    assert len([line for line in building if "built in" in line and "engine 1" not in line]) == 1


def test_debug_tells_all_and_error_nothing(source: pathlib.Path) -> None:
    converting, building = read_lines(source, BEFOREHAND_LOG="debug")
    text = "\n".join(converting)
    assert "beforehand DEBUG serving_default: " in text
    assert "beforehand DEBUG TRTEngineOp_000_000: " in text
    assert text.count("beforehand INFO converted in") == 1
    assert "\n".join(building).count("beforehand INFO built in") == 1
    assert read_lines(source, options=", progress='off'", BEFOREHAND_LOG="error") == [[], []]


def test_a_level_that_does_not_exist_is_told_and_fails_nothing() -> None:
    process = run_python("-c", "import beforehand", BEFOREHAND_LOG="verbose")
    assert process.returncode == 0
    assert "BEFOREHAND_LOG is 'verbose' and changes nothing: one of debug, info, warning, error" in process.stderr
