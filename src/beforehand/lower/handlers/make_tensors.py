"""Tensors made from few numbers, and shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
from tf2onnx import utils
from tf2onnx.handler import tf_op

from beforehand.lower.handlers.build_nodes import Nodes

_INT64 = 7  # onnx.TensorProto.INT64


@tf_op("OneHot")
class OneHot:
    """ONNX's own counts negative indices from the end, where TensorFlow has no 1 for them, and needs a constant depth."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Where(index == 0, 1, 2..., on, off)."""
        nodes = Nodes(ctx, node)
        indices, depth, on, off = nodes.inputs
        rank = ctx.get_rank(indices)
        utils.make_sure(rank is not None, "the rank of the indices has to be known")
        axis = node.get_attr_value("axis", -1)
        axis = rank if axis == -1 else axis
        steps = nodes.make("Range", np.int64(0), nodes.cast(depth, _INT64), np.int64(1))
        steps = nodes.make("Reshape", steps, [-1] + [1] * (rank - axis))
        indices = nodes.make("Unsqueeze", nodes.cast(indices, _INT64), [axis])
        nodes.replace("Where", nodes.make("Equal", indices, steps), on, off)


@tf_op("LinSpace")
class LinSpace:
    """tf2onnx makes it of a loop that OpenVINO does not take."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Start + step * (0, 1, 2...), and the last is `stop` itself."""
        nodes = Nodes(ctx, node)
        start, stop, number = nodes.inputs
        number = nodes.cast(number, _INT64)
        last = nodes.make("Sub", number, np.int64(1))
        steps = nodes.make("Max", last, np.int64(1))
        step = nodes.make("Div", nodes.make("Sub", stop, start), nodes.cast(steps, nodes.dtype(start)))
        places = nodes.make("Range", np.int64(0), number, np.int64(1))
        line = nodes.make("Add", start, nodes.make("Mul", nodes.cast(places, nodes.dtype(start)), step))
        is_last = nodes.make("And", nodes.make("Equal", places, last), nodes.make("Less", np.int64(0), places))
        nodes.replace("Where", is_last, stop, line)


@tf_op("ShapeN")
class ShapeN:
    """The shapes of several tensors."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """A Shape for each."""
        nodes = Nodes(ctx, node)
        dtype = ctx.get_dtype(node.output[0])
        shapes = [nodes.make("Shape", value) for value in nodes.inputs]
        nodes.replace_all([("Cast", (shape,), {"to": dtype}) for shape in shapes])


@tf_op("InvertPermutation")
class InvertPermutation:
    """tf2onnx answers in int64, whatever the input is."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Place i goes to place p[i]."""
        nodes = Nodes(ctx, node)
        [given] = nodes.inputs
        places = nodes.cast(given, _INT64)
        steps = nodes.make("Range", np.int64(0), nodes.make("Size", places), np.int64(1))
        nodes.replace("ScatterElements", given, places, nodes.cast(steps, nodes.dtype(given)), axis=0)
