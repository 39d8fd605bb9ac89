"""Batch normalisation as the sums and products that it stands for, since TensorFlow has it in no wider type than float32."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


def spell_out_norms(graph_def: Any) -> None:
    """Replace, in place, what infers: y = (x - mean) * scale / sqrt(variance + epsilon) + offset. What trains stays.

    Only where nothing but y is read, which is all that inference has a use for. Channels are last, or second (NCHW).
    """
    read = {tensor for node in graph_def.node for tensor in node.input}
    nodes = []
    for node in graph_def.node:
        # Its default, which exporters leave out, is true.
        trains = node.attr["is_training"].b if "is_training" in node.attr else True
        others = any(f"{node.name}:{place}" in read for place in range(1, 6))
        is_norm = node.op in _NORMS and not trains and not others and node.attr["T"].type == tf.float32.as_datatype_enum
        nodes += _spell_out(node) if is_norm else [node]
    del graph_def.node[:]
    graph_def.node.extend(nodes)


def _spell_out(node: Any) -> list[Any]:
    x, scale, offset, mean, variance = list(node.input)[:5]
    control = [tensor for tensor in node.input if tensor.startswith("^")]
    made: list[Any] = []

    def add(suffix: str, op: str, *inputs: str) -> str:
        name = f"{node.name}/{suffix}" if suffix else node.name
        new = tf.compat.v1.NodeDef(name=name, op=op, input=inputs)
        new.attr["T"].type = tf.float32.as_datatype_enum
        made.append(new)
        return name

    def add_constant(suffix: str, value: Any, dtype: Any) -> str:
        new = tf.compat.v1.NodeDef(name=f"{node.name}/{suffix}", op="Const")
        new.attr["dtype"].type = dtype.as_datatype_enum
        new.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype))
        made.append(new)
        return str(new.name)

    epsilon = add_constant("epsilon", node.attr["epsilon"].f if "epsilon" in node.attr else 1e-4, tf.float32)
    layout = node.attr["data_format"].s if "data_format" in node.attr else b"NHWC"
    if layout.startswith(b"NC"):
        shape = add_constant("shape", [-1, *[1] * (len(layout) - 2)], tf.int32)
        tensors = []
        for suffix, tensor in (("scale", scale), ("offset", offset), ("mean", mean), ("variance", variance)):
            tensors.append(add(f"{suffix}_shaped", "Reshape", tensor, shape))
            made[-1].attr["Tshape"].type = tf.int32.as_datatype_enum
        scale, offset, mean, variance = tensors
    deviation = add("rsqrt", "Rsqrt", add("variance_and_epsilon", "AddV2", variance, epsilon))
    factor = add("factor", "Mul", scale, deviation)
    product = add("product", "Mul", add("centred", "Sub", x, mean), factor)
    add("", "AddV2", product, offset, *control)
    return made
