"""Fake quantisation of models trained for it, as QuantizeLinear and DequantizeLinear with TensorFlow's nudged ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
from tf2onnx import utils
from tf2onnx.handler import tf_op

from beforehand.lower.handlers.build_nodes import Nodes

_BITS = 8


@tf_op(["FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel"])
class FakeQuant:
    """8 bits, with constant limits. tf2onnx's own handler has neither narrow ranges nor channels.

    A value between two steps may come to the other one (ONNX rounds halves to even, TensorFlow up); below the least one of a
    narrow range there is one step more.
    """

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Two nodes, and an identity."""
        utils.make_sure(node.get_attr_value("num_bits", _BITS) == _BITS, "%s: only 8 bits can be quantised", node.name)
        nodes = Nodes(ctx, node)
        low, high = _read_limits(node)
        utils.make_sure(np.all(np.asarray(low) < np.asarray(high)), "%s: its limits hold nothing", node.name)
        scale, zero = find_parameters(low, high, is_narrow=bool(node.get_attr_value("narrow_range", False)))
        attributes = {"axis": ctx.get_rank(nodes.inputs[0]) - 1} if scale.ndim else {}
        names = nodes.constant(scale), nodes.constant(zero)
        quantized = nodes.make("QuantizeLinear", nodes.inputs[0], *names, **attributes)
        # tf2onnx's convolutions turn weights before such a pair themselves, and want constants; not so behind an identity, which
        # its optimizer takes away.
        nodes.replace("Identity", nodes.make("DequantizeLinear", quantized, *names, **attributes))


def find_parameters(low: Any, high: Any, *, is_narrow: bool) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Scale and zero point for limits, by TensorFlow's rule (fake_quant_ops_functor.h): 0 is one of the steps.

    int8 where all zero points are 0, as weights and TensorRT have it; else uint8.
    """
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    least, most = (1 if is_narrow else 0), 2**_BITS - 1
    scale = np.asarray((high - low) / np.float32(most - least), np.float32)
    # C's round: halves away from 0, and there is nothing below it.
    zero = np.clip(np.floor(least - low / scale + np.float32(0.5)), least, most)
    if (zero == 128).all():
        return scale.astype(np.float32), np.zeros(zero.shape, np.int8)
    return scale.astype(np.float32), zero.astype(np.uint8)


def _read_limits(node: Any) -> tuple[Any, Any]:
    if node.type == "FakeQuantWithMinMaxArgs":
        return node.get_attr("min").f, node.get_attr("max").f
    limits = node.inputs[1:3]
    utils.make_sure(all(limit.is_const() for limit in limits), "%s: its limits are no constants", node.name)
    return tuple(limit.get_tensor_value(as_list=False) for limit in limits)
