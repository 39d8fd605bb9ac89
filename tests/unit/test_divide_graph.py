"""A graph divided and lowered: what is worth an engine, what is opened, what a backend refuses, and the numbers after that."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import flat_models
import numpy as np
import onnx
import pytest
import tensorflow as tf

from beforehand.backends.openvino import OpenVinoBackend
from beforehand.backends.protocol import Refusal
from beforehand.divide_graph import divide_graph
from beforehand.options import Options
from beforehand.records import LoweredSegment, Partition
from beforehand.segment import reasons

NUMBER = 3
SMALL = tf.TensorSpec([None, 4], tf.float32, name="x")
# Products of (16, 250) with (250, 250) are 2,000,000 operations, the least of a body; of (16, 249) with (249, 251) 32 fewer.
ENOUGH = tf.TensorSpec([16, 250], tf.float32, name="x")
TOO_FEW = tf.TensorSpec([16, 249], tf.float32, name="x")
WEIGHTS = {
    (a, b): np.random.default_rng(a).normal(0, 0.05, (a, b)).astype(np.float32) for a, b in ((250, 250), (249, 251))
}


class ChoosyBackend(OpenVinoBackend):
    """Refuses models in which an op of ONNX is, without a word of where."""

    def __init__(self, refused: Sequence[str] = ()) -> None:
        super().__init__()
        self.refused = set(refused)
        self.asked = 0

    def check_model(self, onnx_file: str) -> Refusal | None:
        self.asked += 1
        ops = {node.op_type for node in onnx.load(onnx_file, load_external_data=False).graph.node}
        held = sorted(ops & self.refused)
        return Refusal(f"no {held[0]} today") if held else super().check_model(onnx_file)


class Divided:
    """A function of `x` saved, frozen, divided and lowered."""

    def __init__(
        self,
        folder: pathlib.Path,
        function: Callable[[Any], Any],
        spec: tf.TensorSpec = SMALL,
        refused: Sequence[str] = (),
        **options: Any,
    ) -> None:
        module = tf.Module()
        module.w = tf.Variable(WEIGHTS.get((spec.shape[1], 500 - spec.shape[1]), np.eye(4, dtype=np.float32)))
        flat_models.save(folder / "source", module, [spec], serving_default=lambda x: {"y": function(x, module.w)})
        frozen = flat_models.freeze(folder / "source")
        self.work = folder / "work"
        self.work.mkdir()
        self.backend = ChoosyBackend(refused)
        self.partition: Partition
        self.lowered: list[LoweredSegment]
        self.partition, self.lowered = divide_graph(
            frozen.graph, NUMBER, Options(minimum_segment_size=1, **options), self.backend, frozen.read, self.work
        )
        self.check_numbers()

    def check_numbers(self) -> None:
        """Numbers, names and files agree, whatever happened on the way; and nothing else is left in the folder."""
        segments = [segment for part in self.partition.walk() for segment in part.segments]
        assert [item.segment for item in self.lowered] == segments
        assert [segment.index for segment in segments] == list(range(len(segments)))
        names = [f"TRTEngineOp_{NUMBER:03d}_{index:03d}" for index in range(len(segments))]
        assert [segment.name for segment in segments] == names
        folders = [pathlib.Path(item.onnx_file).parent for item in self.lowered]
        assert [folder.name.partition(".")[0] for folder in folders] == names
        assert sorted(self.work.iterdir()) == sorted(folders)

    def list_ops(self, part: Partition | None = None) -> list[set[str]]:
        """The TensorFlow ops in each segment of one graph, names of outputs apart."""
        part = part or self.partition
        ops = {node.name: node.op for node in part.graph.graph_def.node}
        return [{ops[name] for name in segment.nodes} - {"Identity"} for segment in part.segments]

    def list_reasons(self, part: Partition | None = None) -> dict[str, str]:
        """Of each node left out its reason, by name."""
        return {node.name: node.reason for node in (part or self.partition).left_out}


def stop(x: Any) -> Any:
    """An op that no engine has."""
    return tf.math.betainc(2.0, 3.0, tf.sigmoid(x))


def move(x: Any) -> Any:
    """Nodes that only move data."""
    return tf.transpose(tf.concat([x, x], 1), [1, 0])


def test_a_graph_that_only_moves_data_has_no_segment_and_the_reason_is_its_arithmetic(tmp_path: pathlib.Path) -> None:
    divided = Divided(tmp_path, lambda x, w: move(x))
    assert divided.lowered == []
    assert {"transpose", "concat"} <= set(divided.list_reasons())
    assert set(divided.list_reasons().values()) == {reasons.TOO_LITTLE}
    assert divided.backend.asked == 0


def test_what_only_moves_data_takes_no_number(tmp_path: pathlib.Path) -> None:
    divided = Divided(tmp_path, lambda x, w: tf.tanh(stop(move(x)) * 2.0))
    assert divided.list_ops() == [{"Sigmoid", "Transpose", "ConcatV2"}, {"Mul", "Tanh"}]
    divided = Divided(tmp_path / "2", lambda x, w: tf.tanh(tf.raw_ops.Betainc(a=move(x), b=move(x), x=move(x)) * 2.0))
    assert divided.list_ops() == [{"Mul", "Tanh"}]


def branch(x: Any, w: Any) -> Any:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: x @ w, lambda: stop(x @ w))


def loop(x: Any, w: Any) -> Any:
    return tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, stop(v @ w)), [0, x])[1]


def test_a_way_of_a_branch_gets_an_engine_from_two_million_operations_on(tmp_path: pathlib.Path) -> None:
    divided = Divided(tmp_path / "enough", branch, ENOUGH)
    [opened] = divided.partition.opened
    first, second = opened.bodies
    assert divided.list_ops(first) == [{"MatMul"}]
    assert divided.list_ops(second) == [{"MatMul", "Sigmoid"}]
    assert len(divided.lowered) == len(divided.partition.segments) + 2

    divided = Divided(tmp_path / "less", branch, TOO_FEW)
    [opened] = divided.partition.opened  # a sigmoid more is enough
    first, second = opened.bodies
    assert divided.list_ops(first) == []
    assert set(divided.list_reasons(first).values()) == {reasons.TOO_LITTLE}
    assert divided.list_ops(second) == [{"MatMul", "Sigmoid"}]


def test_a_native_loop_without_a_segment_in_its_body_is_not_opened(tmp_path: pathlib.Path) -> None:
    divided = Divided(tmp_path / "enough", loop, ENOUGH)
    [opened] = divided.partition.opened
    condition, body = opened.bodies
    assert (divided.list_ops(condition), divided.list_ops(body)) == ([], [{"MatMul", "Sigmoid"}])

    divided = Divided(tmp_path / "little", lambda x, w: tf.tanh(loop(x, w)), SMALL)
    assert divided.partition.opened == ()
    assert divided.list_ops() == [{"Tanh"}]
    assert "while" in {name for _, names in divided.partition.native_levels for name in names}


@pytest.mark.parametrize("options", [{"nodes_denylist": ("while",)}, {"ops_denylist": ("StatelessWhile",)}])
def test_a_loop_that_the_user_excludes_is_not_opened(tmp_path: pathlib.Path, options: dict[str, Any]) -> None:
    divided = Divided(tmp_path, loop, ENOUGH, **options)
    assert divided.partition.opened == ()
    assert divided.lowered == []
    assert divided.list_reasons()["while"] == reasons.EXCLUDED


def test_a_node_refused_without_a_name_is_found_by_halving_and_parts_the_segment(tmp_path: pathlib.Path) -> None:
    def function(x: Any, w: Any) -> Any:
        hidden = tf.nn.relu(x @ w + 1.0) * 2.0
        return tf.sigmoid(tf.tanh(hidden, name="odd") @ w - 3.0) * 4.0

    whole = Divided(tmp_path / "whole", function)
    assert len(whole.lowered) == 1
    divided = Divided(tmp_path / "parted", function, refused=["Tanh"])
    assert divided.list_ops() == [{"MatMul", "AddV2", "Relu", "Mul"}, {"MatMul", "Sub", "Sigmoid", "Mul"}]
    assert [(node.name, node.reason, node.detail) for node in divided.partition.left_out] == [
        ("odd", reasons.REFUSED, "no Tanh today")
    ]
    assert divided.backend.asked < 12
    assert sum(item.segment.flops_share for item in divided.lowered) == pytest.approx(1 - 4 / whole.partition.flops)


def test_a_refusal_that_leaves_too_little_arithmetic_leaves_no_segment(tmp_path: pathlib.Path) -> None:
    divided = Divided(tmp_path, lambda x, w: move(tf.tanh(move(x))), refused=["Tanh"])
    assert divided.lowered == []
    assert set(divided.list_reasons().values()) == {reasons.TOO_LITTLE, reasons.REFUSED}


def test_numbers_go_through_bodies_and_after_a_refusal_there_are_no_gaps(tmp_path: pathlib.Path) -> None:
    """`check_numbers` of Divided is what tests; here, that there is enough to number."""

    def function(x: Any, w: Any) -> Any:
        def body(i: Any, v: Any) -> Any:
            return i + 1, tf.nn.relu(tf.tanh(stop(v @ w), name="odd") @ w)

        before = stop(x * 2.0)
        looped = tf.while_loop(lambda i, v: i < 3, body, [0, before])[1]
        return tf.sigmoid(tf.tanh(branch(looped, w)) + 1.0)

    divided = Divided(tmp_path, function, ENOUGH, refused=["Tanh"])
    counts = [len(part.segments) for part in divided.partition.walk()]
    assert len(counts) == 5, "the graph, a loop's two bodies, a branch's two"
    assert counts[1:] == [0, 2, 1, 1]
    assert counts[0] >= 2
    _, body, *_ = list(divided.partition.walk())[1:]
    assert {name for name, reason in divided.list_reasons(body).items() if reason == reasons.REFUSED} == {"while/odd"}
    assert divided.list_ops(body) == [{"MatMul", "Sigmoid"}, {"MatMul", "Relu"}]


def test_a_loop_that_is_refused_as_a_whole_is_opened(tmp_path: pathlib.Path) -> None:
    """OpenVINO has no determinants."""

    def body(i: Any, v: Any, w: Any) -> Any:
        product = v @ w
        return i + 1, product * tf.linalg.det(product[:2, :2], name="determinant")

    def function(x: Any, w: Any) -> Any:
        return tf.while_loop(lambda i, v: i < 3, lambda i, v: body(i, v, w), [0, x])[1]

    divided = Divided(tmp_path, function, ENOUGH)
    assert divided.list_reasons()["while"] == reasons.REFUSED
    [opened] = divided.partition.opened
    assert "MatMul" in divided.list_ops(opened.bodies[1])[0]
    assert divided.list_reasons(opened.bodies[1])["while/determinant"] == reasons.REFUSED


def test_a_node_refused_in_one_way_of_a_branch_leaves_its_namesake_in_the_other_alone(tmp_path: pathlib.Path) -> None:
    """Each way counts its names from the start; here both have a node `cond/odd`."""

    def function(x: Any, w: Any) -> Any:
        return tf.cond(
            tf.reduce_sum(x) > 0,
            lambda: tf.tanh(stop(x) @ w, name="odd"),
            lambda: tf.nn.relu(stop(x) @ w, name="odd"),
        )

    divided = Divided(tmp_path, function, ENOUGH, refused=["Tanh"])
    [opened] = divided.partition.opened
    first, second = opened.bodies
    assert divided.list_reasons(first)["cond/odd"] == reasons.REFUSED
    assert divided.list_ops(first) == [{"MatMul"}]
    assert divided.list_ops(second) == [{"MatMul", "Relu"}]
