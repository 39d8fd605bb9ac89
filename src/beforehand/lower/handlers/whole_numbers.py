"""Division and remainder, which TensorFlow rounds down or towards zero, of whole numbers as of others."""

from __future__ import annotations

from typing import Any

from tf2onnx.handler import tf_op

from beforehand.lower.handlers.build_nodes import Nodes


def _is_whole(nodes: Nodes) -> bool:
    return bool(nodes.numpy_dtype(nodes.inputs[0]).kind in "iu")


def _make_remainder(nodes: Nodes, quotient: str) -> str:
    x, y = nodes.inputs
    return nodes.make("Sub", x, nodes.make("Mul", quotient, y))


def _make_is_below(nodes: Nodes, remainder: str) -> str:
    """Where the quotient that was rounded towards zero has to be one less."""
    zero = nodes.constant(0, remainder)
    signs_differ = nodes.make("Xor", nodes.make("Less", remainder, zero), nodes.make("Less", nodes.inputs[1], zero))
    return nodes.make("And", nodes.make("Not", nodes.make("Equal", remainder, zero)), signs_differ)


@tf_op("FloorDiv")
class FloorDiv:
    """ONNX's Div of whole numbers rounds towards zero, and tf2onnx's floor of it changes nothing."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Floor of the quotient."""
        nodes = Nodes(ctx, node)
        quotient = nodes.make("Div", *nodes.inputs)
        if not _is_whole(nodes):
            nodes.replace("Floor", quotient)
        elif nodes.numpy_dtype(quotient).kind == "u":
            nodes.replace("Identity", quotient)
        else:
            is_below = _make_is_below(nodes, _make_remainder(nodes, quotient))
            nodes.replace("Sub", quotient, nodes.make("Cast", is_below, to=nodes.dtype(quotient)))


@tf_op("FloorMod")
class FloorMod:
    """The remainder of FloorDiv: it has the divisor's sign."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """X - floor(x / y) * y."""
        nodes = Nodes(ctx, node)
        if not _is_whole(nodes):
            quotient = nodes.make("Floor", nodes.make("Div", *nodes.inputs))
            nodes.replace("Sub", nodes.inputs[0], nodes.make("Mul", quotient, nodes.inputs[1]))
            return
        remainder = _make_remainder(nodes, nodes.make("Div", *nodes.inputs))
        raised = nodes.make("Add", remainder, nodes.inputs[1])
        nodes.replace("Where", _make_is_below(nodes, remainder), raised, remainder)


@tf_op("TruncateDiv")
class TruncateDiv:
    """The quotient, rounded towards zero."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """As C has it."""
        nodes = Nodes(ctx, node)
        quotient = nodes.make("Div", *nodes.inputs)
        if _is_whole(nodes):
            nodes.replace("Identity", quotient)
            return
        is_below = nodes.make("Less", quotient, nodes.constant(0, quotient))
        nodes.replace("Where", is_below, nodes.make("Ceil", quotient), nodes.make("Floor", quotient))


@tf_op(["Mod", "TruncateMod"])
class TruncateMod:
    """The remainder of TruncateDiv: it has the dividend's sign."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """As C has it."""
        nodes = Nodes(ctx, node)
        if _is_whole(nodes):
            nodes.replace("Identity", _make_remainder(nodes, nodes.make("Div", *nodes.inputs)))
        else:
            nodes.replace("Mod", *nodes.inputs, fmod=1)
