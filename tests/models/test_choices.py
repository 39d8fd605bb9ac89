"""What users exclude, and how small a segment may be, through the whole conversion; and that it is the same in every process."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from convert_here import convert, list_native

import beforehand
from beforehand.errors import NothingConvertedError
from beforehand.store import layout

KEY = "serving_default"
EXCLUDED, TOO_SMALL = "excluded by user", "segment too small"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A large segment, an op that ONNX does not have, and a small segment behind it."""
    import tensorflow as tf

    rng = np.random.default_rng(8)
    module = tf.Module()
    module.first = tf.Variable(rng.normal(0, 0.5, (6, 8)).astype(np.float32))
    module.second = tf.Variable(rng.normal(0, 0.5, (8, 8)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32, name="x")])
    def call(x: Any) -> dict[str, Any]:
        hidden = tf.tanh(tf.matmul(x, module.first, name="one") + 0.1)
        hidden = tf.sigmoid(tf.matmul(hidden, module.second, name="two") + 0.1)
        return {"y": tf.exp(tf.math.betainc(tf.constant(2.0), tf.constant(3.0), hidden))}

    folder = tmp_path_factory.mktemp("choices") / "source"
    tf.saved_model.save(module, str(folder), signatures={KEY: call})
    return folder


def list_ops(converter: beforehand.Converter) -> list[set[str]]:
    """The ops of each segment, constants apart."""
    return [{op for op, _ in segment.node_ops} - {"Const"} for segment in converter.segments]


def check_answers(source: pathlib.Path, converter: beforehand.Converter) -> None:
    import tensorflow as tf

    converter.build(shapes={"x": (3, 6)})
    x = tf.constant(np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32))
    [have] = converter._converted[3].functions[KEY](x=x).values()  # type: ignore[index]
    [want] = tf.saved_model.load(str(source)).signatures[KEY](x=x).values()
    np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-4)


def test_segments_below_the_minimum_stay_native_with_that_reason(source: pathlib.Path) -> None:
    all_kept, default = convert(source, minimum_segment_size=1), convert(source)
    assert list_ops(all_kept)[-1] == {"Exp", "Identity"}  # the Identity of an output is not counted
    assert len(all_kept.segments) == len(default.segments) + 1
    assert TOO_SMALL not in {node.reason for node in list_native(all_kept).values()}
    assert {node.op for node in list_native(default).values() if node.reason == TOO_SMALL} == {"Exp", "Identity"}
    sizes = sorted(segment.nodes for segment in all_kept.segments)
    assert min(segment.nodes for segment in convert(source, minimum_segment_size=sizes[-1]).segments) == sizes[-1]
    for number in (sizes[-1] + 1, -1):
        with pytest.raises(NothingConvertedError, match=rf"{TOO_SMALL}: \d"):
            convert(source, minimum_segment_size=number)
    check_answers(source, all_kept)


@pytest.mark.parametrize("way", ["option", "environment", "both"])
def test_denied_ops_stay_native_and_divide_what_was_one_segment(
    way: str, source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way != "option":
        monkeypatch.setenv("TF_TRT_OP_DENYLIST", "Sigmoid, Tanh" if way == "environment" else "Sigmoid")
    denied = {"option": ("Tanh", "Sigmoid"), "both": ("Tanh",)}.get(way, ())
    converter = convert(source, minimum_segment_size=1, ops_denylist=denied)
    excluded = {node.op for node in list_native(converter).values() if node.reason == EXCLUDED}
    assert excluded == {"Tanh", "Sigmoid"}
    assert not {"Tanh", "Sigmoid"} & set().union(*list_ops(converter))
    assert sum("MatMul" in ops for ops in list_ops(converter)) == 2
    check_answers(source, converter)


def test_a_denied_node_alone_stays_native(source: pathlib.Path) -> None:
    converter = convert(source, nodes_denylist=["two"])
    excluded = {name: node.op for name, node in list_native(converter).items() if node.reason == EXCLUDED}
    assert excluded == {"two": "MatMul"}
    assert sum("MatMul" in ops for ops in list_ops(converter)) == 1


CONVERT = """
import hashlib, json, pathlib, sys
import beforehand
converter = beforehand.Converter(sys.argv[1], minimum_segment_size=1, ops_denylist=["Tanh"])
converter.convert()
engines = converter.build(shapes={"x": ((1, 4), 6)})
lowered = converter._converted[1].lowered
bytes_of = lambda item: [file.read_bytes() for file in sorted(pathlib.Path(item.onnx_file).parent.iterdir())]
print(json.dumps({
    "segments": [[item.segment.name, item.segment.nodes, item.segment.constants, item.segment.inputs[0].name] for item in lowered],
    "onnx": [[hashlib.sha256(data).hexdigest() for data in bytes_of(item)] for item in lowered],
    "digests": [item.digest for item in lowered],
    "keys": [engine.key for engine in engines],
    "native": [[node.name, node.reason] for _, node in converter._make_manifest(()).native_nodes],
}))
"""


def test_segments_onnx_bytes_and_keys_are_the_same_in_every_process(source: pathlib.Path) -> None:
    found = []
    for seed in ("0", "1", "4242"):
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", CONVERT, str(source)], env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(done.stdout.splitlines()[-1]))
    assert len(found[0]["keys"]) == len(set(found[0]["keys"])) >= 3
    assert all(len(files) == len((layout.ONNX_MODEL, layout.ONNX_WEIGHTS)) for files in found[0]["onnx"])
    assert found[1] == found[0]
    assert found[2] == found[0]
