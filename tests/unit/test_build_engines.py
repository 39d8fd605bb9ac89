"""Engine keys, and builds in processes of their own: what changes a key, and what a failed build says."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import pytest

from beforehand.backends.describe_cpu import describe_this_cpu
from beforehand.backends.openvino_precisions import find_arithmetic
from beforehand.backends.protocol import Probe
from beforehand.build_engines.build_engine import build_engine
from beforehand.build_engines.child import decode_spec, encode_spec
from beforehand.build_engines.plan_engines import plan_engines
from beforehand.build_engines.settings import BuildSettings
from beforehand.errors import BuildError, BuildForbiddenError, PrecisionError
from beforehand.options import Options
from beforehand.records import EngineSpec, LoweredSegment, Segment, ShapeSet, TensorSpec

SPEC = TensorSpec("x", "float32", (None, 4))
SEGMENT = Segment("TRTEngineOp_000_000", 0, "serving_default", ("n",), (), (SPEC,), (SPEC,), ("x:0",), ("n:0",), 1)
LOWERED = LoweredSegment(SEGMENT, "segment.onnx", ("input_0",), ("output_0",), "digest")
SHAPES = ShapeSet(("x",), ((1, 4),))
RANGE = ShapeSet(("x",), ((1, 4),), ((8, 4),))


class Backend:
    """Stands where only name, version and target of a backend are asked for."""

    kernels = ""
    name = "openvino"
    version = "1"

    def probe(self) -> Probe:
        return Probe(self.name, True, self.version, "")

    def describe_kernels(self, target: str) -> str:
        return self.kernels

    def describe_target(self, target: str) -> str:
        return target or describe_this_cpu()

    def resolve_precision(self, precision: str, target: str) -> str:
        return find_arithmetic(precision, target)


def plan(lowered: Any = LOWERED, shapes: Any = SHAPES, backend: Any = None, **options: Any) -> EngineSpec:
    [spec] = plan_engines({0: lowered}, [(0, shapes)], backend or Backend(), Options(**options))
    return spec


def test_equal_parts_have_an_equal_key() -> None:
    assert plan().key == plan().key
    [spec] = plan_engines({0: LOWERED}, [(0, SHAPES), (0, SHAPES)], Backend(), Options())
    assert spec.key == plan().key


def test_profiles_that_differ_in_the_shapes_accepted_alone_are_two() -> None:
    together = dataclasses.replace(RANGE, one_batch=True)
    specs = plan_engines({0: LOWERED}, [(0, RANGE), (0, together), (0, RANGE)], Backend(), Options())
    assert [spec.shapes.one_batch for spec in specs] == [False, True]


def test_what_cannot_change_an_engine_is_not_in_its_key() -> None:
    same = {"minimum_segment_size": 7, "max_engines": 3, "maximum_cached_engines": 2, "timeout_s": 5.0}
    assert plan(**same).key == plan().key
    moved = dataclasses.replace(LOWERED, onnx_file="elsewhere/segment.onnx")
    assert plan(lowered=moved).key == plan().key


def test_the_key_has_the_precision_that_engines_run_in() -> None:
    bf16_alone, both = "cpu-x86_64+avx512_bf16", "cpu-x86_64+amx"
    asked = plan(precision_mode="FP16", target=bf16_alone)
    assert asked.precision == "BF16"
    assert asked.key == plan(precision_mode="BF16", target=bf16_alone).key
    found = [plan(precision_mode=name, target=both) for name in ("FP32", "BF16", "FP16")]
    assert [spec.precision for spec in found] == ["FP32", "BF16", "FP16"]
    assert len({asked.key, *(spec.key for spec in found)}) == 4


def test_nothing_is_planned_in_a_precision_that_the_target_does_not_have() -> None:
    for precision, target in (("BF16", "cpu-x86_64+avx512_vnni"), ("TF32", ""), ("INT8", "cpu-x86_64+avx2")):
        with pytest.raises(PrecisionError, match=f"BH103 precision_mode {precision}"):
            plan(precision_mode=precision, target=target)


@pytest.mark.parametrize("shapes", [SHAPES, RANGE], ids=["one shape", "a range"])
def test_a_specification_comes_back_from_its_json(shapes: ShapeSet) -> None:
    import json

    spec = plan(shapes=shapes)
    assert decode_spec(json.loads(json.dumps(encode_spec(spec)))) == spec


def write_model(folder: pathlib.Path, *, target: tuple[int, ...] = (0, -1), shapes: ShapeSet = SHAPES) -> EngineSpec:
    """A reshape and a relu."""
    onnx = pytest.importorskip("onnx")
    value = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 4]) for name in ("input_0", "output_0")
    ]
    nodes = [
        onnx.helper.make_node("Reshape", ["input_0", "target"], ["reshaped"]),
        onnx.helper.make_node("Relu", ["reshaped"], ["output_0"]),
    ]
    constant = onnx.helper.make_tensor("target", onnx.TensorProto.INT64, [len(target)], target)
    graph = onnx.helper.make_graph(nodes, "g", value[:1], value[1:], [constant])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, folder / "segment.onnx")
    return dataclasses.replace(plan(shapes=shapes), onnx_file=str(folder / "segment.onnx"))


def test_a_build_gives_a_file_with_its_hash(tmp_path: pathlib.Path) -> None:
    from beforehand.store.hashing import hash_file

    engine = build_engine(write_model(tmp_path), tmp_path)
    file = tmp_path / engine.file
    assert (file.stat().st_size, hash_file(file)) == (engine.bytes, engine.sha256)
    assert engine.shapes == SHAPES


def test_a_failed_build_says_which_engine_and_where_its_log_is(tmp_path: pathlib.Path) -> None:
    (tmp_path / "segment.onnx").write_text("this is no model")
    spec = dataclasses.replace(plan(), onnx_file=str(tmp_path / "segment.onnx"))
    with pytest.raises(BuildError, match=r"BH401 the engine of TRTEngineOp_000_000 for x=1x4 was not built") as caught:
        build_engine(spec, tmp_path)
    assert (caught.value.cause, caught.value.segment, caught.value.shapes) == ("failed", "TRTEngineOp_000_000", "x=1x4")
    assert "Traceback" in pathlib.Path(caught.value.log).read_text()


def test_a_build_is_stopped_at_its_deadline(tmp_path: pathlib.Path) -> None:
    with pytest.raises(BuildError, match=r"longer than 0\.01 s") as caught:
        build_engine(write_model(tmp_path), tmp_path, BuildSettings(timeout_s=0.01))
    assert caught.value.cause == "timeout"


def test_a_killed_build_names_the_signal(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A child whose interpreter kills itself as it starts: what the kernel does when memory runs out.
    (tmp_path / "sitecustomize.py").write_text("import os; os.kill(os.getpid(), 9)")
    spec = write_model(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BuildError, match="SIGKILL") as caught:
        build_engine(spec, tmp_path)
    assert caught.value.cause == "killed"


def test_forbidden_means_that_no_process_is_started(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEFOREHAND_FORBID_BUILD", "1")
    with pytest.raises(BuildForbiddenError, match="BH402"):
        build_engine(plan(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_of_a_range_serves_every_batch_in_it(tmp_path: pathlib.Path) -> None:
    import numpy as np

    from beforehand.backends.registry import find_backend

    engine = build_engine(write_model(tmp_path, shapes=RANGE), tmp_path)
    data = np.frombuffer((tmp_path / engine.file).read_bytes(), np.uint8).copy()
    loaded = find_backend("openvino").load(data, engine.input_names, engine.output_names)
    for batch in (8, 1, 3):
        given = np.arange(-2 * batch, 2 * batch, dtype=np.float32).reshape(batch, 4)
        [found] = loaded.run([given])
        np.testing.assert_array_equal(found, np.maximum(given, 0))


def test_a_range_of_a_model_whose_batch_is_a_constant_inside_is_refused(tmp_path: pathlib.Path) -> None:
    build_engine(write_model(tmp_path, target=(1, 4)), tmp_path)  # for batch 1 it is all right
    with pytest.raises(
        BuildError, match=r"cannot have the range x=1\.\.8x4\. OpenVINO finds no shapes for x=8x4"
    ) as caught:
        build_engine(write_model(tmp_path, target=(1, 4), shapes=RANGE), tmp_path)
    assert "beforehand.errors" not in str(caught.value)
    assert caught.value.cause == "range"


def test_a_build_ends_with_the_process_that_asked_for_it(tmp_path: pathlib.Path) -> None:
    import json
    import subprocess
    import sys

    (tmp_path / "spec.json").write_text(json.dumps(encode_spec(write_model(tmp_path))))
    arguments = [str(tmp_path / "spec.json"), str(tmp_path / "engine"), "1"]  # process 1 is not its parent
    child = [sys.executable, "-m", "beforehand.build_engines.child", *arguments]
    assert subprocess.run(child, check=False, timeout=60).returncode == 1
    assert not (tmp_path / "engine").exists()


def test_a_build_can_be_ended_from_outside(tmp_path: pathlib.Path) -> None:
    with pytest.raises(BuildError, match="SIGKILL"):
        build_engine(write_model(tmp_path), tmp_path, on_start=lambda process: process.kill())


def test_kernels_for_a_device_are_part_of_the_key() -> None:
    with_kernels = Backend()
    with_kernels.kernels = "sm_89"
    assert plan(backend=with_kernels).key != plan().key
    assert plan(backend=with_kernels).kernels == "sm_89"
