"""Which signatures are one segment and nothing else, and how their inputs and outputs stand in it."""

from __future__ import annotations

from typing import Any

import pytest

from beforehand.records import FlatGraph, Opened, Partition, Segment, Signature, TensorSpec, Whole
from beforehand.segment.find_whole import find_whole


def make_partition(
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    segment_inputs: tuple[str, ...],
    segment_outputs: tuple[str, ...],
    **more: Any,
) -> Partition:
    def specs(names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name, "float32", (None,)) for name in names)

    signature = Signature("serving_default", specs(inputs), specs(outputs))
    graph = FlatGraph(signature, None, inputs, outputs, ())
    segment = Segment(
        "TRTEngineOp_000_000", 0, "serving_default", ("n",), (), specs(segment_inputs), specs(segment_outputs),
        segment_inputs, segment_outputs, 1,
    )  # fmt: skip
    return Partition(graph, **{"segments": (segment,), "native_levels": (), "left_out": (), **more})


def test_inputs_and_outputs_are_found_by_tensor_in_whatever_order_they_stand() -> None:
    partition = make_partition(("a:0", "b:0", "c:0"), ("y:0", "z:0", "y:0"), ("c:0", "a:0"), ("z:0", "y:0"))
    assert find_whole(partition, 4) == Whole(4, (2, 0), (1, 0, 1))


@pytest.mark.parametrize(
    ("partition", "what"),
    [
        (make_partition(("a:0",), ("y:0",), ("a:0",), ("y:0",), native_levels=((0, ("p",)),)), "a native node"),
        (make_partition(("a:0",), ("y:0",), ("a:0",), ("y:0",), segments=()), "no segment"),
        (make_partition(("a:0",), ("y:0",), ("a:0",), ("y:0",), opened=(Opened("w", 0, (), (), ()),)), "a loop"),
        (make_partition(("a:0",), ("y:0",), ("b:0",), ("y:0",)), "an input from elsewhere"),
        (make_partition(("a:0",), ("y:0", "a:0"), ("a:0",), ("y:0",)), "an output that is an input"),
    ],
)
def test_what_needs_more_than_its_segment_is_not_whole(partition: Partition, what: str) -> None:
    assert find_whole(partition, 0) is None, what
