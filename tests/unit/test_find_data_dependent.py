"""Which unknown dimensions depend on the values given: these and what is computed from them, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from beforehand.freeze.inline_functions import inline_functions, list_functions
from beforehand.freeze.to_graph_def import to_graph_def
from beforehand.records import FlatGraph, Signature, Weight
from beforehand.runtime.tensorflow_private import find_op_def
from beforehand.segment.describe_tensors import describe_tensors
from beforehand.segment.find_data_dependent import find_data_dependent

INPUTS = {
    "x": tf.TensorSpec([None, None], tf.float32),
    "n": tf.TensorSpec([], tf.int32),
    "ids": tf.TensorSpec([None], tf.int32),
    "text": tf.TensorSpec([None], tf.string),
}
Make = Callable[[Any, Any, Any, Any], Any]


def make_graph(make: Make) -> FlatGraph:
    """A flat graph of all inputs, with one output."""
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in INPUTS.items()]
    source = tf.function(make, autograph=False).get_concrete_function(*specs).graph
    graph_def, outputs = source.as_graph_def(), [tensor.name for tensor in source.outputs]
    nodes, moved = inline_functions(graph_def, [*outputs, *INPUTS], find_op_def)
    flat = to_graph_def(nodes, list_functions(graph_def), graph_def.versions)
    signature = Signature("serving_default", (), ())
    return FlatGraph(
        signature, flat, tuple(f"{name}:0" for name in INPUTS), tuple(moved[tensor] for tensor in outputs), ()
    )


def is_free(make: Make) -> bool:
    graph = make_graph(make)
    return graph.output_tensors[0] in find_data_dependent(graph, describe_tensors(graph))


def keep_positive(x: Any) -> Any:
    return tf.boolean_mask(x, x[:, 0] > 0)


OF_VALUES: dict[str, Make] = {
    "elements that are found": lambda x, n, ids, text: tf.where(x > 0),
    "rows that are kept": lambda x, n, ids, text: keep_positive(x),
    "computed from rows that are kept": lambda x, n, ids, text: tf.nn.relu(keep_positive(x)) * 2.0,
    "different values": lambda x, n, ids, text: tf.unique(ids)[0],
    "words": lambda x, n, ids, text: tf.strings.split(text).to_tensor(),
    "pixels": lambda x, n, ids, text: tf.io.decode_jpeg(text[0], channels=3),
    "a shape that is given": lambda x, n, ids, text: tf.reshape(x, [n, -1]),
    "a number of copies that is given": lambda x, n, ids, text: tf.tile(x, [n, 1]),
    "a number of elements that is given": lambda x, n, ids, text: tf.fill([n], 1.0),
    "a range that is given": lambda x, n, ids, text: tf.range(n),
    "a start that is given": lambda x, n, ids, text: x[n:],
    "a stop that is given": lambda x, n, ids, text: x[:, :n],
    "a length that is given": lambda x, n, ids, text: tf.slice(x, [0, 0], [n, -1]),
    "padding that is given": lambda x, n, ids, text: tf.pad(x, [[0, n], [0, 0]]),
    "a size that is given": lambda x, n, ids, text: tf.image.resize(x[None, :, :, None], [n, 8]),
    "a depth that is given": lambda x, n, ids, text: tf.one_hot(ids, n),
    "a mask as long as the longest": lambda x, n, ids, text: tf.sequence_mask(ids),
    "repeats that are given": lambda x, n, ids, text: tf.repeat(x, ids, axis=0),
    "a number of segments that is given": lambda x, n, ids, text: tf.math.unsorted_segment_sum(x, ids, n),
    "as many segments as ids name": lambda x, n, ids, text: tf.math.segment_sum(x, ids),
    "as many means as ids name": lambda x, n, ids, text: tf.math.segment_mean(x, ids),
    "as many sparse segments as ids name": lambda x, n, ids, text: tf.sparse.segment_sum(x, ids, ids),
    "a number of random values that is given": lambda x, n, ids, text: tf.random.stateless_uniform([n], [1, 2]),
    "a number of counts that is given": lambda x, n, ids, text: tf.math.bincount(ids),
    "values that are not among others": lambda x, n, ids, text: tf.raw_ops.ListDiff(x=ids, y=[1])[0],
    "a range as long as rows that are kept": lambda x, n, ids, text: tf.range(tf.shape(keep_positive(x))[0]),
    "a size computed from the mean of values": lambda x, n, ids, text: tf.zeros([tf.cast(tf.reduce_mean(x), tf.int32)]),
    "rows that are kept, beside others": lambda x, n, ids, text: tf.concat([x, keep_positive(x)], 0),
}
OF_SHAPES: dict[str, Make] = {
    "the input itself": lambda x, n, ids, text: tf.identity(x),
    "element by element": lambda x, n, ids, text: tf.nn.relu(x * 2.0) + tf.cast(n, tf.float32),
    "a product": lambda x, n, ids, text: tf.matmul(x, x, transpose_b=True),
    "rows that ids name": lambda x, n, ids, text: tf.gather(x, ids),
    "the shape of the input": lambda x, n, ids, text: tf.reshape(x, [tf.shape(x)[0] * tf.shape(x)[1]]),
    "a constant shape": lambda x, n, ids, text: tf.reshape(x, [-1, 4]),
    "a range over the rows": lambda x, n, ids, text: tf.range(tf.shape(x)[0]),
    "ones like the input": lambda x, n, ids, text: tf.ones(tf.shape(x)),
    "the second half": lambda x, n, ids, text: x[tf.shape(x)[0] // 2 :],
    "all but the first": lambda x, n, ids, text: x[:, 1:],
    "padding of one": lambda x, n, ids, text: tf.pad(x, [[1, 1], [0, 0]]),
    "padding with a value that is given": lambda x, n, ids, text: tf.pad(
        x, [[1, 1], [0, 0]], constant_values=tf.cast(n, tf.float32)
    ),
    "elements that are taken from values": lambda x, n, ids, text: tf.where(x > 0, x, -x),
    "a mask as long as the rows": lambda x, n, ids, text: tf.sequence_mask(ids, tf.shape(x)[1]),
    "filled with a value that is given": lambda x, n, ids, text: tf.fill(tf.shape(x), n),
    "twice the size": lambda x, n, ids, text: tf.image.resize(x[None, :, :, None], 2 * tf.shape(x)),
    "the first two": lambda x, n, ids, text: ids[:2],
    "texts in capitals": lambda x, n, ids, text: tf.strings.upper(text),
    "a loop over the rows": lambda x, n, ids, text: tf.while_loop(
        lambda i, v: i < n, lambda i, v: (i + 1, v * 2.0), [0, x]
    )[1],
}
FIXED: dict[str, Make] = {
    "the best three": lambda x, n, ids, text: tf.math.top_k(tf.reshape(keep_positive(x), [-1]), 3).values,
    "the number of rows that are kept": lambda x, n, ids, text: tf.shape(keep_positive(x)),
    "the sum of what is found": lambda x, n, ids, text: tf.reduce_sum(keep_positive(x)),
}


@pytest.mark.parametrize("kind", OF_VALUES)
def test_sizes_that_depend_on_values_are_found(kind: str) -> None:
    assert is_free(OF_VALUES[kind])


@pytest.mark.parametrize("kind", OF_SHAPES)
def test_sizes_that_depend_on_sizes_alone_are_not(kind: str) -> None:
    assert not is_free(OF_SHAPES[kind])


@pytest.mark.parametrize("kind", FIXED)
def test_sizes_that_are_known_depend_on_nothing(kind: str) -> None:
    assert not is_free(FIXED[kind])


@pytest.mark.parametrize(("is_weight", "expected"), [(True, False), (False, True)])
def test_a_size_that_a_weight_says_is_the_same_at_each_call(is_weight: bool, expected: bool) -> None:
    graph = make_graph(lambda x, n, ids, text: tf.range(n))
    inputs = tuple(tensor for tensor in graph.input_tensors if tensor != "n:0")
    weights = (Weight("n", "n", "int32", ()),)
    changed = FlatGraph(
        graph.signature,
        graph.graph_def,
        inputs if is_weight else graph.input_tensors,
        graph.output_tensors,
        weights if is_weight else (),
    )
    found = find_data_dependent(changed, describe_tensors(changed))
    assert (graph.output_tensors[0] in found) == expected


def test_a_size_that_a_variable_says_which_the_graph_assigns_depends_on_values() -> None:
    graph_def = tf.compat.v1.GraphDef()
    handle = graph_def.node.add(name="counter", op="VarHandleOp")
    handle.attr["dtype"].type = tf.int32.as_datatype_enum
    handle.attr["shape"].shape.CopyFrom(tf.TensorShape([]).as_proto())
    read = graph_def.node.add(name="read", op="ReadVariableOp", input=["counter:0"])
    read.attr["dtype"].type = tf.int32.as_datatype_enum
    for name, value in (("start", 0), ("step", 1)):
        node = graph_def.node.add(name=name, op="Const")
        node.attr["dtype"].type = tf.int32.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.int32(value)))
    node = graph_def.node.add(name="range", op="Range", input=["start:0", "read:0", "step:0"])
    node.attr["Tidx"].type = tf.int32.as_datatype_enum
    graph = FlatGraph(Signature("serving_default", (), ()), graph_def, (), ("range:0",), ())
    assert find_data_dependent(graph, describe_tensors(graph)) == {"range:0"}
