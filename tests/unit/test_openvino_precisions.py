"""What a precision_mode becomes on a CPU: by faked CPUs, and held against OpenVINO's own account of this one."""

from __future__ import annotations

import logging
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import beforehand
from beforehand.backends import openvino as backend_module
from beforehand.backends.describe_cpu import LEVELS, describe_this_cpu
from beforehand.backends.openvino_precisions import ARITHMETIC, check_compiled, find_arithmetic, find_hint, find_rest
from beforehand.backends.registry import find_backend
from beforehand.build_engines.build_engine import build_engine
from beforehand.errors import EngineRunError, PrecisionError
from beforehand.options import PRECISION_MODES
from beforehand.records import EngineSpec, ShapeSet

BF16_LEVELS = {"amx_fp16", "amx", "avx512_fp16", "avx512_bf16"}
FP16_LEVELS = BF16_LEVELS - {"avx512_bf16"}


@pytest.mark.parametrize("level", [*LEVELS, ""])
def test_each_level_of_x86_has_what_the_table_says(level: str) -> None:
    target = f"cpu-x86_64+{level}".rstrip("+")
    assert find_arithmetic("FP32", target) == "FP32"
    if level in BF16_LEVELS:
        assert find_arithmetic("BF16", target) == "BF16"
        assert find_arithmetic("FP16", target) == ("FP16" if level in FP16_LEVELS else "BF16")
        return
    for precision in ("BF16", "FP16"):
        with pytest.raises(PrecisionError, match=f"BH103 precision_mode {precision} .* on {target.replace('+', '.')}"):
            find_arithmetic(precision, target)


def test_arm_has_fp16_where_it_says_so_and_no_bf16() -> None:
    assert find_arithmetic("FP16", "cpu-aarch64+asimdhp+asimddp+bf16") == "FP16"
    for precision, target in (("BF16", "cpu-aarch64+asimdhp+bf16"), ("FP16", "cpu-aarch64+bf16")):
        with pytest.raises(PrecisionError):
            find_arithmetic(precision, target)


@pytest.mark.parametrize(
    ("precision", "why"),
    [
        (
            "FP16",
            "has no arithmetic in FP16 (AVX512-FP16, AMX-FP16 or Arm's FP16), nor BF16 (AVX512-BF16 or AMX-BF16).",
        ),
        ("BF16", "has no arithmetic in BF16 (AVX512-BF16 or AMX-BF16)."),
        ("TF32", "TF32 is arithmetic of NVIDIA's GPUs"),
        ("INT8", "has no arithmetic in INT8 (VNNI)."),
    ],
)
def test_a_refusal_says_why_and_what_to_try(precision: str, why: str) -> None:
    with pytest.raises(PrecisionError) as caught:
        find_arithmetic(precision, "cpu-x86_64+avx2")
    assert why in str(caught.value)
    assert 'Try: precision_mode="FP32"' in str(caught.value)
    assert precision in PRECISION_MODES


def test_a_converter_refuses_before_it_reads_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "describe_this_cpu", lambda: "cpu-x86_64+avx512_vnni")
    for precision in ("BF16", "FP16"):
        with pytest.raises(PrecisionError, match="this CPU has no arithmetic in"):
            beforehand.Converter("nowhere", precision_mode=precision)


def test_a_target_without_the_units_is_refused_on_a_cpu_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "describe_this_cpu", lambda: "cpu-x86_64+amx")
    beforehand.Converter("nowhere", precision_mode="BF16", target="cpu-x86_64+avx512_bf16")
    with pytest.raises(PrecisionError, match=r"BH103 .* on cpu-x86_64\+avx512_vnni"):
        beforehand.Converter("nowhere", precision_mode="BF16", target="cpu-x86_64+avx512_vnni")


def test_fp16_in_bf16_is_told_in_the_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "beforehand")
    monkeypatch.setattr(backend_module, "describe_this_cpu", lambda: "cpu-x86_64+avx512_bf16")
    beforehand.Converter("nowhere", precision_mode="FP16")
    text = "precision_mode FP16 runs in BF16 on cpu-x86_64+avx512_bf16, which has no FP16 arithmetic"
    assert [record.getMessage() for record in caplog.records] == [text]


def test_openvino_has_on_this_cpu_what_the_table_says() -> None:
    """In a process of its own: it hears of no limit but this CPU's own."""
    code = "import openvino; print(*openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    has = set(done.stdout.split())
    for precision in ("BF16", "FP16"):
        try:
            run_in = find_arithmetic(precision, describe_this_cpu())
        except PrecisionError:
            continue  # the plug-in names more than there are units for
        assert run_in in has


def write_model(folder: pathlib.Path) -> pathlib.Path:
    weights = np.random.default_rng(3).normal(0, 0.2, (32, 32)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
         helper.make_node("MatMul", ["r", "w"], ["y"])],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 32])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    file = folder / "segment.onnx"
    file.write_bytes(model.SerializeToString())
    return file


def build(folder: pathlib.Path, precision: str, target: str = "") -> np.ndarray[Any, Any]:
    here = describe_this_cpu()
    spec = EngineSpec(
        "TRTEngineOp_000_000", 0, str(write_model(folder)), ("x",), ("y",), ShapeSet(("x",), ((4, 32),)),
        "openvino", "1", precision, target or here, (), f"key{precision}",
    )  # fmt: skip
    engine = build_engine(spec, folder)
    assert engine.precision == precision
    return np.frombuffer((folder / engine.file).read_bytes(), np.uint8).copy()


def skip_without(precision: str) -> None:
    try:
        found = find_arithmetic(precision, describe_this_cpu())
    except PrecisionError as error:
        pytest.skip(str(error))
    if found != precision:
        pytest.skip(f"{precision} runs in {found} on {describe_this_cpu()}")


@pytest.mark.parametrize("precision", ["BF16", "FP16"])
def test_an_engine_runs_in_the_precision_that_it_was_built_in(precision: str, tmp_path: pathlib.Path) -> None:
    skip_without(precision)
    backend = find_backend("openvino")
    x = np.random.default_rng().normal(size=(4, 32)).astype(np.float32)
    answers = {
        name: backend.load(build(tmp_path, name), ["x"], ["y"], precision=name).run([x])[0]
        for name in ("FP32", precision)
    }
    assert answers[precision].dtype == np.float32
    difference = np.abs(answers[precision] - answers["FP32"]).max()
    unit = {"BF16": 2**-8, "FP16": 2**-11}[precision]
    assert unit / 100 < difference / np.abs(answers["FP32"]).max() < 8 * unit


def test_what_openvino_takes_instead_without_a_word_is_an_error() -> None:
    class Compiled:
        def get_property(self, name: str) -> Any:
            from beforehand.backends.import_openvino import import_openvino

            return import_openvino().Type.bf16

    check_compiled(Compiled(), "BF16", "")
    check_compiled(Compiled(), "INT8", "cpu-x86_64+avx512_bf16")
    with pytest.raises(EngineRunError, match="BH601 OpenVINO would run this engine in bf16, and it is one for f32"):
        check_compiled(Compiled(), "INT8", "cpu-x86_64+avx512_vnni")
    with pytest.raises(EngineRunError, match="BH601 OpenVINO would run this engine in bf16, and it is one for f16"):
        check_compiled(Compiled(), "FP16", "")
    assert {item.hint for item in ARITHMETIC.values()} == {"f32", "bf16", "f16", ""}


@pytest.mark.parametrize(
    ("level", "rest"),
    [("amx", "BF16"), ("avx512_bf16", "BF16"), ("avx512_vnni", "FP32"), ("avx2_vnni_2", "FP32"), ("avx2_vnni", "FP32"),
     ("avx512", None), ("avx2", None)],
)  # fmt: skip
def test_int8_wants_vnni_and_takes_bf16_for_the_rest_where_it_can(level: str, rest: str | None) -> None:
    target = f"cpu-x86_64+{level}"
    if rest is None:
        with pytest.raises(PrecisionError):
            find_arithmetic("INT8", target)
        return
    assert find_arithmetic("INT8", target) == "INT8"
    assert find_rest(target) == rest
    assert find_hint("INT8", target) == {"BF16": "bf16", "FP32": "f32"}[rest]
