"""Functions of single numbers that ONNX does not have."""

from __future__ import annotations

from typing import Any

from tf2onnx.handler import tf_op

from beforehand.lower.handlers.build_nodes import Nodes


@tf_op("Erfc")
class Erfc:
    """`tf.nn.gelu` is made of it."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """1 - erf(x); of a negated x, 1 + erf, the form in which backends find GELU."""
        nodes = Nodes(ctx, node)
        positive = _find_negated(ctx, node.inputs[0])
        erf = nodes.make("Erf", positive or nodes.inputs[0])
        nodes.replace("Add" if positive else "Sub", nodes.constant(1, erf), erf)


def _find_negated(ctx: Any, node: Any) -> str | None:
    """`x / c` for the node of `(-x) / c`."""
    if node.type == "Neg":
        return str(node.input[0])
    if node.type in ("Div", "RealDiv", "Mul") and node.inputs[0].type == "Neg" and node.inputs[1].is_const():
        op = "Mul" if node.type == "Mul" else "Div"
        made = ctx.make_node(op, [node.inputs[0].input[0], node.input[1]], op_name_scope=node.name)
        return str(made.output[0])
    return None


@tf_op("Log1p")
class Log1p:
    """log(1 + x), as exact near 0 as it is elsewhere."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Kahan's form; see `make_log1p`."""
        nodes = Nodes(ctx, node)
        nodes.replace("Identity", make_log1p(nodes, nodes.inputs[0]))


def make_log1p(nodes: Nodes, x: str) -> str:
    """log(u) * x / (u - 1) for u = 1 + x: what u lost to rounding, the quotient makes good.

    Where u is 1 it is x; where u is 0 or infinite, so is u - 1's quotient, and log(u) itself is right.
    """
    one = nodes.constant(1, x)
    u = nodes.make("Add", one, x)
    log, less = nodes.make("Log", u), nodes.make("Sub", u, one)
    is_large = nodes.make("Less", nodes.constant(0.5, x), nodes.make("Abs", x))
    is_one = nodes.make("Equal", less, nodes.constant(0, x))
    divisor = nodes.make("Where", is_one, one, less)
    exact = nodes.make("Where", is_one, x, nodes.make("Mul", log, nodes.make("Div", x, divisor)))
    return nodes.make("Where", is_large, log, exact)


@tf_op("Expm1")
class Expm1:
    """exp(x) - 1, as exact near 0 as it is elsewhere."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Kahan's form: (u - 1) * x / log(u) for u = exp(x)."""
        nodes = Nodes(ctx, node)
        [x] = nodes.inputs
        u = nodes.make("Exp", x)
        less = nodes.make("Sub", u, nodes.constant(1, x))
        is_large = nodes.make("Less", nodes.constant(0.5, x), nodes.make("Abs", x))
        is_one = nodes.make("Equal", less, nodes.constant(0, x))
        divisor = nodes.make("Where", is_one, nodes.constant(1, x), nodes.make("Log", u))
        exact = nodes.make("Where", is_one, x, nodes.make("Mul", less, nodes.make("Div", x, divisor)))
        nodes.replace("Where", is_large, less, exact)


@tf_op(["MulNoNan", "Xdivy", "Xlog1py", "Xlogy"])
class ZeroWins:
    """Products that are 0 where one factor is, whatever the other is."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Where(factor == 0, 0, product)."""
        nodes = Nodes(ctx, node)
        x, y = nodes.inputs
        if node.type == "Xdivy":
            product = nodes.make("Div", x, y)
        elif node.type == "MulNoNan":
            product = nodes.make("Mul", x, y)
        else:
            product = nodes.make("Mul", x, nodes.make("Log", y) if node.type == "Xlogy" else make_log1p(nodes, y))
        zero = nodes.constant(0, x)
        nodes.replace("Where", nodes.make("Equal", y if node.type == "MulNoNan" else x, zero), zero, product)


@tf_op("ApproximateEqual")
class ApproximateEqual:
    """Whether two numbers are nearer than a tolerance."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """|x - y| < tolerance."""
        nodes = Nodes(ctx, node)
        distance = nodes.make("Abs", nodes.make("Sub", *nodes.inputs))
        nodes.replace("Less", distance, nodes.constant(node.get_attr_value("tolerance"), distance))


@tf_op("Inv", onnx_op="Reciprocal")
@tf_op("AccumulateNV2", onnx_op="Sum")
@tf_op("PreventGradient", onnx_op="Identity")
class SameUnderAnotherName:
    """Ops that ONNX has by another name."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """The attributes are TensorFlow's own."""
        nodes = Nodes(ctx, node)
        nodes.replace(node.type, *nodes.inputs)


@tf_op("EuclideanNorm")
class EuclideanNorm:
    """The root of the sum of squares."""

    @classmethod
    def version_18(cls, ctx: Any, node: Any, **_: Any) -> None:
        """ReduceL2."""
        nodes = Nodes(ctx, node)
        axes = nodes.cast(nodes.inputs[1], _INT64)
        if ctx.get_rank(nodes.inputs[1]) == 0:
            axes = nodes.make("Reshape", axes, [-1])
        nodes.replace(
            "ReduceL2", nodes.inputs[0], axes, keepdims=int(node.get_attr_value("keep_dims")), noop_with_empty_axes=1
        )


@tf_op("L2Loss")
class L2Loss:
    """Half the sum of squares."""

    @classmethod
    def version_18(cls, ctx: Any, node: Any, **_: Any) -> None:
        """A scalar."""
        nodes = Nodes(ctx, node)
        total = nodes.make("ReduceSumSquare", nodes.inputs[0], keepdims=0)
        nodes.replace("Mul", total, nodes.constant(0.5, total))


_INT64 = 7  # onnx.TensorProto.INT64
