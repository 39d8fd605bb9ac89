"""What tf2onnx would translate and get wrong, or OpenVINO not take: refused with the reason, so that it stays native.

A guard looks at one node before its handler does. Every one was seen to be needed (TensorFlow 2.21, tf2onnx 1.17,
OpenVINO 2026.4); `tests/unit/test_handlers.py` has the case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tf2onnx import tfonnx, utils
from tf2onnx.handler import tf_op

OPSET = 18
_FLOAT, _FLOAT16 = 1, 10  # onnx.TensorProto
_ARITHMETIC = [
    *("Abs", "Add", "AddN", "AddV2", "Cumprod", "Cumsum", "MatMul", "Mean", "Mul", "Neg", "Prod", "Square"),
    *("SquaredDifference", "Sub", "Sum"),
]
Guard = Callable[[Any, Any], str | None]


def guard(names: list[str], check: Guard) -> None:
    """From now on `check` sees a node of these ops before its handler does; a text refuses the node."""
    mapping = tf_op.create_mapping(OPSET, [])
    for name in names:
        handler, kwargs = mapping[name]

        def guarded(ctx: Any, node: Any, handler: Any = handler, **more: Any) -> None:
            reason = check(ctx, node)
            utils.make_sure(not reason, "%s", reason)
            handler(ctx, node, **more)

        tf_op.register_handler(guarded, OPSET, [name], "", kwargs)


def check_arithmetic(ctx: Any, node: Any) -> str | None:
    """8-bit numbers wrap around in TensorFlow, and are clipped in OpenVINO."""
    if ctx.get_dtype(node.input[0]) in (2, 3):  # onnx.TensorProto.UINT8, INT8
        return "arithmetic of 8-bit numbers wraps around in TensorFlow, and OpenVINO clips it"
    return None


def check_shift(ctx: Any, node: Any) -> str | None:
    """A negative number shifted right stays negative; ONNX shifts unsigned ones."""
    if np.dtype(utils.map_onnx_to_numpy_type(ctx.get_dtype(node.input[0]))).kind == "i":
        return "ONNX shifts unsigned numbers to the right only"
    return None


def check_einsum(ctx: Any, node: Any) -> str | None:
    """OpenVINO takes two operands, and does not transpose one."""
    del ctx
    if len(node.input) != 2:
        return "OpenVINO's Einsum takes two operands"
    return None


def check_transposed_convolution(ctx: Any, node: Any) -> str | None:
    """Where the size of the output is a constant and that of the input unknown, tf2onnx pads wrongly."""
    shape, sizes = ctx.get_shape(node.input[2]), node.inputs[0]
    spatial = shape[1:-1] if node.get_attr_str("data_format")[-1] == "C" else shape[2:]
    if sizes.is_const() and any(dim in (-1, None) for dim in spatial):
        return "the size of a transposed convolution's output is constant, that of its input is not known"
    return None


def check_convolution(ctx: Any, node: Any) -> str | None:
    """OpenVINO has to know the channels to see that a convolution is grouped."""
    if node.get_attr_str("data_format") not in ("NHWC", "NDHWC"):
        return None
    data, kernel = ctx.get_shape(node.input[0]), ctx.get_shape(node.input[1])
    if data is not None and kernel is not None and data[-1] == -1 and kernel[-2] == -1:
        return "neither the data's channels nor the kernel's are known"
    return None


def check_soft_suppression(ctx: Any, node: Any) -> str | None:
    """OpenVINO's soft suppression orders boxes by another rule."""
    del ctx
    sigma = node.inputs[5]
    if not sigma.is_const() or sigma.get_tensor_value() != 0:
        return "OpenVINO's soft suppression orders the boxes otherwise"
    return None


def check_constant_shape(index: int) -> Guard:
    """OpenVINO's CPU plug-in has to know the rank that a tensor of numbers gives."""

    def check(ctx: Any, node: Any) -> str | None:
        del ctx
        return None if node.inputs[index].is_const() else f"OpenVINO needs a constant for {node.input[index]}"

    return check


def cast_resized(ctx: Any, node: Any) -> str | None:
    """Not a refusal: a bilinear resize answers in float32, whatever it is given; ONNX's answers in what it is given."""
    if ctx.get_dtype(node.input[0]) != _FLOAT:
        _cast_input(ctx, node, 0)
    return None


def cast_classified(ctx: Any, node: Any) -> str | None:
    """Not a refusal: ONNX's IsInf takes no float16, whose every number float32 has as it is."""
    if ctx.get_dtype(node.input[0]) == _FLOAT16:
        _cast_input(ctx, node, 0)
    return None


def cast_padding(ctx: Any, node: Any) -> str | None:
    """Not a refusal: what tf2onnx casts to float32 to pad it, it pads with a value that it leaves as it was."""
    if len(node.input) > 2 and ctx.get_dtype(node.input[0]) == _FLOAT16:
        _cast_input(ctx, node, 2)
    return None


def _cast_input(ctx: Any, node: Any, index: int) -> None:
    cast = ctx.insert_new_node_on_input(node, "Cast", node.input[index], input_index=index, to=_FLOAT)
    ctx.set_dtype(cast.output[0], _FLOAT)
    ctx.copy_shape(cast.input[0], cast.output[0])


def leave_dilations(graph: Any, nodes: Any) -> Any:
    """In place of tf2onnx's rewriter, which takes paddings in front of a dilated convolution for none: see merge_dilations.py."""
    del nodes
    return graph.get_nodes()


def install_guards() -> None:
    """Guard what stands by now."""
    tfonnx.rewrite_conv_dilations = leave_dilations
    guard(_ARITHMETIC, check_arithmetic)
    guard(["RightShift"], check_shift)
    guard(["Einsum"], check_einsum)
    guard(["Conv2DBackpropInput", "Conv3DBackpropInputV2"], check_transposed_convolution)
    guard(["Conv2D", "Conv3D"], check_convolution)
    guard(["NonMaxSuppressionV5"], check_soft_suppression)
    guard(["SplitV"], check_constant_shape(1))
    guard(["ResizeBilinear"], cast_resized)
    guard(["IsFinite", "IsInf"], cast_classified)
    guard(["PadV2"], cast_padding)
