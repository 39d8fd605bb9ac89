"""A TensorFlow GraphDef to an ONNX graph, by tf2onnx."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from beforehand.errors import LoweringError
from beforehand.lower.cut_segment import CutSegment
from beforehand.lower.find_recurrences import find_recurrences
from beforehand.lower.handlers.refused_ops import REFUSED_OPS
from beforehand.lower.handlers.register_handlers import register_handlers
from beforehand.lower.make_functions_unique import find_owners
from beforehand.lower.write_recurrences import make_rewriter

OPSET = 18  # the newest that tf2onnx 1.17 writes
_FAILED = re.compile(r"Failed to convert node '(?P<node>[^']+)'")


def list_supported_ops() -> frozenset[str]:
    """TensorFlow ops that have a translation."""
    register_handlers()
    from tf2onnx.handler import tf_op  # noqa: PLC0415

    return frozenset(tf_op.create_mapping(OPSET, [])) - REFUSED_OPS.keys()


def translate(cut: CutSegment) -> Any:
    """The segment as an ONNX ModelProto; its large weights are still inputs.

    Raises:
        LoweringError: BH302, with the TensorFlow nodes that cannot be written as ONNX.
    """
    import tf2onnx  # noqa: PLC0415
    from tf2onnx import optimizer, tfonnx  # noqa: PLC0415

    register_handlers()

    inputs = [*cut.inputs, *(f"{name}:0" for name, _ in cut.weights)]
    renamed = {tensor: tensor.removesuffix(":0") for tensor in inputs}
    renamed.update({tensor: f"output_{index}" for index, tensor in enumerate(cut.outputs)})
    with tf.Graph().as_default() as graph, _quiet_tf2onnx() as problems:
        tf.graph_util.import_graph_def(cut.graph_def, name="")
        try:
            onnx_graph = tfonnx.process_tf_graph(
                graph,
                continue_on_error=True,
                opset=OPSET,
                custom_rewriter=[make_rewriter(find_recurrences(graph, cut))],
                input_names=inputs,
                output_names=list(cut.outputs),
                tensors_to_rename=renamed,
            )
        except Exception as error:  # tf2onnx raises what its handlers raise
            raise LoweringError(
                "tf2onnx cannot translate the segment", why=f"{type(error).__name__}: {error}"
            ) from error
        owners = {**find_owners(cut.graph_def), **{node.name: node.name for node in cut.graph_def.node}}
        refused = _find_refused(onnx_graph, problems, owners)
        if refused:
            raise LoweringError(
                f"tf2onnx {tf2onnx.__version__} cannot translate " + ", ".join(refused),
                nodes=refused,
                why="; ".join(problems)[:500],
            )
        return optimizer.optimize_graph(onnx_graph).make_model("segment")


def _find_refused(onnx_graph: Any, problems: list[str], owners: Mapping[str, str]) -> tuple[str, ...]:
    """TensorFlow nodes that a handler failed on, or that are no ONNX nodes after all passes.

    For what is in a body, the loop or branch that has it.
    """
    import onnx  # noqa: PLC0415

    refused = [match["node"] for text in problems for match in _FAILED.finditer(text)]
    for node in _list_nodes(onnx_graph):
        own = node.is_const() or node.is_graph_input()  # tf2onnx keeps TensorFlow's names for these
        if not own and node.domain in ("", "ai.onnx") and not onnx.defs.has(node.type):
            refused.append(re.sub(r"__\d+$", "", node.name))
    return tuple(dict.fromkeys(owners[name] for name in refused if name in owners))


def _list_nodes(onnx_graph: Any) -> Iterator[Any]:
    for node in onnx_graph.get_nodes():
        yield node
        for body in (node.get_body_graphs() or {}).values():
            yield from _list_nodes(body)


@contextmanager
def _quiet_tf2onnx() -> Iterator[list[str]]:
    """tf2onnx tells what went wrong in its log alone: collect it there, and keep it from the user's screen."""
    problems: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reason = f"{record.exc_info[1]}: " if record.exc_info and record.exc_info[1] else ""
            problems.append(reason + record.getMessage())

    logger = logging.getLogger("tf2onnx")
    collector = Collector(logging.ERROR)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(collector)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield problems
    finally:
        logger.removeHandler(collector)
        logger.setLevel(level)
        logger.propagate = propagate
