"""The lines after convert() and build(): short for any model, and true where engines are not used or failed."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from beforehand.records import Engine, FlatGraph, LeftOut, Partition, Segment, ShapeSet, Signature
from beforehand.report.summarize_steps import summarize_build, summarize_conversion
from beforehand.segment import reasons


def make_partition(share: float, left_out: tuple[str, ...], nodes: tuple[str, ...] = ("a", "b", "idle")) -> Partition:
    graph_def = tf.compat.v1.GraphDef()
    for name in nodes:
        graph_def.node.add(name=name, op="NoOp" if name == "idle" else "Relu")
    graph = FlatGraph(Signature("serving_default", (), ()), graph_def, (), (), ())
    segment = Segment("TRTEngineOp_000_000", 0, "serving_default", nodes, (), (), (), (), (), 1, share)
    return Partition(graph, (segment,), (), tuple(LeftOut(f"n{i}", "Op", reason) for i, reason in enumerate(left_out)))


def make_engine(batch: int, precision: str = "FP32", size: int = 1_500_000) -> Engine:
    shapes = ShapeSet(("x",), ((batch, 8),))
    return Engine(
        "s", 0, shapes, "openvino", "1", precision, "cpu", ("x",), ("y",), f"{batch}{precision}", "f", size, "", 1.0
    )


def test_a_conversion_counts_nodes_that_do_something_and_names_the_frequent_reasons() -> None:
    left = (*[reasons.DTYPE] * 4, *[reasons.STATEFUL] * 3, reasons.REFUSED, reasons.REFUSED, reasons.TOO_SMALL)
    line = summarize_conversion([make_partition(0.985, left)], 2.06)
    assert line == (
        "converted in 2.1 s: 2 of 12 nodes in 1 segment, 98.5% of the arithmetic; in TensorFlow: dtype 4, stateful 3, "
        "refused by backend 2, and others"
    )


def test_of_several_graphs_the_lowest_share_is_told_and_nothing_of_what_is_not_there() -> None:
    line = summarize_conversion([make_partition(1.0, ()), make_partition(0.5, ())], 1.0)
    assert line == "converted in 1.0 s: 4 of 4 nodes in 2 segments, at least 50.0% of the arithmetic"


def test_a_build_tells_of_what_is_not_used_and_what_failed_only_where_there_is_some() -> None:
    engines = [make_engine(1), make_engine(2)]
    assert summarize_build(engines, engines, 0, 3.21) == "built in 3.2 s: 2 engines, 3.0 MB"
    assert summarize_build(engines, engines[:1], 1, 3.21) == (
        "built in 3.2 s: 1 engine, 1.5 MB; 1 set of shapes left to TensorFlow: summary() says why; 1 could not be built"
    )


def test_other_precisions_of_a_set_of_shapes_that_is_served_are_not_left() -> None:
    built = [make_engine(1), make_engine(1, "BF16")]
    healed = dataclasses.replace(built[1], key="other")
    assert "left" not in summarize_build(built, [healed], 0, 1.0)
