"""The samples of `input_fn`: every form gives the same arrays, every mistake is refused with the signature beside it."""

from __future__ import annotations

import collections
import functools
import itertools
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from beforehand.errors import NoSamplesError, SampleError
from beforehand.records import ShapeSet, Signature, TensorSpec
from beforehand.saved_model.read_samples import Sample, read_sample_files, read_samples, shape_set_of

A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.array([1, 2], dtype=np.int32)


class LikeTensor:
    """What beforehand needs of a tensor: `.numpy()`."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def numpy(self) -> Any:
        return self.array


def sign(*specs: tuple[str, str, tuple[int | None, ...] | None]) -> Signature:
    return Signature("serving_default", tuple(TensorSpec(*spec) for spec in specs), ())


ONE = sign(("x", "float32", (None, 3)))
TWO = sign(("a", "float32", (None, 3)), ("b", "int32", (None,)))


def read(source: Any, signature: Signature = ONE) -> list[Sample]:
    return list(read_samples(source, signature))


def refuse(source: Any, signature: Signature = ONE) -> str:
    with pytest.raises(SampleError) as caught:
        read(source, signature)
    text = str(caught.value)
    assert text.startswith("BH122 ")
    for spec in signature.inputs:
        assert spec.name in text
        assert spec.dtype in text
    return text


def check_is_a(samples: list[Sample], count: int) -> None:
    assert len(samples) == count
    for sample in samples:
        assert list(sample) == ["x"]
        np.testing.assert_array_equal(sample["x"], A)
        assert sample["x"].dtype == np.float32


def check_is_a_and_b(samples: list[Sample], count: int) -> None:
    assert len(samples) == count
    for sample in samples:
        assert list(sample) == ["a", "b"]
        np.testing.assert_array_equal(sample["a"], A)
        np.testing.assert_array_equal(sample["b"], B)


def yield_twice(item: Any) -> Any:
    yield item
    yield item


ONE_FORMS = {
    "bare": A,
    "parentheses": (A),
    "one-tuple": (A,),
    "list": [A],
    "dict": {"x": A},
    "dict and a comma": ({"x": A},),
    "tensor": LikeTensor(A),
    "tensor in a tuple": (LikeTensor(A),),
    "nested numbers": A.tolist(),
    "nested numbers in a tuple": (A.tolist(),),
    "nested numbers in a list": [A.tolist()],
}
TWO_FORMS = {
    "tuple": (A, B),
    "list": [A, B],
    "dict": {"a": A, "b": B},
    "dict in another order": {"b": B, "a": A},
    "ordered dict": collections.OrderedDict(b=B, a=A),
    "tensors": (LikeTensor(A), LikeTensor(B)),
    "tensor and array": [A, LikeTensor(B)],
    "array and numbers": (A, [1, 2]),
    "numbers": (A.tolist(), [1, 2]),
    "dict of numbers": {"b": [1, 2], "a": A.tolist()},
}
SOURCES = {
    "generator function": lambda item: functools.partial(yield_twice, item),
    "function that returns a list": lambda item: lambda: [item, item],
    "function that returns an iterator": lambda item: lambda: iter([item, item]),
    "generator": yield_twice,
    "list of samples": lambda item: [item, item],
    "other iterable": lambda item: collections.deque([item, item]),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("form", ONE_FORMS)
def test_every_form_of_a_sample_of_one_input_gives_the_same_array(form: str, source: str) -> None:
    check_is_a(read(SOURCES[source](ONE_FORMS[form])), 2)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("form", TWO_FORMS)
def test_every_form_of_a_sample_of_two_inputs_gives_the_same_arrays(form: str, source: str) -> None:
    check_is_a_and_b(read(SOURCES[source](TWO_FORMS[form]), TWO), 2)


@pytest.mark.parametrize("form", ["bare", "one-tuple", "list", "dict", "tensor", "tensor in a tuple"])
def test_one_sample_of_one_input_may_be_the_source_itself_or_be_returned(form: str) -> None:
    check_is_a(read(ONE_FORMS[form]), 1)
    check_is_a(read(lambda: ONE_FORMS[form]), 1)


@pytest.mark.parametrize("form", [form for form in TWO_FORMS if form != "numbers"])
def test_one_sample_of_two_inputs_may_be_the_source_itself_or_be_returned(form: str) -> None:
    check_is_a_and_b(read(TWO_FORMS[form], TWO), 1)
    check_is_a_and_b(read(lambda: TWO_FORMS[form], TWO), 1)


def test_a_list_of_arrays_is_several_samples_when_the_signature_has_one_input() -> None:
    assert [shape_set_of(sample, ONE).describe() for sample in read([A, A[:1]])] == ["x=2x3", "x=1x3"]


def test_a_list_of_too_many_arrays_for_two_inputs_is_one_sample_of_a_wrong_count() -> None:
    text = refuse([A, B, B], TWO)
    assert "sample 1 does not fit signature `serving_default`: 3 values given for 2 inputs" in text
    assert "  value 2: expected no such input, given int32 (2)\n" in text


def test_a_list_with_one_number_is_read_by_the_rank_of_the_input() -> None:
    assert read([[5.0]], sign(("x", "float32", (None,))))[0]["x"].shape == (1,)
    assert read([[5.0]], sign(("x", "float32", ())))[0]["x"].shape == ()
    assert read([[5.0]], sign(("x", "float32", None)))[0]["x"].shape == ()


def test_ten_inputs_by_name_in_any_order_arrive_in_the_order_of_the_signature() -> None:
    signature = sign(*((f"in_{index}", "int32", (None,)) for index in range(10)))
    item = {f"in_{index}": np.full((index + 1,), index, np.int32) for index in (7, 2, 9, 0, 4, 1, 8, 3, 6, 5)}
    (sample,) = read(lambda: iter([item]), signature)
    assert list(sample) == [spec.name for spec in signature.inputs]
    assert shape_set_of(sample, signature).shapes == tuple((index + 1,) for index in range(10))
    assert all((sample[f"in_{index}"] == index).all() for index in range(10))


def test_the_module_is_imported_without_tensorflow() -> None:
    code = "import sys, beforehand.saved_model.read_samples; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# What is refused


def test_a_missing_input_is_named_and_every_input_is_shown_beside_what_was_given() -> None:
    text = refuse(lambda: iter([{"a": A}]), TWO)
    assert text == (
        "BH122 sample 1 does not fit signature `serving_default`: input `b` is missing. Inputs in order:\n"
        "  a: expected float32 (?, 3), given float32 (2, 3)\n"
        "  b: expected int32 (?), given nothing\n"
        " Try: the names of the inputs: a, b."
    )


def test_a_misspelt_input_is_answered_with_the_name_that_was_meant() -> None:
    signature = sign(("inp1", "float32", (None, 3)), ("inp2", "int32", (None,)))
    text = refuse({"Inp1": A, "inp2": B}, signature)
    assert "input `inp1` is missing; there is no input `Inp1` (did you mean `inp1`?)" in text
    assert "  Inp1: expected no such input, given float32 (2, 3)\n" in text


def test_an_extra_input_is_refused() -> None:
    assert "there is no input `zzz`. " in refuse({"a": A, "b": B, "zzz": B}, TWO)
    assert "there is no input `0`. " in refuse({"a": A, "b": B, 0: B}, TWO)


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (A, "1 value given for 2 inputs"),
        ((A,), "1 value given for 2 inputs"),
        ((A, B, B), "3 values given for 2 inputs"),
        ((), "0 values given for 2 inputs"),
    ],
)
def test_a_wrong_count_is_refused(item: Any, problem: str) -> None:
    text = refuse(lambda: iter([item]), TWO)
    assert problem in text
    assert "Try: `(a, b)` in this order, or `{'a': ..., 'b': ...}` in any order." in text


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ((3,), "input `x` has rank 1, expected rank 2. "),
        ((1, 2, 3), "input `x` has rank 3, expected rank 2. "),
        ((2, 4), "input `x` has a wrong shape: dimension 1 is 4, expected 3. "),
        ((2, 0), "input `x` has a wrong shape: dimension 1 is 0, expected 3. "),
        ((0, 3), "input `x` is empty: dimension 0 is 0, and no engine is ever built for an empty tensor. "),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(shape: tuple[int, ...], problem: str) -> None:
    assert problem in refuse(np.zeros(shape, np.float32))


def test_a_sample_without_its_batch_dimension_is_answered_with_how_to_add_it() -> None:
    assert "Try: `x[np.newaxis]`, if the batch dimension is missing." in refuse(np.zeros((3,), np.float32))


def test_an_unknown_rank_takes_every_rank_but_nothing_empty() -> None:
    signature = sign(("x", "float32", None))
    assert read(np.zeros((1, 2, 3), np.float32), signature)[0]["x"].shape == (1, 2, 3)
    assert "dimension 1 is 0" in refuse(np.zeros((1, 0), np.float32), signature)


def test_a_dimension_that_the_model_itself_fixes_at_zero_is_taken() -> None:
    assert read(np.zeros((2, 0), np.float32), sign(("x", "float32", (None, 0))))[0]["x"].shape == (2, 0)


def test_all_misfits_of_a_sample_are_told_at_once() -> None:
    text = refuse((A.astype(np.float64)[:, :2], np.zeros((1, 1), np.int64)), TWO)
    assert "input `a` has a wrong shape: dimension 1 is 2, expected 3; input `a` has dtype float64" in text
    assert "input `b` has rank 2, expected rank 1; input `b` has dtype int64" in text
    assert "`.astype(np.float32)`; `.astype(np.int32)`" in text


@pytest.mark.parametrize(
    "item", [(A, B), [A, B], (LikeTensor(A), LikeTensor(B)), ({"x": A}, B), (A.tolist(), [1, 2]), ((A, A), B)]
)
def test_pairs_of_a_training_set_are_refused_with_how_to_drop_the_label(item: Any) -> None:
    text = refuse(lambda: iter([item]))
    assert "2 values given for 1 input" in text
    assert "`dataset.map(lambda x, y: x)`" in text


@pytest.mark.parametrize("features", [(A, B), {"a": A, "b": B}])
def test_features_with_a_label_are_not_taken_for_two_inputs(features: Any) -> None:
    text = refuse(lambda: iter([(features, B)]), TWO)
    assert f"the first of which is itself a {type(features).__name__} of arrays" in text
    assert "`dataset.map(lambda x, y: x)`" in text


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (None, "is of type NoneType, which is no array"),
        ({1.0}, "is of type set, which is no array"),
        ({"x": [A, A]}, "is a list of 2 arrays, expected one array. "),
        ({"x": [[1.0], [2.0, 3.0]]}, "is a list with rows of unequal length. "),
        ({"x": [{}]}, "is a list that holds a value of type dict. "),
        ({"x": [None, 1.0]}, "is a list that holds a value of type NoneType. "),
    ],
)
def test_what_is_no_array_is_refused(item: Any, problem: str) -> None:
    assert problem in refuse(lambda: iter([item]))


def test_a_tensor_that_gives_no_array_is_refused_with_its_own_reason() -> None:
    class OnDevice:
        def numpy(self) -> None:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

    assert "gives no array (TypeError: can't convert cuda:0" in refuse(OnDevice())


@pytest.mark.parametrize("source", [5.0, "samples.npz", pathlib.Path("samples.npz"), object(), lambda: print])
def test_what_is_no_source_is_refused(source: Any) -> None:
    assert "expected samples for signature `serving_default`: x float32 (?, 3). Try: `def input_fn()" in refuse(source)


# dtypes


@pytest.mark.parametrize(
    ("have", "want"),
    [("uint8", "float32"), ("float16", "float32"), ("int32", "int64"), ("bool", "float32"), (">f4", "float32")],
)
def test_lossless_casts_of_arrays_are_made_silently(have: str, want: str) -> None:
    (sample,) = read(np.ones((2, 3), have), sign(("x", want, (None, 3))))
    assert sample["x"].dtype == np.dtype(want)
    assert (sample["x"] == 1).all()


@pytest.mark.parametrize(
    ("have", "want", "advice"),
    [
        ("float64", "float32", "`.astype(np.float32)`"),
        ("int64", "int32", "`.astype(np.int32)`"),
        ("int64", "float32", "`.astype(np.float32)`"),
        ("float32", "int32", "`.astype(np.int32)`"),
        ("int32", "bool", "`.astype(np.bool_)`"),
        ("complex64", "float32", "an array of float32"),
        ("U1", "float32", "an array of float32"),
        ("O", "float32", "an array of float32"),
    ],
)
def test_casts_of_arrays_that_could_lose_something_are_refused(have: str, want: str, advice: str) -> None:
    text = refuse(np.ones((2, 3), have), sign(("x", want, (None, 3))))
    assert f"which does not become {want} without loss" in text
    assert text.endswith(f"Try: {advice}.")


def test_the_float64_of_numpys_random_numbers_is_refused_with_the_cast_to_write() -> None:
    text = refuse(lambda: iter([[np.random.default_rng(0).normal(size=(8, 3))]]))
    assert "input `x` has dtype float64, which does not become float32 without loss" in text
    assert "  x: expected float32 (?, 3), given float64 (8, 3)\n Try: `.astype(np.float32)`." in text


def test_int64_goes_into_float64_only_when_each_value_fits() -> None:
    signature = sign(("x", "float64", (None,)))
    assert read(np.array([2**53]), signature)[0]["x"].dtype == np.float64
    assert f"holds {2**53 + 1}, which float64 cannot represent" in refuse(np.array([2**53 + 1]), signature)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (5, "int32"), (5, "float32"), (5.0, "int64"), (0.1, "float32"), (0.1, "float16"), (True, "float32"),
        (1, "bool"), (2**63, "uint64"), (-1, "int8"), (float("inf"), "float32"), (2, "complex64"), (1j, "complex64"),
        (np.float64(3), "float64"), ([1, 2], "uint8"), ([[0.5], [1]], "float32"), ([np.float32(2)], "float32"),
    ],
)  # fmt: skip
def test_python_numbers_take_the_dtype_of_the_input_when_they_keep_their_value(value: Any, dtype: str) -> None:
    (sample,) = read({"x": value}, sign(("x", dtype, None)))
    assert sample["x"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(sample["x"], np.asarray(value).astype(dtype))


@pytest.mark.parametrize(
    ("value", "dtype", "problem"),
    [
        (300, "uint8", "holds 300, which uint8 cannot"), (-1, "uint64", "holds -1,"), (2**63, "int64", "holds 9223"),
        (0.5, "int32", "holds 0.5,"), (2**24 + 1, "float32", "holds 16777217,"), (1e300, "float32", "holds 1e+300,"),
        (float("nan"), "int32", "holds nan,"), (2, "bool", "holds 2,"), ([1, 70000], "float16", "holds 70000,"),
        (1j, "float32", "has values that are not float32"), ("1", "float32", "has values that are not float32"),
        (2**70, "int64", "has values that are not int64"), (1, "string", "has dtype int64, expected text"),
    ],
)  # fmt: skip
def test_python_numbers_that_would_change_are_refused(value: Any, dtype: str, problem: str) -> None:
    assert problem in refuse({"x": value}, sign(("x", dtype, None)))


@pytest.mark.parametrize(
    ("value", "values"),
    [
        (np.array(["ä", "b"]), ["ä", "b"]),
        (np.array([b"a", b"b"]), [b"a", b"b"]),
        (np.array(["a", b"b"], dtype=object), ["a", b"b"]),
        (["a", "b"], ["a", "b"]),
        ([b"a\0", b"b"], [b"a\0", b"b"]),
        (LikeTensor(np.array([b"a"], dtype=object)), [b"a"]),
    ],
)
def test_text_stays_text(value: Any, values: list[Any]) -> None:
    (sample,) = read({"x": value}, sign(("x", "string", (None,))))
    assert sample["x"].dtype.kind in "OS"
    assert sample["x"].tolist() == values


def test_a_scalar_text_keeps_its_last_zero() -> None:
    for value in (b"a\0", LikeTensor(b"a\0")):
        assert read({"x": value}, sign(("x", "string", ())))[0]["x"].item() == b"a\0"


@pytest.mark.parametrize("value", [np.ones(2), np.array([1, "a"], dtype=object), [1, "a"], [["a"], ["b", "c"]]])
def test_what_is_no_text_is_refused_for_an_input_of_text(value: Any) -> None:
    assert "expected text" in refuse({"x": value}, sign(("x", "string", (None,))))


def test_bfloat16_is_taken_as_it_is_and_cast_from_smaller_types_and_numbers() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    signature = sign(("x", "bfloat16", (None,)))
    for value in (np.ones(2, ml_dtypes.bfloat16), np.ones(2, np.uint8), [1.0, 1], [1, 1]):
        assert read({"x": value}, signature)[0]["x"].dtype == ml_dtypes.bfloat16
    assert "`.astype(ml_dtypes.bfloat16)`" in refuse({"x": np.ones(2, np.float32)}, signature)
    assert "holds 257, which bfloat16 cannot represent" in refuse({"x": [257]}, signature)
    assert read({"x": np.ones(2, ml_dtypes.bfloat16)}, sign(("x", "float32", (2,))))[0]["x"].dtype == np.float32


def test_a_dtype_that_numpy_lacks_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)  # makes the import fail
    assert "needs dtype float6_x, which NumPy does not have here. " in refuse(A, sign(("x", "float6_x", (None, 3))))


# No samples, and errors of the user's own code


@pytest.mark.parametrize(
    "source", [None, False, 0, "", [], (), {}, lambda: None, list, iter(()), lambda: iter(()), set()]
)
def test_no_samples_are_refused_with_how_to_write_an_input_fn(source: Any) -> None:
    signature = sign(("a", "float32", (None, 3)), ("b", "string", (None,)), ("c", "bfloat16", None), ("d", "bool", ()))
    with pytest.raises(NoSamplesError) as caught:
        read_samples(source, signature)
    text = str(caught.value)
    assert text.startswith("BH121 input_fn ")
    assert "takes a float32 (?, 3), b string (?), c bfloat16 (unknown rank), d bool ()" in text
    assert '"a": np.zeros((1, 3), np.float32), "b": np.full((1,), b"text"), "c": np.zeros((), ' in text
    assert text.endswith('"d": np.zeros((), bool)}`, with the shapes that you will call the model with.')


def test_the_founding_question_gets_its_own_nameerror_at_once_with_a_note() -> None:
    def my_input_fn() -> Any:
        for _ in range(10):
            Inp1 = np.zeros((8, 16, 16, 3), np.float32)  # noqa: N806, F841 (as it was asked)
            inp2 = np.zeros((8, 16, 16, 3), np.float32)
            yield inp1, inp2  # noqa: F821 (the mistake of the question)

    with pytest.raises(NameError, match="name 'inp1' is not defined") as caught:
        read_samples(my_input_fn, TWO)
    assert caught.value.__notes__ == [
        "beforehand: this was raised by your own input_fn, for sample 1 of signature `serving_default`."
    ]


def test_errors_of_input_fn_pass_unchanged_wherever_they_arise() -> None:
    error = KeyError("mine")

    def raise_error(*_: Any) -> Any:
        raise error

    class Broken:
        __iter__ = raise_error

    def yield_and_raise() -> Any:
        yield A
        raise error

    for source in (raise_error, Broken(), map(raise_error, [1]), yield_and_raise):
        with pytest.raises(KeyError) as caught:
            read(source)
        assert caught.value is error
    assert [note.split("input_fn, ")[1] for note in error.__notes__] == [
        "when it was called, for signature `serving_default`.",
        "before its first sample, for signature `serving_default`.",
        "for sample 1 of signature `serving_default`.",
        "for sample 2 of signature `serving_default`.",
    ]


def test_an_error_that_takes_no_notes_passes_all_the_same() -> None:
    class FrozenError(Exception):
        def __setattr__(self, name: str, value: Any) -> None:
            raise AttributeError(name)

    def raise_frozen(_: int) -> Any:
        raise FrozenError

    with pytest.raises(FrozenError):
        read(map(raise_frozen, [1]))


def test_an_input_fn_with_arguments_is_refused() -> None:
    def needs(batch: int) -> Any:
        yield np.zeros((batch, 3), np.float32)

    assert "input_fn must take no arguments, but `needs(batch: 'int') -> 'Any'` does not work without" in refuse(needs)
    assert len(read(functools.partial(needs, 2))) == 1
    assert len(read(lambda batch=2: needs(batch))) == 1


def test_a_typeerror_inside_input_fn_is_not_taken_for_missing_arguments() -> None:
    with pytest.raises(TypeError, match="unsupported operand") as caught:
        read(lambda: 1 + "a")  # type: ignore[operator]
    assert not isinstance(caught.value, SampleError)


def test_the_first_sample_is_checked_by_the_call_and_nothing_is_read_ahead() -> None:
    numbers = itertools.count()

    def endless() -> Any:
        for _ in numbers:
            yield A

    samples = read_samples(endless, ONE)
    assert next(numbers) == 1
    next(samples)
    assert next(numbers) == 2
    next(samples)
    assert next(numbers) == 4


def test_a_later_sample_that_does_not_fit_is_named_by_its_number() -> None:
    samples = read_samples([A, A, B], ONE)
    assert next(samples)
    assert next(samples)
    with pytest.raises(SampleError, match="sample 3 does not fit"):
        next(samples)


# Properties

DTYPES = ["float32", "float64", "int32", "int64", "uint8", "bool"]


@st.composite
def signatures_with_samples(draw: st.DrawFn) -> tuple[Signature, tuple[np.ndarray, ...]]:
    arrays = draw(
        st.lists(
            st.sampled_from(DTYPES).flatmap(
                lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4))
            ),
            min_size=1,
            max_size=4,
        )
    )
    specs = []
    for index, array in enumerate(arrays):
        partial = tuple(draw(st.sampled_from([dim, None])) for dim in array.shape)
        specs.append((f"in_{index}", array.dtype.name, draw(st.sampled_from([partial, None]))))
    return sign(*specs), tuple(arrays)


@settings(deadline=None, max_examples=60)
@given(signatures_with_samples(), st.randoms(use_true_random=False))
def test_a_sample_that_fits_passes_unchanged_in_every_form(case: Any, random: Any) -> None:
    signature, arrays = case
    names = [spec.name for spec in signature.inputs]
    pairs = random.sample(list(zip(names, arrays, strict=True)), len(arrays))
    expected = ShapeSet(tuple(names), tuple(array.shape for array in arrays))
    forms = [arrays, list(arrays), dict(pairs), tuple(LikeTensor(array) for array in arrays)]
    for form in forms + ([arrays[0]] if len(arrays) == 1 else []):
        (sample,) = read(lambda form=form: iter([form]), signature)
        assert shape_set_of(sample, signature) == expected
        for name, array in zip(names, arrays, strict=True):
            assert sample[name].dtype == array.dtype
            np.testing.assert_array_equal(sample[name], array)


@settings(deadline=None, max_examples=60)
@given(signatures_with_samples(), st.data())
def test_a_sample_that_differs_in_one_fixed_dimension_rank_or_dtype_is_refused(case: Any, data: st.DataObject) -> None:
    signature, arrays = case
    index = data.draw(st.integers(0, len(arrays) - 1))
    array, spec = arrays[index], signature.inputs[index]
    wrong = [np.zeros_like(array, dtype=np.complex64)]
    if spec.shape is not None:
        wrong.append(array[np.newaxis])
        wrong += [np.repeat(array, 2, axis=axis) for axis, dim in enumerate(spec.shape) if dim is not None]
    changed = (*arrays[:index], data.draw(st.sampled_from(wrong)), *arrays[index + 1 :])
    assert f"input `{spec.name}` has" in refuse(lambda: iter([changed]), signature)


# Files


def test_a_file_of_arrays_by_name_is_one_sample(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "s.npz", b=B, a=A)
    check_is_a_and_b(list(read_sample_files(tmp_path / "s.npz", TWO)), 1)


def test_a_folder_of_files_is_read_in_the_order_of_names_one_by_one(tmp_path: pathlib.Path) -> None:
    for index in (3, 1, 2):
        np.savez(tmp_path / f"{index}.npz", x=A[:1].repeat(index, axis=0))
    np.save(tmp_path / "4.npy", A[:1].repeat(4, axis=0))
    (tmp_path / "README.txt").write_text("left alone")
    assert [sample["x"].shape[0] for sample in read_sample_files(tmp_path, ONE)] == [1, 2, 3, 4]


def test_text_and_bfloat16_survive_a_file(tmp_path: pathlib.Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    np.savez(tmp_path / "s.npz", t=np.array([b"a", b"bc"]), h=np.array([1.5, 2], ml_dtypes.bfloat16))
    signature = sign(("t", "string", (None,)), ("h", "bfloat16", (None,)))
    (sample,) = read_sample_files(tmp_path / "s.npz", signature)
    assert sample["t"].tolist() == [b"a", b"bc"]
    assert sample["h"].tolist() == [1.5, 2]


def test_a_file_that_does_not_fit_is_named(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "s.npz", A)
    with pytest.raises(SampleError) as caught:
        read_sample_files(tmp_path / "s.npz", ONE)
    assert f"sample file {tmp_path / 's.npz'} does not fit" in str(caught.value)
    assert "there is no input `arr_0`" in str(caught.value)
    np.save(tmp_path / "t.npy", A)
    with pytest.raises(SampleError, match=r"t\.npy does not fit .*1 value given for 2 inputs"):
        read_sample_files(tmp_path / "t.npy", TWO)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"no arrays", b"\x80\x04\x95"])
def test_a_damaged_file_is_named_and_never_unpickled(tmp_path: pathlib.Path, content: bytes) -> None:
    (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(SampleError, match=r"BH122 sample file .*s\.npz cannot be read as arrays"):
        read_sample_files(tmp_path, ONE)


def test_pickled_objects_in_a_file_are_refused(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "s.npz", x=np.array(["a"], dtype=object))
    with pytest.raises(SampleError, match="pickled objects are never loaded"):
        read_sample_files(tmp_path, ONE)


def test_a_missing_or_wrong_path_and_an_empty_folder_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(SampleError, match=r"there is no sample file or folder .*nothing"):
        read_sample_files(tmp_path / "nothing", ONE)
    with pytest.raises(NoSamplesError, match="has no samples"):
        read_sample_files(tmp_path, ONE)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(SampleError, match=r"a\.txt is no \.npz file"):
        read_sample_files(tmp_path / "a.txt", ONE)


# TensorFlow's own tensors and data sets


def test_a_tf_dataset_gives_the_same_samples_in_each_form_of_its_elements() -> None:
    tf = pytest.importorskip("tensorflow")
    make = tf.data.Dataset.from_tensors
    for source in (make(A), make((A,)), make({"x": A})):
        check_is_a(read(source.repeat(2)), 2)
        check_is_a(read(lambda source=source: source), 1)
    for source in (make((A, B)), make({"b": B, "a": A})):
        check_is_a_and_b(read(source.repeat(2), TWO), 2)


def test_a_tf_dataset_of_inputs_and_labels_is_refused_and_the_advice_works() -> None:
    tf = pytest.importorskip("tensorflow")
    pairs = tf.data.Dataset.from_tensors((A, B))
    assert "`dataset.map(lambda x, y: x)`" in refuse(pairs)
    check_is_a(read(pairs.map(lambda x, y: x)), 1)
    triples = tf.data.Dataset.from_tensors((A, B, B))
    assert "`dataset.map(lambda x, *_: x)`" in refuse(triples)
    check_is_a(read(triples.map(lambda x, *_: x)), 1)


def test_tensorflows_tensors_are_samples() -> None:
    tf = pytest.importorskip("tensorflow")
    check_is_a(read(tf.constant(A)), 1)
    check_is_a(read(lambda: [tf.Variable(A)]), 1)
    check_is_a_and_b(read((tf.constant(A), tf.constant(B)), TWO), 1)
    assert "given float64 (2, 3)\n Try: `.astype(np.float32)`" in refuse(tf.constant(A, tf.float64))
    text = sign(("t", "string", None))
    assert read(tf.constant(["a"]), text)[0]["t"].tolist() == [b"a"]
    assert read(tf.constant("a"), text)[0]["t"].item() == b"a"
    assert read(tf.ones((2,), tf.bfloat16), sign(("h", "bfloat16", (2,))))[0]["h"].shape == (2,)
    assert "which is no array" in refuse({"x": tf.sparse.from_dense([[1.0]])})
