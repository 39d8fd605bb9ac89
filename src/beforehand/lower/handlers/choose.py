"""Select: which of two values."""

from __future__ import annotations

from typing import Any

from tf2onnx.handler import tf_op

from beforehand.lower.handlers.build_nodes import Nodes

_BOOL = 9  # onnx.TensorProto.BOOL


@tf_op(["Select", "SelectV2"])
class Select:
    """Always ONNX's Where. tf2onnx multiplies by 0 and 1, so that `where(x > 0, log(x), 0)` is NaN where x < 0."""

    @classmethod
    def version_13(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Where; a condition of rank 1 chooses rows in the first version of the op."""
        nodes = Nodes(ctx, node)
        condition, yes, no = nodes.inputs
        rank = ctx.get_rank(yes) if ctx.get_rank(yes) is not None else ctx.get_rank(no)
        if node.type == "Select" and ctx.get_rank(condition) == 1 and rank != 1:
            condition = nodes.make("Reshape", condition, [-1] + [1] * (rank - 1))
        if ctx.get_dtype(yes) == _BOOL:  # OpenVINO's passes mix the dtypes of a Where of truths
            chosen = nodes.make("And", condition, yes)
            nodes.replace("Or", chosen, nodes.make("And", nodes.make("Not", condition), no))
        else:
            nodes.replace("Where", condition, yes, no)
