"""What is explained: reasons, layers, shares, and what a change would bring, which is what it then does bring."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import beforehand
from beforehand.errors import (
    BackendError,
    ManifestError,
    OptionValueError,
    SignatureError,
    SourceNotFoundError,
    UnknownOptionError,
)
from beforehand.explanation.explanation import Change, ExplainedGraph, Explanation
from beforehand.segment import reasons

X = tf.TensorSpec([None, 8], tf.float32, name="x")
WIDTH = 8


class Model(tf.Module):
    """A function between two products, in scopes as Keras has them; saved in one signature, or in several."""

    def __init__(self, middle: Callable[[Any], Any]) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.first, self.second = (tf.Variable(rng.normal(size=(8, 8)).astype(np.float32)) for _ in range(2))
        self.middle = middle

    def call(self, x: Any) -> dict[str, Any]:
        with tf.name_scope("model/before"):
            x = tf.nn.relu(tf.matmul(x, self.first) + 1.0)
        with tf.name_scope("model/middle"):
            x = self.middle(x)
        with tf.name_scope("model/after"):
            return {"y": tf.nn.softmax(tf.matmul(tf.nn.relu(x), self.second))}


def save(folder: pathlib.Path, middle: Callable[[Any], Any], *keys: str, spec: Any = X) -> pathlib.Path:
    module = Model(middle)
    function = tf.function(module.call, input_signature=[spec], autograph=False)
    module.functions = [function]
    tf.saved_model.save(module, str(folder / "source"), signatures=dict.fromkeys(keys or ["serving_default"], function))
    return folder / "source"


def explain(source: Any, **options: Any) -> ExplainedGraph:
    [graph] = beforehand.explain(source, backends=["openvino"], **options).find("openvino").graphs
    return graph


def find(graph: ExplainedGraph, reason: str) -> Change:
    [change] = [change for change in graph.changes if change.reason == reason]
    return change


def count_inside(graph: ExplainedGraph) -> int:
    return sum(segment.nodes for segment in graph.segments)


@pytest.fixture
def blocked(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two segments around an op that has no translation."""
    return save(tmp_path, lambda x: tf.math.betainc(x, x, tf.nn.sigmoid(x)))


def test_a_blocked_op_is_named_with_its_layer_and_what_it_costs(blocked: pathlib.Path) -> None:
    graph = explain(blocked)
    [node] = [node for node in graph.native if node.reason == reasons.OP_UNSUPPORTED]
    assert (node.op, node.layer, node.inside) == ("Betainc", "model/middle", "")
    assert node.flops == WIDTH  # one for each element of a row
    products = 2 * 2 * WIDTH * WIDTH
    assert graph.flops is not None
    assert products < graph.flops < products + 10 * WIDTH
    assert graph.flops_share == pytest.approx(1 - sum(node.flops or 0 for node in graph.native) / graph.flops)
    assert [segment.layers for segment in graph.segments] == [("model/before", "model/middle"), ("model/after",)]
    change = find(graph, reasons.OP_UNSUPPORTED)
    assert (change.what, change.ops, change.native_nodes, change.layers) == (
        "Betainc",
        ("Betainc",),
        1,
        ("model/middle",),
    )
    assert (change.nodes, change.segments) == (1, 1)
    assert change.flops_share == pytest.approx(WIDTH / graph.flops)


def test_a_layer_has_its_nodes_inside_and_outside(blocked: pathlib.Path) -> None:
    graph = explain(blocked)
    layers = {layer.name: layer for layer in graph.layers}
    middle = layers["model/middle"]
    assert (middle.nodes, middle.native_nodes, middle.flops, middle.native_flops) == (2, 1, 2 * WIDTH, WIDTH)
    assert layers["model/before"].native_nodes == 0
    assert sum(layer.nodes for layer in graph.layers) == graph.nodes
    assert sum(layer.flops for layer in graph.layers) == graph.flops


def test_what_an_exclusion_costs_is_what_comes_in_without_it(tmp_path: pathlib.Path) -> None:
    source = save(tmp_path, lambda x: tf.tanh(tf.tanh(x) * 2.0))
    without, excluded = explain(source), explain(source, ops_denylist=["Tanh"])
    change = find(excluded, reasons.EXCLUDED)
    assert (change.what, change.native_nodes) == ("Tanh", 2)
    assert "ops_denylist" in change.advice
    assert change.nodes == count_inside(without) - count_inside(excluded) == 3  # and the product between them
    assert change.flops_share == pytest.approx(without.flops_share - excluded.flops_share)
    assert change.segments == len(without.segments) == 1
    named = explain(source, nodes_denylist=[node.name for node in excluded.native if node.op == "Tanh"])
    assert find(named, reasons.EXCLUDED).what == "nodes_denylist"
    assert find(named, reasons.EXCLUDED).nodes == change.nodes


def test_an_exclusion_from_the_environment_is_named_by_its_variable(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_TRT_OP_DENYLIST", "Tanh")
    assert "TF_TRT_OP_DENYLIST" in find(explain(save(tmp_path, tf.tanh)), reasons.EXCLUDED).advice


def test_nothing_is_promised_of_an_exclusion_of_what_no_engine_takes(blocked: pathlib.Path) -> None:
    change = find(explain(blocked, ops_denylist=["Betainc"]), reasons.EXCLUDED)
    assert (change.nodes, change.flops_share, change.segments) == (0, 0, 2)


def test_what_a_smaller_segment_size_brings_is_what_comes_in_with_it(blocked: pathlib.Path) -> None:
    small, large = explain(blocked, minimum_segment_size=1), explain(blocked, minimum_segment_size=6)
    change = find(large, reasons.TOO_SMALL)
    assert 0 < count_inside(large) < count_inside(small)
    assert change.nodes == count_inside(small) - count_inside(large)
    assert change.flops_share == pytest.approx(small.flops_share - large.flops_share)
    assert change.segments == len(small.segments)
    assert "minimum_segment_size=1 (it is 6)" in change.advice


def test_what_more_engines_bring_is_what_comes_in_with_them(blocked: pathlib.Path) -> None:
    all_of_them, one = explain(blocked), explain(blocked, max_engines=1)
    change = find(one, reasons.TOO_MANY)
    assert change.nodes == count_inside(all_of_them) - count_inside(one) > 0
    assert change.segments == 2


def test_a_model_left_native_altogether_is_explained_too(blocked: pathlib.Path) -> None:
    graph = explain(blocked, minimum_segment_size=-1)
    assert graph.segments == ()
    assert graph.flops_share == 0
    assert find(graph, reasons.TOO_SMALL).segments == 2


def test_a_dtype_names_the_backends_that_take_it(tmp_path: pathlib.Path) -> None:
    source = save(tmp_path, lambda x: tf.cast(tf.tanh(tf.cast(x, tf.float16)), tf.float32))
    change = find(explain(source), reasons.DTYPE)
    assert change.what == "float16"
    assert "tensorrt-rtx" in change.advice
    assert change.nodes == 3
    assert change.segments == 1


def test_an_unknown_rank_is_a_reason_and_knowing_it_would_help(tmp_path: pathlib.Path) -> None:
    source = save(tmp_path, lambda x: tf.reshape(tf.tanh(x), [-1, 8]), spec=tf.TensorSpec(None, tf.float32, name="x"))
    graph = explain(source)
    change = find(graph, reasons.UNKNOWN_RANK)
    assert change.nodes >= change.native_nodes > 0
    assert "TensorSpec" in change.advice


def test_of_strings_nothing_is_promised_but_what_they_keep_out(tmp_path: pathlib.Path) -> None:
    source = save(tmp_path, lambda x: x + tf.strings.to_number(tf.strings.as_string(tf.reduce_sum(x))))
    change = find(explain(source), reasons.RESOURCE_OR_STRING)
    assert (change.what, change.native_nodes, change.nodes) == ("string", 2, 0)


def test_nodes_in_a_body_are_in_the_layer_of_the_loop(tmp_path: pathlib.Path) -> None:
    def middle(x: Any) -> Any:
        with tf.name_scope("rounds"):
            weights = tf.constant(np.random.default_rng(1).normal(size=(8, 400, 400)).astype(np.float32))

            def body(i: Any, y: Any) -> Any:
                tf.print("round", i)
                wide = tf.tile(y, [1, 50]) @ weights[i]
                return i + 1, tf.tanh(wide @ weights[i])[:, :8]

            return tf.while_loop(lambda i, y: i < 3, body, (0, x))[1]

    spec = tf.TensorSpec([16, 8], tf.float32, name="x")
    graph = explain(save(tmp_path, middle, spec=spec))
    loop = next(node for node in graph.native if node.op.endswith("While"))
    inner = [node for node in graph.native if node.inside]
    assert inner
    assert {node.inside for node in inner} == {loop.name}
    assert {node.layer for node in inner} == {loop.layer} == {"model/middle/rounds"}
    assert loop.flops == 0  # those of its body are its body's
    assert [segment.inside for segment in graph.segments].count(loop.name) == 1


def test_signatures_of_one_graph_are_explained_once(tmp_path: pathlib.Path) -> None:
    source = save(tmp_path, tf.tanh, "serving_default", "again")
    graph = explain(source)
    assert graph.signatures == ("serving_default", "again")
    assert explain(source, signatures=["again"]).signatures == ("again",)


def test_a_module_and_a_keras_model_are_explained_as_they_are() -> None:
    class Plain(tf.Module):
        @tf.function(input_signature=[X])
        def __call__(self, x: Any) -> Any:
            return tf.nn.softmax(tf.tanh(x) * 2.0)

    explanation = beforehand.explain(Plain(), backends=["openvino"])
    assert explanation.source == "Plain"
    assert explanation.find("openvino").graphs[0].native == ()


def test_every_backend_is_asked_or_told_why_not(blocked: pathlib.Path) -> None:
    explanation = beforehand.explain(blocked)
    told = {item.backend for item in explanation.backends} | {item.backend for item in explanation.skipped}
    assert told == {"openvino", "tensorrt-rtx", "tensorrt"}
    assert "openvino" in {item.backend for item in explanation.backends}
    assert all(item.why and item.advice for item in explanation.skipped)


def test_a_backend_that_was_asked_for_must_be_there(blocked: pathlib.Path) -> None:
    missing = [item.backend for item in beforehand.explain(blocked).skipped]
    for name in missing:
        with pytest.raises(BackendError, match="cannot be used here"):
            beforehand.explain(blocked, backends=[name])
    with pytest.raises(BackendError, match=r"did you mean `openvino`\?"):
        beforehand.explain(blocked, backends=["openvno"])


def test_typing_errors_are_refused_with_what_was_meant(blocked: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(SignatureError, match=r"serving_default.*did you mean `serving_default`\?"):
        explain(blocked, signatures=["serving_defualt"])
    with pytest.raises(UnknownOptionError, match="did you mean `minimum_segment_size`"):
        explain(blocked, minimum_segmnet_size=3)
    with pytest.raises(UnknownOptionError, match="did you mean `backends`"):
        beforehand.explain(blocked, backend="openvino")
    with pytest.raises(OptionValueError):
        explain(blocked, minimum_segment_size=0)
    with pytest.raises(SourceNotFoundError):
        explain(tmp_path / "elsewhere")


def test_the_json_has_everything_and_its_version(blocked: pathlib.Path) -> None:
    explanation = beforehand.explain(blocked, backends=["openvino"])
    data = json.loads(json.dumps(explanation.to_dict()))
    assert (data["version"], data["kind"], data["source"]) == (1, "source", str(blocked))
    [graph] = data["backends"][0]["graphs"]
    [told] = explanation.find("openvino").graphs
    assert graph["reasons"] == told.count_reasons()
    assert graph["flops_share"] == told.flops_share
    assert [node["name"] for node in graph["native"]] == [node.name for node in told.native]
    assert graph["segments"][0]["inputs"] == [{"name": "x", "dtype": "float32", "shape": [None, 8]}]


def test_a_table_has_a_row_for_each_native_node(blocked: pathlib.Path) -> None:
    explanation = beforehand.explain(blocked, backends=["openvino"], minimum_segment_size=7)
    frame = explanation.to_pandas()
    native = explanation.find("openvino").graphs[0].native
    assert list(frame["node"]) == [node.name for node in native]
    assert frame.groupby("reason").size().to_dict() == explanation.find("openvino").graphs[0].count_reasons()
    assert frame["flops"].sum() == sum(node.flops or 0 for node in native)
    assert list(Explanation("x", "source", ()).to_pandas().columns) == list(frame.columns)


def test_without_pandas_a_table_is_refused_with_advice() -> None:
    script = """
from beforehand.errors import BackendError
from beforehand.explanation.explanation import Explanation
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "pandas" else found(name, *rest)
try:
    Explanation("x", "source", ()).to_pandas()
except BackendError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "BH701 to_pandas() needs packages that are not installed: pandas. Try: pip install pandas." in result.stdout


def test_a_converted_model_is_explained_by_its_manifest_without_tensorflow(
    tmp_path: pathlib.Path, blocked: pathlib.Path
) -> None:
    converter = beforehand.Converter(blocked, progress="off")
    converter.convert()
    converter.save(tmp_path / "converted")
    script = f"""
import sys, beforehand
explanation = beforehand.explain({str(tmp_path / "converted")!r})
assert "tensorflow" not in sys.modules
print([(node.name, node.reason) for node in explanation.find("openvino").graphs[0].native])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str([(node.name, node.reason) for node in explain(blocked).native])
    with pytest.raises(SignatureError, match="did you mean `serving_default`"):
        beforehand.explain(tmp_path / "converted", signatures=["serving_defaul"])
    (tmp_path / "converted" / "assets" / "beforehand.json").write_text("{")
    with pytest.raises(ManifestError):
        beforehand.explain(tmp_path / "converted")
