"""Ranges of batch sizes: what of `shapes=` and of samples makes one, which segments have one, and when one is offered."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from beforehand.build_engines.pair_shapes import pair_shapes
from beforehand.errors import SampleError
from beforehand.records import Engine, SegmentRecord, ShapeSet, Signature, TensorSpec
from beforehand.report.find_range_offers import find_range_offers
from beforehand.saved_model.read_shapes import read_shapes
from beforehand.saved_model.sample_range import SampleRange, merge_batches, take_singly

ONE = Signature("serving_default", (TensorSpec("x", "float32", (None, None, 3)),), ())
TWO = Signature("serving_default", (TensorSpec("a", "float32", (None, 4)), TensorSpec("b", "int32", (None,))), ())
FIXED = Signature("serving_default", (TensorSpec("x", "float32", (8, 3)),), ())
SEGMENTS = tuple(SegmentRecord(f"TRTEngineOp_000_00{i}", "serving_default", 3, 1.0, (), (), ()) for i in range(2))


def list_ends(ranges: Any, signature: Signature) -> list[tuple[Any, Any]]:
    return [item.list_shapes([spec.name for spec in signature.inputs]) for item in ranges]


def zeros(signature: Signature, *several: Any) -> list[dict[str, Any]]:
    names = [spec.name for spec in signature.inputs]
    return [{name: np.zeros(shape) for name, shape in zip(names, shapes, strict=True)} for shapes in several]


def test_a_pair_in_the_first_dimension_is_a_range() -> None:
    found = list(read_shapes([{"x": ((1, 8), 5, 3)}, {"x": (np.int64(2), 5, 3)}, {"x": ([4, 4], 5, 3)}], ONE))
    assert list_ends(found, ONE) == [
        (((1, 5, 3),), ((8, 5, 3),)),
        (((2, 5, 3),), ((2, 5, 3),)),
        (((4, 5, 3),), ((4, 5, 3),)),
    ]
    assert [item.is_range for item in found] == [True, False, False]


def test_inputs_that_have_the_range_go_along_and_others_stay() -> None:
    [both] = read_shapes({"b": ((1, 8),), "a": ((1, 8), 4)}, TWO)
    [one] = read_shapes({"b": ((1, 8),), "a": (5, 4)}, TWO)
    assert list_ends([both, one], TWO) == [
        (((1, 4), (1,)), ((8, 4), (8,))),
        (((5, 4), (1,)), ((5, 4), (8,))),
    ]


def test_any_dimension_may_have_a_range_of_its_own() -> None:
    [several] = read_shapes({"x": ((1, 8), (5, 7), 3)}, ONE)
    [apart] = read_shapes({"a": ((1, 8), 4), "b": ((2, 9),)}, TWO)
    assert list_ends([several], ONE) == [(((1, 5, 3),), ((8, 7, 3),))]
    assert list_ends([apart], TWO) == [(((1, 4), (2,)), ((8, 4), (9,)))]
    with pytest.raises(SampleError, match=r"batch_range is given beside the range x=1\.\.8x5\.\.7x3"):
        merge_batches([several], ONE)


@pytest.mark.parametrize(
    ("shapes", "signature", "words"),
    [
        ({"x": (1, 5, (3, 4))}, ONE, "dimension"),
        ({"x": ((8, 1), 5, 3)}, ONE, "has a range from 8 to 1 for the input `x`"),
        ({"x": ((0, 1), 5, 3)}, ONE, "has a range from 0 to 1 for the input `x`"),
        ({"x": ((1, 2, 3), 5, 3)}, ONE, "is no mapping from input names to shapes"),
        ({"x": (1.5, 5, 3)}, ONE, "is no mapping from input names to shapes"),
        ({"x": (None, 5, 3)}, ONE, "is no mapping from input names to shapes"),
        ({"x": 3}, ONE, "is no mapping from input names to shapes"),
        ({"x": ((1, 8), 3)}, FIXED, "dimension"),
        ({"y": ((1, 8), 3)}, FIXED, "there is no input `y`"),
    ],
)
def test_shapes_that_are_no_range_of_the_signature_are_refused(shapes: Any, signature: Signature, words: str) -> None:
    with pytest.raises(SampleError) as caught:
        list(read_shapes(shapes, signature))
    assert words in str(caught.value)


def test_samples_that_differ_in_the_batch_alone_become_one_range() -> None:
    samples = zeros(ONE, [(4, 5, 3)], [(1, 5, 3)], [(2, 7, 3)], [(16, 5, 3)], [(4, 5, 3)])
    found = merge_batches(take_singly(samples), ONE)
    assert list_ends(found, ONE) == [(((1, 5, 3),), ((16, 5, 3),)), (((2, 7, 3),), ((2, 7, 3),))]
    assert (found[0].low, found[0].high) == (samples[1], samples[3])  # the user's own values: they may be measured with
    assert not found[1].is_range


def test_ranges_and_samples_are_merged_too() -> None:
    ranges = [*read_shapes([{"x": ((2, 4), 5, 3)}, {"x": (9, 5, 3)}], ONE)]
    assert list_ends(merge_batches(ranges, ONE), ONE) == [(((2, 5, 3),), ((9, 5, 3),))]


def test_an_input_whose_first_dimension_never_varies_is_no_batch() -> None:
    found = merge_batches(take_singly(zeros(TWO, [(1, 4), (7,)], [(3, 4), (7,)])), TWO)
    assert list_ends(found, TWO) == [(((1, 4), (7,)), ((3, 4), (7,)))]


def test_first_dimensions_that_vary_independently_are_refused() -> None:
    with pytest.raises(SampleError, match=r"no batch dimension in common.*a \(3, 4\), b \(2,\)"):
        merge_batches(take_singly(zeros(TWO, [(1, 4), (1,)], [(3, 4), (2,)])), TWO)


def test_a_range_of_one_sample_is_that_sample() -> None:
    [sample] = zeros(ONE, [(1, 5, 3)])
    assert merge_batches([SampleRange(sample, sample)], ONE) == [SampleRange(sample, sample)]


def measured(*several: Any) -> list[tuple[int, ShapeSet]]:
    return [(index, ShapeSet(tuple("ab"[: len(shapes)]), shapes)) for index, shapes in several]


def test_measured_shapes_are_a_range_where_first_dimensions_grow_or_stay() -> None:
    low = measured((0, ((1, 6), (7, 2))), (1, ((64, 2),)))
    high = measured((1, ((512, 2),)), (0, ((8, 6), (7, 2))))
    assert pair_shapes(low, high, SEGMENTS) == [
        (0, ShapeSet(("a", "b"), ((1, 6), (7, 2)), ((8, 6), (7, 2)))),
        (1, ShapeSet(("a",), ((64, 2),), ((512, 2),))),
    ]


def test_calls_of_one_segment_are_paired_in_their_order() -> None:
    low, high = measured((0, ((1, 6),)), (0, ((1, 9),))), measured((0, ((8, 6),)), (0, ((8, 9),)))
    assert [shapes.describe() for _, shapes in pair_shapes(low, high, SEGMENTS)] == ["a=1..8x6", "a=1..8x9"]


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (((1, 6),), ((8, 7),)),  # another dimension goes along
        (((8, 6),), ((1, 6),)),  # it shrinks
        (((6, 1),), ((6, 8),)),  # the batch is not the first dimension
        (((1, 6),), ((8, 6, 1),)),
    ],
)
def test_a_segment_without_a_range_has_an_engine_for_both_ends_and_is_told(
    low: Any, high: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "beforehand"):
        found = pair_shapes(measured((1, low)), measured((1, high)), SEGMENTS)
    assert found == measured((1, low), (1, high))
    [record] = caplog.records
    assert record.getMessage().startswith("TRTEngineOp_000_001 has no range of batches")


def test_a_segment_that_is_not_asked_for_at_one_end_has_no_range(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "beforehand"):
        assert pair_shapes([], measured((0, ((8, 6),))), SEGMENTS) == measured((0, ((8, 6),)))
    assert "its inputs were not asked for with the smallest batch, and a=8x6 with the largest" in caplog.text


def test_of_a_range_in_other_dimensions_any_may_grow_and_none_shrink(caplog: pytest.LogCaptureFixture) -> None:
    low, high = measured((0, ((1, 6), (6, 1)))), measured((0, ((8, 7), (6, 8))))
    [(_, found)] = pair_shapes(low, high, SEGMENTS, any_dimension=True)
    assert found.describe() == "a=1..8x6..7, b=6x1..8"
    assert pair_shapes(high, low, SEGMENTS, any_dimension=True) == [*high, *low]
    assert "has no range of shapes" in caplog.text
    assert "they do not grow" in caplog.text


def engine(shapes: Any, *, size: int = 102_000_000, segment: str = "TRTEngineOp_000_000", largest: Any = ()) -> Engine:
    shape_set = ShapeSet(tuple("ab"[: len(shapes)]), shapes, largest)
    return Engine(segment, 0, shape_set, "openvino", "1", "FP32", "cpu", (), (), "k", "f", size, "0", 0.1)


def test_four_batch_sizes_of_resnet50_are_offered_one_range() -> None:
    [offer] = find_range_offers([engine(((batch, 224, 224, 3),)) for batch in (1, 8, 2, 4)])
    assert offer.shapes == ShapeSet(("a",), ((1, 224, 224, 3),), ((8, 224, 224, 3),))
    assert offer.is_worth_saying
    assert offer.describe() == (
        "4 engines of TRTEngineOp_000_000 that differ in the batch alone cost 408 MB on disk, as each holds all weights; "
        "one for a=1..8x224x224x3 would cost 102 MB: build(..., batch_range=True), or --batch-range. "
        "A call then takes 0 to 22 % longer (as measured on four models)"
    )


def test_what_differs_in_more_than_the_batch_is_offered_nothing() -> None:
    assert find_range_offers([engine(((1, 3),)), engine(((1, 4),)), engine(((1, 3),), segment="other")]) == ()
    assert find_range_offers([engine(((1, 3), (2,))), engine(((2, 3), (1,)))]) == ()
    assert find_range_offers([engine(((1, 3),), largest=((8, 3),))]) == ()


def test_a_range_and_a_batch_beside_it_are_offered_one_that_holds_both() -> None:
    [offer] = find_range_offers([engine(((1, 3),), largest=((8, 3),)), engine(((16, 3),))])
    assert offer.shapes.describe() == "a=1..16x3"


def test_small_engines_are_offered_a_range_that_no_log_mentions() -> None:
    [offer] = find_range_offers([engine(((batch, 3),), size=14_000_000) for batch in (1, 2, 3, 4)])
    assert not offer.is_worth_saying
