"""Dtypes and shapes of all tensors of a flat graph, by TensorFlow's own shape inference."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from beforehand.records import FlatGraph, TensorSpec


def describe_tensors(graph: FlatGraph) -> dict[str, TensorSpec]:
    """Of every tensor ("node:0") its dtype and static shape; the weights are not needed."""
    return describe_graph_def(graph.graph_def)


def describe_graph_def(graph_def: Any) -> dict[str, TensorSpec]:
    """The same, of a GraphDef."""
    specs = {}
    with tf.Graph().as_default() as imported:
        tf.graph_util.import_graph_def(graph_def, name="")
        for operation in imported.get_operations():
            for tensor in operation.outputs:
                shape = tensor.shape
                dims = None if shape.rank is None else tuple(shape.as_list())
                specs[tensor.name] = TensorSpec(tensor.name, tensor.dtype.base_dtype.name, dims)
    return specs
