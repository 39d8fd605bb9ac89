"""A segment as ONNX: the same bytes each time, constants folded, and what cannot be written is named."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf

from beforehand.errors import LoweringError
from beforehand.freeze.freeze_signature import find_checkpoint_keys, freeze_signature
from beforehand.lower.cut_segment import SMALL_WEIGHT_ELEMENTS
from beforehand.lower.lower_segment import lower_segment
from beforehand.lower.translate import list_supported_ops
from beforehand.records import LoweredSegment
from beforehand.runtime.tensorflow_private import find_op_def
from beforehand.saved_model.open_weights import open_weights
from beforehand.saved_model.read_saved_model import read_saved_model
from beforehand.segment.describe_tensors import describe_tensors
from beforehand.segment.find_candidates import Support, find_left_out
from beforehand.segment.segment_graph import SegmentLimits, segment_graph

DTYPES = frozenset({"float32", "int32", "int64", "bool", "uint8", "int8"})
LARGE = np.random.default_rng(1).normal(size=(3, 3, 24, 80)).astype(np.float32)


def save_model(folder: pathlib.Path, function: Callable[[tf.Module, Any], Any], **variables: Any) -> None:
    module = tf.Module()
    for name, value in variables.items():
        setattr(module, name, tf.Variable(value))
    spec = tf.TensorSpec([None, 8, 8, 24], tf.float32, name="x")
    module.function = tf.function(lambda x: {"y": function(module, x)}, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.function})


def save_convolution(folder: pathlib.Path) -> None:
    """A large weight, small ones that are folded, and names that tf2onnx numbers by a counter of its process."""

    def function(module: Any, x: Any) -> Any:
        x = tf.nn.relu(tf.nn.conv2d(x, module.kernel, 2, "SAME"))
        scale = module.gamma * tf.math.rsqrt(module.variance + 1e-3)
        return tf.nn.softmax(tf.reduce_mean(x * scale + (module.beta - module.mean * scale), [1, 2]))

    small = {name: np.random.default_rng(2).uniform(size=80).astype(np.float32) for name in ("gamma", "variance")}
    save_model(folder, function, kernel=LARGE, **small, beta=small["gamma"] + 1, mean=small["variance"] + 1)


def lower(source_folder: pathlib.Path, target: pathlib.Path, ops: frozenset[str] | None = None) -> LoweredSegment:
    """Freeze, cut into segments, lower the first one."""
    source = read_saved_model(source_folder, ["serve"], None)
    keys = find_checkpoint_keys(source.meta_graph, find_op_def)
    [item] = source.signatures
    graph = freeze_signature(
        source.meta_graph, item.signature, item.input_tensors, item.output_tensors, keys, find_op_def
    )
    tensors = describe_tensors(graph)
    left_out = find_left_out(graph, tensors, Support(ops or list_supported_ops(), DTYPES), find_op_def)
    partition = segment_graph(graph, tensors, left_out, SegmentLimits(1, 0, 0), {})
    target.mkdir()
    return lower_segment(graph, partition.segments[0], tensors, open_weights(source), target, find_op_def)


def hash_files(folder: pathlib.Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def convolution(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("convolution") / "source"
    save_convolution(folder)
    return folder


@pytest.fixture(scope="module")
def lowered(convolution: pathlib.Path) -> LoweredSegment:
    return lower(convolution, convolution.parent / "lowered")


def test_two_lowerings_give_the_same_bytes_and_digest(
    convolution: pathlib.Path, lowered: LoweredSegment, tmp_path: pathlib.Path
) -> None:
    again = lower(convolution, tmp_path / "again")
    assert again.digest == lowered.digest
    assert hash_files(tmp_path / "again") == hash_files(pathlib.Path(lowered.onnx_file).parent)


def test_another_process_with_another_hash_seed_gives_the_same_bytes_and_digest(
    convolution: pathlib.Path, lowered: LoweredSegment, tmp_path: pathlib.Path
) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONHASHSEED": "4711"}
    command = [sys.executable, __file__, str(convolution), str(tmp_path / "again")]
    process = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-3000:]
    assert json.loads(process.stdout.splitlines()[-1]) == {
        "digest": lowered.digest,
        "files": hash_files(pathlib.Path(lowered.onnx_file).parent),
    }


def test_another_weight_gives_another_digest_and_only_that_changes(
    lowered: LoweredSegment, tmp_path: pathlib.Path
) -> None:
    changed = LARGE.copy()
    changed[0, 0, 0, 0] += 1
    assert LARGE.size > SMALL_WEIGHT_ELEMENTS
    save_model(tmp_path / "a", lambda module, x: tf.nn.relu(tf.nn.conv2d(x, module.kernel, 2, "SAME")), kernel=LARGE)
    save_model(tmp_path / "b", lambda module, x: tf.nn.relu(tf.nn.conv2d(x, module.kernel, 2, "SAME")), kernel=changed)
    first, second = (lower(tmp_path / name, tmp_path / f"{name}_lowered") for name in "ab")
    assert len({first.digest, second.digest, lowered.digest}) == 3
    files = [hash_files(tmp_path / f"{name}_lowered") for name in "ab"]
    assert files[0]["segment.onnx"] == files[1]["segment.onnx"]
    assert files[0]["segment.weights"] != files[1]["segment.weights"]


def test_what_depends_on_constants_alone_is_computed_beforehand(lowered: LoweredSegment) -> None:
    import onnx

    model = onnx.load(lowered.onnx_file)
    ops = [node.op_type for node in model.graph.node]
    assert "Conv" in ops
    assert not {"Sqrt", "Reciprocal", "Pow", "Sub", "Identity"} & set(ops)
    onnx.checker.check_model(lowered.onnx_file, full_check=True)


def test_the_large_weights_are_not_in_the_graphs_file_and_lie_aligned(lowered: LoweredSegment) -> None:
    import onnx

    path = pathlib.Path(lowered.onnx_file)
    assert path.stat().st_size < LARGE.nbytes / 4
    model = onnx.load(lowered.onnx_file, load_external_data=False)
    [tensor] = [tensor for tensor in model.graph.initializer if tensor.external_data]
    where = {item.key: item.value for item in tensor.external_data}
    assert where["location"] == "segment.weights"
    assert int(where["offset"]) % 64 == 0
    assert int(where["length"]) == LARGE.nbytes


def test_names_of_inputs_and_outputs_are_those_of_the_onnx_model(lowered: LoweredSegment) -> None:
    import onnx

    graph = onnx.load(lowered.onnx_file, load_external_data=False).graph
    assert tuple(value.name for value in graph.input) == lowered.input_names == ("input_0",)
    assert tuple(value.name for value in graph.output) == lowered.output_names == ("output_0",)


def test_a_constant_that_waits_for_an_effect_is_written_without_waiting(tmp_path: pathlib.Path) -> None:
    def function(module: Any, x: Any) -> Any:
        with tf.control_dependencies([module.count.assign_add(1.0)]):
            two = tf.constant(2.0, name="waiting")
        return tf.nn.relu(x * two) + 1.0

    save_model(tmp_path / "source", function, count=0.0)
    assert lower(tmp_path / "source", tmp_path / "lowered").input_names == ("input_0",)


def test_a_node_that_cannot_be_written_is_named(tmp_path: pathlib.Path) -> None:
    def function(module: Any, x: Any) -> Any:
        del module
        hidden = tf.nn.relu(x)
        return tf.nn.relu(tf.raw_ops.Betainc(a=hidden, b=hidden, x=hidden, name="odd_one"))

    save_model(tmp_path / "source", function)
    with pytest.raises(LoweringError, match=r"^BH302 tf2onnx [0-9.]+ cannot translate odd_one") as raised:
        lower(tmp_path / "source", tmp_path / "lowered", list_supported_ops() | {"Betainc"})
    assert raised.value.nodes == ("odd_one",)


if __name__ == "__main__":
    found = lower(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    print(json.dumps({"digest": found.digest, "files": hash_files(pathlib.Path(sys.argv[2]))}))


def test_a_convolution_keeps_its_layers_name_where_a_bias_or_a_norm_is_joined_to_it(tmp_path: pathlib.Path) -> None:
    """tf2onnx makes such a node anew, without the name. By it, parts of a model are told to people (accuracy/list_parts.py)."""
    small = np.random.default_rng(2).normal(0, 0.1, (1, 1, 24, 24)).astype(np.float32)

    def function(module: Any, x: Any) -> Any:
        for place, name in enumerate(("first", "second", "first")):  # the first one is called twice
            with tf.name_scope(f"{name}_{place}"):
                x = tf.nn.relu(tf.nn.conv2d(x, getattr(module, name), 1, "SAME") + module.shift)
        with tf.name_scope("large"):
            return tf.nn.relu(tf.nn.conv2d(x, module.large, 1, "SAME") * module.scale + module.scale)

    variables = {"first": small, "second": small + 1, "shift": small[0, 0, 0], "large": LARGE}
    save_model(tmp_path / "source", function, **variables, scale=np.ones(80, np.float32))
    segment = lower(tmp_path / "source", tmp_path / "lowered")
    nodes = onnx.load(segment.onnx_file, load_external_data=False).graph.node
    scopes = [node.name.rpartition("/")[0].rpartition("/")[2] for node in nodes if node.op_type == "Conv"]
    assert scopes == ["first_0", "second_1", "first_2", "large"]
    assert all("/" in node.name for node in nodes if node.op_type != "Transpose")
