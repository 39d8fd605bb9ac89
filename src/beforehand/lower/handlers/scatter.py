"""Rows gathered into others: sums, means and extremes of segments, updates of which several may go to one place."""

from __future__ import annotations

from typing import Any

import numpy as np
from tf2onnx import utils
from tf2onnx.handler import tf_op

from beforehand.lower.handlers.build_nodes import Nodes

_INT64 = 7  # onnx.TensorProto.INT64
_REDUCTIONS = {"Sum": "add", "Mean": "add", "SqrtN": "add", "Max": "max", "Min": "min", "Prod": "mul"}


@tf_op("ScatterNd")
class ScatterNd:
    """Updates of one place add up; tf2onnx lets the last one win."""

    @classmethod
    def version_18(cls, ctx: Any, node: Any, **_: Any) -> None:
        """ScatterND into zeros, by addition."""
        nodes = Nodes(ctx, node)
        indices, updates, shape = nodes.inputs
        zeros = nodes.make("Expand", nodes.constant(0, updates), nodes.cast(shape, _INT64))
        nodes.replace("ScatterND", zeros, nodes.cast(indices, _INT64), updates, reduction="add")


def _list_segment_ops() -> list[str]:
    sparse = [f"SparseSegment{kind}{more}" for kind in ("Sum", "Mean", "SqrtN") for more in ("", "WithNumSegments")]
    dense = [f"Segment{kind}" for kind in ("Sum", "Mean", "Max", "Min", "Prod")]
    return [*dense, *sparse, *(f"UnsortedSegment{kind}" for kind in ("Sum", "Max", "Min", "Prod"))]


@tf_op(_list_segment_ops())
class ReduceSegments:
    """tf2onnx's own leave empty segments wrong, take ids of rank 1 alone, and need Unique, which has no static shape."""

    @classmethod
    def version_18(cls, ctx: Any, node: Any, **_: Any) -> None:
        """ScatterND by the op's reduction, into what TensorFlow has for an empty segment."""
        nodes = Nodes(ctx, node)
        unsorted = node.type.startswith("Unsorted")
        numbered = unsorted or node.type.endswith("WithNumSegments")
        kind = node.type.removesuffix("WithNumSegments").rpartition("Segment")[2]
        count = nodes.make("Reshape", nodes.cast(nodes.inputs[-1], _INT64), [1]) if numbered else None
        values = nodes.inputs[:-1] if numbered else nodes.inputs
        data, ids = values[0], values[-1]
        if node.type.startswith("Sparse"):
            data = nodes.make("Gather", data, values[1])
        ids = nodes.cast(ids, _INT64)
        data, ids = _flatten(nodes, data, ids)
        if count is None:
            last = nodes.make("Gather", ids, [-1], axis=0)
            count = nodes.make("Add", last, [1])
        if unsorted:  # a negative id drops its row: it goes to one more segment, which is cut off
            ids = nodes.make("Where", nodes.make("Less", ids, np.int64(0)), count, ids)
        _reduce(nodes, data, ids, count, kind)


def _flatten(nodes: Nodes, data: str, ids: str) -> tuple[str, str]:
    """Ids of one axis, and as many rows."""
    rank = nodes.ctx.get_rank(ids)
    utils.make_sure(rank is not None, "the rank of the segments' ids has to be known")
    if rank == 1:
        return data, ids
    inner = nodes.make("Slice", nodes.make("Shape", data), [rank], [np.iinfo(np.int32).max], [0])
    flat = nodes.make("Reshape", data, nodes.make("Concat", [-1], inner, axis=0))
    return flat, nodes.make("Reshape", ids, [-1])


def _reduce(nodes: Nodes, data: str, ids: str, count: str, kind: str) -> None:
    inner = nodes.make("Slice", nodes.make("Shape", data), [1], [np.iinfo(np.int32).max], [0])
    rows = nodes.make("Add", count, [1])
    start = nodes.make("Expand", _find_start(nodes, data, kind), nodes.make("Concat", rows, inner, axis=0))
    places = nodes.make("Unsqueeze", ids, [-1])
    reduced = nodes.make("ScatterND", start, places, data, reduction=_REDUCTIONS[kind])
    reduced = nodes.make("Slice", reduced, [0], count, [0])
    if nodes.node.type.startswith("Unsorted") or kind in ("Sum", "Prod"):
        nodes.replace("Identity", reduced)
        return
    members = _count_members(nodes, data, ids, places, rows, count)
    one, zero = nodes.constant(1, data), nodes.constant(0, data)
    if kind in ("Max", "Min"):
        nodes.replace("Where", nodes.make("Less", zero, members), reduced, zero)
        return
    divisor = nodes.make("Max", members, one)
    nodes.replace("Div", reduced, nodes.make("Sqrt", divisor) if kind == "SqrtN" else divisor)


def _count_members(nodes: Nodes, data: str, ids: str, places: str, rows: str, count: str) -> str:
    """How many rows each segment has, in a shape that goes with the segments."""
    rank = nodes.ctx.get_rank(data)
    utils.make_sure(rank is not None, "the rank of the segments' data has to be known")
    zero, one = nodes.constant(0, data), nodes.constant(1, data)
    ones = nodes.make("Expand", one, nodes.make("Shape", ids))
    members = nodes.make("ScatterND", nodes.make("Expand", zero, rows), places, ones, reduction="add")
    members = nodes.make("Slice", members, [0], count, [0])
    return nodes.make("Reshape", members, [-1] + [1] * (rank - 1))


def _find_start(nodes: Nodes, data: str, kind: str) -> str:
    dtype = nodes.numpy_dtype(data)
    limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return nodes.constant({"Prod": 1, "Max": limits.min, "Min": limits.max}.get(kind, 0), data)
