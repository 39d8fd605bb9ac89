"""Bitcast, so far as it asks for the sign bit of a float: Keras 3's argmax is full of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from tf2onnx import utils
from tf2onnx.handler import tf_op

from beforehand.lower.handlers.build_nodes import Nodes

_INT32 = 6  # onnx.TensorProto.INT32
_SIGN = np.iinfo(np.int32).min


@tf_op("Bitcast")
class SignBit:
    """`bitcast(x, int32) & 0x80000000 < 0` is true where x is negative or -0."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """X < 0 or (x == 0 and 1 / x < 0)."""
        nodes = Nodes(ctx, node)
        masks = ctx.find_output_consumers(node.output[0])
        tests = [test for mask in masks for test in ctx.find_output_consumers(mask.output[0])]
        is_sign = (
            nodes.numpy_dtype(nodes.inputs[0]) == np.float32
            and all(mask.type == "BitwiseAnd" and _has_constant(mask, _SIGN) for mask in masks)
            and all(test.type == "Less" and _is_constant(test.inputs[1], 0) for test in tests)
            and not {node.output[0], *(mask.output[0] for mask in masks)} & set(ctx.outputs)
        )
        utils.make_sure(is_sign, "ONNX has no Bitcast before opset 26, except for the question of the sign")
        [x] = nodes.inputs
        zero, one = nodes.constant(0, x), nodes.constant(1, x)
        is_minus_zero = nodes.make("Less", nodes.make("Div", one, x), zero)
        is_zero = nodes.make("And", nodes.make("Equal", x, zero), is_minus_zero)
        sign = nodes.make("Or", nodes.make("Less", x, zero), is_zero)
        for test in tests:
            ctx.replace_all_inputs(test.output[0], sign)
            utils.make_sure(test.output[0] not in ctx.outputs, "the sign itself is an output")
        # Nobody reads it any more; tf2onnx goes on over the nodes it had at first, so it has to stay a node.
        node.type = "Cast"
        node.set_attr("to", _INT32)


def _has_constant(node: Any, value: int) -> bool:
    return any(_is_constant(other, value) for other in node.inputs)


def _is_constant(node: Any, value: int) -> bool:
    return bool(node.is_const() and np.array_equal(node.get_tensor_value(as_list=False), value))
