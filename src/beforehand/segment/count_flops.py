"""Floating-point operations of a node, from static shapes; unknown dimensions count as 1.

Convention: one multiply-add is two operations; a node that is no convolution or matrix product counts one operation for
each element of its outputs, and one that only moves data, or has to do with whole numbers alone, counts none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from beforehand.records import PartialShape, TensorSpec

# Ops that only move data, or make it.
_MOVES = frozenset(
    (
        *(
            "Cast",
            "ConcatV2",
            "Const",
            "ExpandDims",
            "Fill",
            "GatherV2",
            "Identity",
            "IdentityN",
            "NoOp",
            "Pack",
            "Pad",
        ),
        *("PadV2", "Placeholder", "Reshape", "Shape", "Slice", "Split", "SplitV", "Squeeze", "StopGradient"),
        *("StridedSlice", "Tile", "Transpose", "Unpack"),
    )
)
_Dims = tuple[int, ...]


def count_flops(node: Any, tensors: Mapping[str, TensorSpec]) -> int:
    """Floating-point operations of one call of `node`."""
    outputs = _count_elements(tensors, f"{node.name}:0")
    if node.op in _MOVES or not outputs or not _is_floating(node, tensors):
        return 0
    count = _COUNTS.get(node.op)
    if count is None:
        return outputs
    return 2 * count(node, [_find_shape(tensors, name) for name in node.input if not name.startswith("^")], outputs)


def _is_floating(node: Any, tensors: Mapping[str, TensorSpec]) -> bool:
    """Whether a node reads or makes floating-point numbers."""
    names = [f"{node.name}:0", *(name if ":" in name else f"{name}:0" for name in node.input)]
    return any("float" in tensors[name].dtype for name in names if name in tensors)


def _count_convolution(node: Any, inputs: list[_Dims], outputs: int) -> int:
    """A kernel is (spatial..., in, out); in a depthwise one each output channel reads one input channel."""
    del node
    return outputs * math.prod(inputs[1][:-1])


def _count_depthwise(node: Any, inputs: list[_Dims], outputs: int) -> int:
    del node
    return outputs * math.prod(inputs[1][:-2])


def _count_transposed_convolution(node: Any, inputs: list[_Dims], outputs: int) -> int:
    """Each element of the input (the third operand) meets the whole kernel of its channel."""
    del node, outputs
    return math.prod(inputs[1][:-1]) * math.prod(inputs[2])


def _count_product(node: Any, inputs: list[_Dims], outputs: int) -> int:
    # `in` first: to read a missing attribute of a protobuf map is to insert it.
    transposed = any(name in node.attr and node.attr[name].b for name in ("transpose_a", "adj_x"))
    axis = 2 if transposed else 1  # from the end
    return outputs * (inputs[0][-axis] if len(inputs[0]) >= axis else 1)


def _count_einsum(node: Any, inputs: list[_Dims], outputs: int) -> int:
    """The product of all letters' sizes; dimensions of "..." count from its end, as they broadcast."""
    del outputs
    sizes: dict[str | int, int] = {}
    operands = node.attr["equation"].s.decode().replace(" ", "").partition("->")[0].split(",")
    for letters, shape in zip(operands, inputs, strict=True):
        before, dots, after = letters.partition("...")
        hidden = len(shape) - len(before) - len(after) if dots else 0
        names: list[str | int] = [*before, *range(-hidden, 0), *after]
        if len(names) == len(shape):  # a rank may be unknown
            for name, size in zip(names, shape, strict=True):
                sizes[name] = max(size, sizes.get(name, 1))
    return math.prod(sizes.values())


_COUNTS: dict[str, Callable[[Any, list[_Dims], int], int]] = {
    "Conv2D": _count_convolution,
    "Conv3D": _count_convolution,
    "DepthwiseConv2dNative": _count_depthwise,
    "Conv2DBackpropInput": _count_transposed_convolution,
    "Conv3DBackpropInputV2": _count_transposed_convolution,
    "MatMul": _count_product,
    "BatchMatMul": _count_product,
    "BatchMatMulV2": _count_product,
    "BatchMatMulV3": _count_product,
    "Einsum": _count_einsum,
}


def _find_shape(tensors: Mapping[str, TensorSpec], name: str) -> tuple[int, ...]:
    spec = tensors.get(name if ":" in name else f"{name}:0")
    return _fill(spec.shape if spec else None)


def _fill(shape: PartialShape | None) -> tuple[int, ...]:
    return tuple(1 if dim is None else dim for dim in shape or ())


def _count_elements(tensors: Mapping[str, TensorSpec], name: str) -> int:
    return math.prod(_find_shape(tensors, name)) if name in tensors else 0
