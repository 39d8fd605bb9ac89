"""Identity: each part of an engine alone changes its key, equal parts have an equal key, in any process."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from beforehand.build_engines.child import encode_spec
from beforehand.build_engines.plan_engines import make_key
from beforehand.options import Options
from beforehand.records import EngineSpec, ShapeSet

RANGE = ShapeSet(("x", "y"), ((1, 4), (1, 2)), ((8, 4), (8, 2)))
BASE = EngineSpec(
    segment="TRTEngineOp_000_000",
    segment_index=0,
    onnx_file="segment.onnx",
    input_names=("a", "b"),
    output_names=("c", "d"),
    shapes=RANGE,
    backend="openvino",
    backend_version="2026.4.1",
    precision="FP32",
    target="cpu-x86_64+avx2",
    options=Options().to_key(),
    key="",
    graph="digest",
)
IN_KEY = {
    field.name: field for field in dataclasses.fields(Options) if field.metadata["in_key"]
}  # precision_mode, backend and target stand in the key as what they came to
OTHER = {"builder_optimization_level": 1, "max_workspace_size_bytes": 1 << 30, "use_calibration": False}


def change(**fields: Any) -> EngineSpec:
    return dataclasses.replace(BASE, **fields)


def change_shapes(**fields: Any) -> EngineSpec:
    return change(shapes=dataclasses.replace(RANGE, **fields))


CHANGED = {
    "name of an input": change(input_names=("a", "B")),
    "order of inputs": change(input_names=("b", "a")),
    "name of an output": change(output_names=("c", "D")),
    "order of outputs": change(output_names=("d", "c")),
    "smallest shape": change_shapes(shapes=((2, 4), (1, 2))),
    "largest shape": change_shapes(max_shapes=((9, 4), (8, 2))),
    "no largest shape": change_shapes(max_shapes=()),
    "largest as the only one": change_shapes(shapes=RANGE.max_shapes, max_shapes=()),
    "optimal shape": change_shapes(opt_shapes=((4, 4), (4, 2))),
    "another optimal shape": change_shapes(opt_shapes=((5, 4), (5, 2))),
    "one batch": change_shapes(one_batch=True),
    "a node kept in float32": change(kept=("conv",)),
    "a quantised graph": change(quantized="hash"),
    "another quantised graph": change(quantized="other"),
    "another node kept in float32": change(kept=("matmul",)),
    "shapes of inputs exchanged": change_shapes(shapes=((1, 2), (1, 4)), max_shapes=((8, 2), (8, 4))),
    "precision": change(precision="FP16"),
    "backend": change(backend="tensorrt"),
    "backend's version": change(backend_version="2026.4.2"),
    "target": change(target="cpu-x86_64+avx512"),
    "architecture": change(target="cpu-aarch64"),
    **{
        f"option {name}": change(options=tuple({**dict(BASE.options), name: value}.items()))
        for name, value in OTHER.items()
    },
}


@pytest.mark.parametrize("what", CHANGED)
def test_each_part_alone_changes_the_key(what: str) -> None:
    assert make_key(CHANGED[what]) != make_key(BASE)


def test_no_two_changes_have_one_key() -> None:
    keys = [make_key(BASE), make_key(change(graph="other")), *(make_key(spec) for spec in CHANGED.values())]
    assert len(set(keys)) == len(keys)


def test_every_option_of_the_key_was_changed() -> None:
    assert set(OTHER) == set(IN_KEY) - {"precision_mode", "backend", "target"}


def test_the_names_of_a_segment_and_its_file_are_no_part_of_it() -> None:
    moved = change(segment="TRTEngineOp_007_003", segment_index=9, onnx_file="elsewhere/other.onnx", key="old")
    assert make_key(moved) == make_key(BASE)
    renamed = change_shapes(
        names=("left", "right")
    )  # what the signature calls its inputs; the engine has its own names
    assert make_key(renamed) == make_key(BASE)


def test_a_target_named_or_found_is_the_same_target() -> None:
    named = change(options=Options(target="cpu-x86_64+avx2").to_key())
    assert make_key(named) == make_key(BASE)


def test_options_have_one_key_in_whatever_order_they_were_kept() -> None:
    assert make_key(change(options=BASE.options[::-1])) == make_key(BASE)


def test_another_process_finds_the_same_key() -> None:
    script = (
        "import json, sys; from beforehand.build_engines.child import decode_spec; "
        "from beforehand.build_engines.plan_engines import make_key; "
        "print(make_key(decode_spec(json.loads(sys.argv[1]))))"
    )
    for spec in (BASE, change_shapes(opt_shapes=((4, 4), (4, 2)), one_batch=True), change_shapes(max_shapes=())):
        told = subprocess.run(
            [sys.executable, "-c", script, json.dumps(encode_spec(spec))], capture_output=True, text=True, check=True
        )
        assert told.stdout.strip() == make_key(spec)
