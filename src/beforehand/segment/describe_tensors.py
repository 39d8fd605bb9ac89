"""Dtypes and shapes of all tensors of a flat graph, by TensorFlow's own shape inference."""

from __future__ import annotations

import tensorflow as tf

from beforehand.records import FlatGraph, TensorSpec


def describe_tensors(graph: FlatGraph) -> dict[str, TensorSpec]:
    """Of every tensor ("node:0") its dtype and static shape; the weights are not needed."""
    specs = {}
    with tf.Graph().as_default() as imported:
        tf.graph_util.import_graph_def(graph.graph_def, name="")
        for operation in imported.get_operations():
            for tensor in operation.outputs:
                shape = tensor.shape
                dims = None if shape.rank is None else tuple(shape.as_list())
                specs[tensor.name] = TensorSpec(tensor.name, tensor.dtype.base_dtype.name, dims)
    return specs
