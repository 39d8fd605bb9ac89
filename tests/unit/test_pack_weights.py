"""Weights in one variable for each dtype come out as they went in, and lie there once."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from beforehand.records import Weight
from beforehand.saved_model.pack_weights import PackedWeights, make_table, share_table

DTYPES = ("float32", "float64", "float16", "int64", "int32", "uint8", "bool", "complex64")
# Sizes that fill rows of 64 bytes exactly, nearly, and not at all: scalars and empty weights too.
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
)


def describe(arrays: list[np.ndarray]) -> list[Weight]:
    return [
        Weight(f"node_{index}", f"key_{index}", array.dtype.name, array.shape) for index, array in enumerate(arrays)
    ]


def pack(arrays: list[np.ndarray]) -> tuple[PackedWeights, list[Weight]]:
    weights = describe(arrays)
    values = {weight.checkpoint_key: array for weight, array in zip(weights, arrays, strict=True)}
    return PackedWeights(weights, [], lambda weight: values[weight.checkpoint_key]), weights


@settings(max_examples=40, deadline=None)
@given(st.lists(ARRAYS, min_size=1, max_size=6), st.data())
def test_every_choice_of_weights_in_every_order_comes_out_bit_for_bit(
    arrays: list[np.ndarray], data: st.DataObject
) -> None:
    packed, weights = pack(arrays)
    chosen = data.draw(st.lists(st.sampled_from(range(len(weights))), min_size=1))
    taken = packed.take([weights[index] for index in chosen])
    for index, tensor in zip(chosen, taken, strict=True):
        assert tensor.dtype.name == arrays[index].dtype.name
        assert tuple(tensor.shape) == arrays[index].shape
        assert tensor.numpy().tobytes() == arrays[index].tobytes()


def test_an_empty_weight_asked_for_after_its_neighbour_is_cut_right() -> None:
    arrays = [np.float32(1.0) * np.ones(()), np.ones(0), np.ones(()) * 2]
    packed, weights = pack([array.astype(np.float32) for array in arrays])
    last, empty = packed.take([weights[2], weights[1]])
    assert float(last) == 2.0
    assert empty.shape == (0,)


def test_there_is_one_variable_for_each_dtype_with_rows_of_64_bytes() -> None:
    packed, _ = pack([np.ones(17, np.float32), np.ones((), np.float32), np.ones(3, np.int64), np.ones(1, np.uint8)])
    shapes = {dtype: tuple(variable.shape) for dtype, variable in packed.packed.items()}
    assert shapes == {"float32": (3, 16), "int64": (1, 8), "uint8": (1, 64)}


def test_a_weight_of_two_signatures_is_read_and_stored_once() -> None:
    reads = []

    def read(weight: Weight) -> np.ndarray:
        reads.append(weight.node)
        return np.arange(16, dtype=np.float32)

    first, second = (Weight(node, "shared", "float32", (16,)) for node in ("in_serve", "in_serving_default"))
    packed = PackedWeights([first, second], [], read)
    assert reads == ["in_serve"]
    assert tuple(packed.packed["float32"].shape) == (1, 16)
    for tensor in packed.take([second, first]):
        np.testing.assert_array_equal(tensor, np.arange(16))


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8", "int64", "uint32", "complex64"])
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_a_table_becomes_a_variable_without_a_copy(dtype: str, rows: int) -> None:
    table = make_table(rows, 64 // np.dtype(dtype).itemsize, dtype)
    assert table.ctypes.data % 64 == 0
    assert not table.any()
    variable = tf.Variable(share_table(table))
    table[-1, -1] = 1  # nobody does that; it shows whose memory it is
    assert variable.dtype.name == dtype
    assert np.argwhere(variable.numpy()).tolist() == [[rows - 1, table.shape[1] - 1]]
    expected = table.copy()
    del table
    np.testing.assert_array_equal(variable.numpy(), expected)


@pytest.mark.parametrize("dtype", ["bool", "bfloat16", "string"])
def test_what_dlpack_does_not_know_everywhere_becomes_a_variable_all_the_same(dtype: str) -> None:
    ones = np.full((3,), b"one", object) if dtype == "string" else np.ones((3,), tf.as_dtype(dtype).as_numpy_dtype)
    packed = PackedWeights([Weight("node", "key", dtype, (3,))], [], lambda _: ones)
    [taken] = packed.take([Weight("node", "key", dtype, (3,))])
    assert taken.dtype.name == dtype
    assert taken.numpy().tolist() == ones.tolist()


def test_strings_are_kept_too() -> None:
    values = np.array([b"one", b"", b"three\0"], object)
    weight = Weight("table", "table", "string", (3,))
    packed = PackedWeights([weight], [], lambda _: values)
    assert packed.take([weight])[0].numpy().tolist() == values.tolist()


def test_an_assigned_variable_stays_itself_once_with_its_first_value() -> None:
    weights = [Weight(node, "counter", "int64", ()) for node in ("a", "b")]
    packed = PackedWeights([], weights, lambda _: np.int64(5))
    assert list(packed.assigned) == ["counter"]
    assert int(packed.assigned["counter"]) == 5
    assert packed.packed == {}


def test_in_a_traced_function_no_weight_becomes_a_constant() -> None:
    packed, weights = pack([np.full((64, 64), 2.0, np.float32), np.ones(5, np.float32)])
    concrete = tf.function(lambda: packed.take(weights), autograph=False).get_concrete_function()
    assert concrete.graph.as_graph_def().ByteSize() < 64 * 64 * 4
    assert len(concrete.captured_inputs) == 1
    packed.packed["float32"].assign(packed.packed["float32"] * 2.0)
    assert float(concrete()[0][0, 0]) == pytest.approx(4.0)
