"""The samples to verify on: given in files and scripts, or drawn at the shapes of engines."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from beforehand.errors import NoSamplesError, SampleError
from beforehand.records import Engine, Manifest, SegmentRecord, ShapeSet, Signature, TensorSpec, Whole
from beforehand.verification.find_samples import find_samples, list_shapes

X = TensorSpec("x", "float32", (None, 3))
MASK = TensorSpec("mask", "int32", (None, 5))
OPEN = TensorSpec("image", "float32", (None, None, None, 3))


def make_engine(shapes: ShapeSet) -> Engine:
    return Engine("s", 0, shapes, "fake", "1", "FP32", "", (), (), "k", "f", 1, "", 0.0)


def make_manifest(signature: Signature) -> Manifest:
    segment = SegmentRecord("s", signature.key, 1, 1.0, (), (), ())
    return Manifest("m", "", (), (signature,), (segment,), (), ())


def test_shapes_come_from_the_engines_and_of_a_range_from_both_ends() -> None:
    signature = Signature("serving_default", (X,), (), whole=Whole(0, (0,), (0,)))
    engines = [make_engine(ShapeSet(("x",), ((1, 3),), ((8, 3),))), make_engine(ShapeSet(("x",), ((8, 3),)))]
    assert list_shapes(make_manifest(signature), signature, engines) == [{"x": (1, 3)}, {"x": (8, 3)}]


def test_an_input_that_no_segment_reads_has_the_batch_of_those_that_are_read() -> None:
    signature = Signature("serving_default", (X, MASK), ())
    found = list_shapes(make_manifest(signature), signature, [make_engine(ShapeSet(("x",), ((4, 3),)))])
    assert found == [{"x": (4, 3), "mask": (4, 5)}]


def test_where_shapes_are_not_known_it_says_how_to_give_them() -> None:
    signature = Signature("serving_default", (OPEN,), ())
    with pytest.raises(NoSamplesError, match=r"BH121 .*image float32 \(\?, \?, \?, 3\).*--samples.*--shapes"):
        list_shapes(make_manifest(signature), signature, [make_engine(ShapeSet(("Relu",), ((4, 3),)))])


def test_samples_of_a_file_and_of_a_script_are_read_and_not_more_than_asked_for(tmp_path: pathlib.Path) -> None:
    signature = Signature("serving_default", (X,), ())
    manifest = make_manifest(signature)
    np.savez(tmp_path / "one.npz", x=np.arange(6, dtype=np.float32).reshape(2, 3))
    [one] = find_samples(manifest, signature, [], tmp_path / "one.npz", None, 2)
    assert one.zeros is None
    assert one.sample["x"].shape == (2, 3)
    script = tmp_path / "draw.py"
    script.write_text(
        "import numpy as np\ndef samples():\n  for n in range(9): yield np.arange(6, dtype='float32').reshape(2, 3) + n"
    )
    assert len(find_samples(manifest, signature, [], script, None, 4)) == 4
    script.write_text("nothing = 1")
    with pytest.raises(SampleError, match="defines neither `samples` nor `input_fn`"):
        find_samples(manifest, signature, [], script, None, 4)


def test_text_that_is_drawn_is_text() -> None:
    signature = Signature("serving_default", (TensorSpec("words", "string", (None,)),), ())
    [drawn] = find_samples(
        make_manifest(signature), signature, [make_engine(ShapeSet(("words",), ((2,),)))], None, None, 1
    )
    assert all(isinstance(word, bytes) for word in drawn.sample["words"])


def test_drawn_samples_have_zeros_to_fall_back_on() -> None:
    signature = Signature("serving_default", (X,), ())
    [drawn] = find_samples(make_manifest(signature), signature, [], None, {"x": (2, 3)}, 4)
    assert drawn.zeros is not None
    assert not drawn.zeros["x"].any()
    assert drawn.sample["x"].std() > 0
