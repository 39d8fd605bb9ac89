"""A short way to write ONNX nodes into tf2onnx's graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from tf2onnx import utils


class Nodes:
    """Writes the nodes that stand for one TensorFlow node.

    Values are names of tensors, or arrays, which become constants.
    """

    def __init__(self, ctx: Any, node: Any) -> None:
        self.ctx = ctx
        self.node = node
        self.inputs = list(node.input)
        self._shapes, self._dtypes = node.output_shapes, node.output_dtypes

    def dtype(self, name: str) -> Any:
        """ONNX's number of a tensor's dtype."""
        return self.ctx.get_dtype(name)

    def numpy_dtype(self, name: str) -> Any:
        """NumPy's dtype of a tensor."""
        return np.dtype(utils.map_onnx_to_numpy_type(self.dtype(name)))

    def constant(self, value: Any, like: str | None = None) -> str:
        """A constant; of the dtype of `like`, if that is given."""
        array = np.asarray(value) if like is None else np.asarray(value, self.numpy_dtype(like))
        return str(self.ctx.make_const(utils.make_name(f"{self.node.name}_const"), array).output[0])

    def make(self, op: str, *values: Any, **attributes: Any) -> str:
        """One node of one output."""
        inputs = [value if isinstance(value, str) else self.constant(value) for value in values]
        return str(self.ctx.make_node(op, inputs, attr=attributes, op_name_scope=self.node.name).output[0])

    def cast(self, value: str, dtype: Any) -> str:
        """A cast to ONNX's dtype number, if it changes anything."""
        return value if self.dtype(value) == dtype else self.make("Cast", value, to=dtype)

    def replace(self, op: str, *values: Any, **attributes: Any) -> None:
        """The last node, which takes the place of the TensorFlow node's first output."""
        self.replace_all([(op, values, attributes)])

    def replace_all(self, last: list[tuple[str, Any, Any]]) -> None:
        """For each output of the TensorFlow node the node that takes its place."""
        outputs = self.node.output
        self.ctx.remove_node(self.node.name)
        for index, (op, values, attributes) in enumerate(last):
            inputs = [value if isinstance(value, str) else self.constant(value) for value in values]
            self.ctx.make_node(
                op, inputs, attr=attributes, outputs=[outputs[index]], shapes=[self._shapes[index]],
                dtypes=[self._dtypes[index]], name=self.node.name if not index else None,
            )  # fmt: skip
