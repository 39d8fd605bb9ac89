"""A segment to ONNX files: cut, merge, translate, write."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

from beforehand.errors import LoweringError
from beforehand.graph.nodes import FindOpDef
from beforehand.lower.cut_segment import ReadWeight, cut_segment
from beforehand.lower.find_inexact import find_inexact
from beforehand.lower.merge_dilations import merge_dilations
from beforehand.lower.pair_quantization import pair_quantization
from beforehand.lower.restore_names import restore_names
from beforehand.lower.translate import translate
from beforehand.lower.write_onnx import write_onnx
from beforehand.records import FlatGraph, LoweredSegment, Segment, TensorSpec
from beforehand.store import layout


def lower_segment(
    graph: FlatGraph,
    segment: Segment,
    tensors: Mapping[str, TensorSpec],
    read: ReadWeight,
    folder: pathlib.Path,
    find_op_def: FindOpDef,
) -> LoweredSegment:
    """Write `segment` as ONNX into `folder`, which must be empty.

    Args:
        graph: The flat graph.
        segment: A segment of it.
        tensors: The graph's tensors.
        read: Gives the value of a weight, an array of the weight's dtype and shape.
        folder: Where the two files go.
        find_op_def: The OpDef of a stock op.

    Raises:
        LoweringError: BH302, with the nodes that cannot be written as ONNX.
    """
    cut = merge_dilations(cut_segment(graph, segment, tensors, read))
    inexact = find_inexact(cut, find_op_def)
    if inexact:
        raise LoweringError(
            "an engine would not compute exactly " + ", ".join(inexact),
            nodes=tuple(inexact),
            why="; ".join(dict.fromkeys(inexact.values())),
        )
    model = translate(cut)
    restore_names(model.graph, cut.graph_def, cut.outputs)
    pair_quantization(model.graph, frozenset(name for name, _ in cut.weights))
    written = write_onnx(model, cut, read, folder)
    onnx_file = str(folder / layout.ONNX_MODEL)
    has_ranges = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    return LoweredSegment(
        segment,
        onnx_file,
        tuple(tensor.removesuffix(":0") for tensor in cut.inputs),
        tuple(f"output_{index}" for index in range(len(cut.outputs))),
        written.digest,
        tuple(weight for _, weight in cut.weights),
        written.onnx_sha256,
        written.weights_sha256,
        written.bytes,
        onnx_file if has_ranges else "",
        written.onnx_sha256 if has_ranges else "",
    )
