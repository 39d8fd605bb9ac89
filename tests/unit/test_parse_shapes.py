"""The texts of `--shapes`: round trip, grouping into shape sets, and what is said of nonsense."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beforehand.cli.parse_buckets import parse_buckets
from beforehand.cli.parse_shapes import format_shapes, parse_shapes, parse_text
from beforehand.errors import OptionValueError, SampleError
from beforehand.records import ShapeSet, Signature, TensorSpec

NAMES = st.text(st.characters(exclude_characters=",", exclude_categories=["C", "Z"]), min_size=1).filter(
    lambda name: name == name.strip()
)
SHAPES = st.lists(st.integers(1, 10**6), max_size=5).map(tuple)
RANGES = st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)).map(lambda pair: (min(pair), max(pair) + 1))
RANGED = st.tuples(RANGES, SHAPES).map(lambda parts: (parts[0], *parts[1]))
SETS = st.dictionaries(NAMES, SHAPES, min_size=1, max_size=4)


def make_signature(key: str = "serving_default", **inputs: tuple[int | None, ...] | None) -> Signature:
    return Signature(key, tuple(TensorSpec(name, "float32", shape) for name, shape in inputs.items()), ())


ONE = make_signature(x=(None, 3))
TWO = make_signature(inp1=(None, 16), inp2=(None, 8))


@given(st.dictionaries(NAMES, SHAPES | RANGED, min_size=1, max_size=4))
def test_what_is_formatted_is_parsed_back(shapes: dict[str, tuple[Any, ...]]) -> None:
    assert parse_text(format_shapes(shapes)) == shapes


@given(SETS)
def test_what_messages_say_of_a_shape_set_can_be_given_as_an_option(shapes: dict[str, tuple[int, ...]]) -> None:
    assert parse_text(ShapeSet(tuple(shapes), tuple(shapes.values())).describe()) == shapes


@given(SETS, st.data())
def test_inputs_given_one_by_one_make_the_same_sets_as_inputs_given_together(
    first: dict[str, tuple[int, ...]], data: st.DataObject
) -> None:
    second = {name: data.draw(SHAPES) for name in first}
    signature = make_signature(**dict.fromkeys(first))
    alone = [format_shapes({name: shape}) for given_set in (first, second) for name, shape in given_set.items()]
    together = [format_shapes(first), format_shapes(second)]
    assert parse_shapes(alone, [signature]) == parse_shapes(together, [signature]) == {signature.key: [first, second]}


@given(st.text())
def test_any_text_is_a_shape_or_an_error_that_quotes_it(text: str) -> None:
    try:
        shapes = parse_text(text)
    except OptionValueError as error:
        told = str(error)
    else:
        told = repr(text)
        assert parse_text(format_shapes(shapes)) == shapes
    assert repr(text) in told


def test_each_occurrence_is_a_set_for_one_input() -> None:
    assert parse_shapes(["x=1x3", "x=8x3"], [ONE]) == {"serving_default": [{"x": (1, 3)}, {"x": (8, 3)}]}


def test_sets_given_whole_stay_apart_and_come_in_the_order_of_the_signature() -> None:
    found = parse_shapes(["inp2=1x8,inp1=1x16", "inp1=2x16, inp2=2x8"], [TWO])
    assert found == {"serving_default": [{"inp1": (1, 16), "inp2": (1, 8)}, {"inp1": (2, 16), "inp2": (2, 8)}]}
    assert list(found["serving_default"][0]) == ["inp1", "inp2"]


def test_a_scalar_is_a_shape() -> None:
    assert parse_text("x=2x3,rate=scalar") == {"x": (2, 3), "rate": ()}


def test_a_name_may_hold_an_equals_sign() -> None:
    assert parse_text("a=b=1x2") == {"a=b": (1, 2)}


def test_every_signature_that_fits_is_built_for() -> None:
    signatures = [ONE, make_signature("serve", x=(None, 3)), make_signature("wide", x=(None, 5))]
    assert set(parse_shapes(["x=1x3"], signatures)) == {"serving_default", "serve"}


def test_a_text_that_completes_one_signature_is_not_missed_by_another() -> None:
    found = parse_shapes(["inp1=1x16,inp2=1x8", "inp1=2x16"], [TWO, make_signature("half", inp1=(None, 16))])
    assert found == {
        "serving_default": [{"inp1": (1, 16), "inp2": (1, 8)}],
        "half": [{"inp1": (2, 16)}],
    }


def test_a_shape_that_fits_no_signature_goes_to_the_first_with_that_input_and_is_refused_there() -> None:
    assert parse_shapes(["x=1x4"], [ONE, make_signature("serve", x=(None, 3))]) == {"serving_default": [{"x": (1, 4)}]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x=1xx3", "'1xx3' is no shape for the input `x`"),
        ("x=", "'' is no shape for the input `x`"),
        ("x", "'x' is no INPUT=SHAPE"),
        ("=1x3", "'=1x3' is no INPUT=SHAPE"),
        ("x=1,224,3", "'224' is no INPUT=SHAPE; dimensions are joined by x"),
        ("x=1x3,x=2x3", "it has two shapes for the input `x`"),
        ("x=0x3", "the input `x` would be empty"),
        ("x=?x3", "an engine is built for fixed sizes"),
        ("x=-1x3", "an engine is built for fixed sizes"),
        ("x=Nonex3", "an engine is built for fixed sizes"),
        ("x=1X3", "'1X3' is no shape"),
        ("x=8..1x3", "a range of the input `x` ends below its start"),
        ("x=0..1x3", "the input `x` would be empty"),
        ("x=1x3..1", "a range of the input `x` ends below its start"),
        ("x=1..x3", "'1..x3' is no shape"),
        ("x=1..2..3x3", "'1..2..3x3' is no shape"),
        ("x=\u0661x3", "is no shape"),
    ],
)
def test_nonsense_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(OptionValueError) as caught:
        parse_shapes([text], [ONE])
    assert words in str(caught.value)
    assert "Try: --shapes x=1x224x224x3" in str(caught.value)


def test_an_unknown_input_names_the_nearest_one_and_lists_all() -> None:
    with pytest.raises(SampleError) as caught:
        parse_shapes(["Imp1=1x16,inp2=1x8"], [TWO])
    text = str(caught.value)
    assert "there is no input `Imp1`" in text
    assert "did you mean `inp1`?" in text
    assert "serving_default: inp1 float32 (?, 16), inp2 float32 (?, 8)" in text


def test_inputs_of_two_signatures_in_one_set_are_refused() -> None:
    with pytest.raises(SampleError, match="no signature has all the inputs of --shapes 'x=1x3,z=1x3'"):
        parse_shapes(["x=1x3,z=1x3"], [ONE, make_signature("other", z=(None, 3))])


@pytest.mark.parametrize(
    "texts", [["inp1=1x16"], ["inp1=1x16", "inp1=2x16", "inp2=2x8"], ["inp1=1x16", "inp1=1x16,inp2=1x8"]]
)
def test_an_input_without_a_shape_is_named(texts: list[str]) -> None:
    with pytest.raises(SampleError, match="--shapes 'inp1=1x16' has no shape for `inp2`"):
        parse_shapes(texts, [TWO])


def test_what_was_put_together_before_an_input_was_missed_is_told_too() -> None:
    with pytest.raises(SampleError, match="--shapes 'a=1,b=2' has no shape for `c`"):
        parse_shapes(["a=1", "b=2"], [make_signature(a=(None,), b=(None,), c=(None,))])


def test_a_first_dimension_may_be_a_range_and_a_range_of_one_is_none() -> None:
    found = parse_shapes(["x=1..8x3", "x=2..2x3"], [ONE, make_signature("fixed", x=(1, 3))])
    assert found == {"serving_default": [{"x": ((1, 8), 3)}, {"x": (2, 3)}]}


def test_what_messages_say_of_a_range_can_be_given_as_an_option() -> None:
    shapes = ShapeSet(("a", "b"), ((1, 3), (1, 5)), ((8, 3), (8, 5)))
    assert parse_text(shapes.describe()) == {"a": ((1, 8), 3), "b": ((1, 8), 5)}


def test_any_dimension_may_be_a_range() -> None:
    assert parse_text("x=1..8x16..128x3,y=4x2..3") == {"x": ((1, 8), (16, 128), 3), "y": (4, (2, 3))}


def test_the_limit_of_buckets_is_read_and_nonsense_refused() -> None:
    assert parse_buckets(None) is None
    assert parse_buckets("max_spread=2") == {"max_spread": 2.0}
    assert parse_buckets("max-padding=0.5") == {"max_padding": 0.5}
    for text in (
        "",
        "2",
        "max_spread",
        "max_spread=x",
        "max_spread=0.5",
        "spread=2",
        "max_padding=-1",
        "max_spread=nan",
    ):
        with pytest.raises(OptionValueError, match=r"BH102 --buckets is .*Try: --buckets max_spread=2"):
            parse_buckets(text)
