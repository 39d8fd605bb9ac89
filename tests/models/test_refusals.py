"""Nodes that the lowering or the backend refuses stay native, with the reason; the rest of the model still gets engines."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest
from convert_here import convert, list_native

import beforehand
from beforehand import divide_graph
from beforehand.backends.openvino import OpenVinoBackend
from beforehand.backends.protocol import Refusal
from beforehand.cli.main import main
from beforehand.errors import LoweringError, NothingConvertedError

KEY = "serving_default"
REFUSED = "refused by backend"


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
    """Dense layers before and after determinants, for which tf2onnx has a translation and OpenVINO has none."""
    import tensorflow as tf

    rng = np.random.default_rng(3)
    module = tf.Module()
    module.first = tf.Variable(rng.normal(0, 0.5, (6, 9)).astype(np.float32))
    module.second = tf.Variable(rng.normal(0, 0.5, (2, 5)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32, name="x")])
    def call(x: Any) -> dict[str, Any]:
        squares = tf.reshape(tf.tanh(tf.matmul(x, module.first) + 0.1), [-1, 3, 3])
        one = tf.linalg.det(squares, name="determinant")
        two = tf.linalg.det(squares + 0.5 * tf.eye(3), name="shifted")
        return {"y": tf.nn.softmax(tf.tanh(tf.matmul(tf.stack([one, two], axis=1), module.second) + 0.2))}

    tf.saved_model.save(module, str(tmp_path / "source"), signatures={KEY: call})
    return tmp_path / "source"


def list_refused(converter: beforehand.Converter) -> dict[str, str]:
    return {name: node.detail for name, node in list_native(converter).items() if node.reason == REFUSED}


def check_answers(source: pathlib.Path, folder: pathlib.Path, engine_calls: int) -> None:
    import tensorflow as tf

    original, loaded = (tf.saved_model.load(str(path)) for path in (source, folder))
    x = tf.constant(np.random.default_rng(4).normal(size=(4, 6)).astype(np.float32))
    want, have = original.signatures[KEY](x=x)["y"].numpy(), loaded.signatures[KEY](x=x)["y"].numpy()
    assert np.ptp(want, axis=0).min() > 1e-3
    np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-4)
    assert beforehand.stats(loaded)["signatures"][KEY] == {"engine_calls": engine_calls, "native_calls": 0}


def test_what_openvino_refuses_stays_native_with_its_reason_in_manifest_and_inspection(
    source: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    converter = convert(source)
    reason = "OpenVINO has no conversion rule for Det-18"
    assert list_refused(converter) == {"determinant": reason, "shifted": reason}
    assert len(converter.segments) == 2
    assert len(converter.build(shapes={"x": (4, 6)})) == 2
    converter.save(tmp_path / "converted")
    check_answers(source, tmp_path / "converted", engine_calls=2)

    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "converted"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["native_nodes"]
    assert {(node["name"], node["detail"]) for node in found if node["reason"] == REFUSED} == {
        ("determinant", reason), ("shifted", reason),
    }  # fmt: skip
    assert main(["inspect", str(tmp_path / "converted")]) == 0
    told = capsys.readouterr().out
    assert f"{REFUSED}: 2 (MatrixDeterminant 2x)\n    MatrixDeterminant: {reason}\n" in told


def test_a_backend_that_names_no_nodes_leaves_the_same_ones_native(
    source: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = list_refused(convert(source))
    check, calls = OpenVinoBackend.check_model, []

    def check_without_names(self: OpenVinoBackend, onnx_file: str) -> Refusal | None:
        calls.append(onnx_file)
        refusal = check(self, onnx_file)
        return refusal and Refusal(refusal.reason)

    monkeypatch.setattr(OpenVinoBackend, "check_model", check_without_names)
    converter = convert(source)
    assert list_refused(converter) == named
    assert len(calls) < 40
    left = sorted(path.name.partition(".")[0] for path in converter._work.iterdir())
    assert left == ["TRTEngineOp_000_000", "TRTEngineOp_000_001"]  # trials leave nothing behind
    converter.build(shapes={"x": (4, 6)})
    converter.save(tmp_path / "converted")
    check_answers(source, tmp_path / "converted", engine_calls=2)


def test_a_lowering_that_fails_without_naming_nodes_is_searched_too(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower = divide_graph.lower_segment

    def lower_all_but_tanh(graph: Any, segment: Any, *rest: Any) -> Any:
        ops = {node.name: node.op for node in graph.graph_def.node}
        if any(ops[name] == "Tanh" for name in segment.nodes):
            raise LoweringError("tf2onnx cannot translate the segment", why="KeyError: 'shape'")
        return lower(graph, segment, *rest)

    monkeypatch.setattr(divide_graph, "lower_segment", lower_all_but_tanh)
    refused = list_refused(convert(source, minimum_segment_size=1))
    assert [name for name in refused if name.startswith("Tanh")] == ["Tanh", "Tanh_1"]
    assert refused["Tanh"] == "BH302 tf2onnx cannot translate the segment. KeyError: 'shape'."
    assert set(refused) == {"Tanh", "Tanh_1", "determinant", "shifted"}


def test_a_backend_that_refuses_everything_gives_an_error_that_counts_the_reasons(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenVinoBackend, "check_model", lambda self, onnx_file: Refusal("not today"))
    with pytest.raises(NothingConvertedError, match=rf"BH301 .*{REFUSED}: \d+"):
        convert(source)


def test_refusals_without_end_are_an_error_that_names_the_last_nodes(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divide_graph, "_MAX_REFUSALS", 1)
    with pytest.raises(LoweringError) as caught:
        convert(source)
    assert str(caught.value).startswith(
        "BH302 1 attempts to lower serving_default found new nodes to refuse each time. determinant: OpenVINO has no"
    )
    assert set(caught.value.nodes) == {"determinant", "shifted"}
    assert "Try: ops_denylist or nodes_denylist" in str(caught.value)
