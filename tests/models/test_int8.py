"""INT8 on this CPU: calibrated, built, saved and loaded in fresh processes; calibrated once for all builds that come."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from collections import Counter
from collections.abc import Callable
from typing import Any

import life_cycle
import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("nncf")

import beforehand
from beforehand.backends.describe_cpu import LEVELS, describe_this_cpu, find_limit
from beforehand.backends.openvino_precisions import find_arithmetic, find_rest
from beforehand.backends.registry import find_backend
from beforehand.errors import CalibrationError, PrecisionError
from beforehand.records import Manifest
from beforehand.store import layout
from beforehand.store.manifest import read_manifest

KEY = "serving_default"
SHAPES: dict[str, list[dict[str, Any]]] = {
    "digits": [{"image": [batch, 8, 8, 1]} for batch in (1, 10)],
    "keras_encoder": [{"ids": [1, 12]}, {"ids": [3, 7]}],
}
# By the difference between two answers of TensorFlow; the encoder has 32 channels of random weights, the answers differ by 4.
BOUNDS, LEAST = {"digits": 0.1, "keras_encoder": 0.4}, 1e-5


@pytest.fixture(scope="module", autouse=True)
def has_vnni() -> None:
    try:
        find_arithmetic("INT8", describe_this_cpu())
    except PrecisionError as error:
        pytest.skip(str(error))


def write_calibration(name: str, folder: pathlib.Path) -> str:
    """Rows of what the model was trained on, or is called with; none of the digits' test split."""
    file = folder / f"{name}.npz"
    if name == "digits":
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        images = (digits.images / 16).astype(np.float32)[..., np.newaxis]
        np.savez(file, image=train_test_split(images, digits.target, test_size=360, random_state=5)[0][:200])
    else:
        rng = np.random.default_rng(8)
        ids = rng.integers(1, 100, (100, 12)).astype(np.int32)
        # 0 is padding. Among 12 tokens none gets as much attention as one among 7 may: ranges are those of the lengths seen.
        np.savez(file, ids=np.where(np.arange(12) < rng.integers(4, 13, (100, 1)), ids, 0))
    return str(file)


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """The models converted, and what the processes told."""

    folder: pathlib.Path
    made: dict[str, life_cycle.MadeModel]
    jobs: dict[str, dict[str, Any]]
    converted: dict[str, Any]

    def read_manifest(self, name: str) -> Manifest:
        return read_manifest(layout.find_manifest(self.folder / name))


@pytest.fixture(scope="module")
def calibrated(
    made_model: Callable[[str], life_cycle.MadeModel], tmp_path_factory: pytest.TempPathFactory
) -> Calibrated:
    folder = tmp_path_factory.mktemp("int8")
    made = {name: made_model(name) for name in SHAPES}
    jobs = {
        name: life_cycle.describe_conversion(
            made[name], folder / name, {KEY: shapes}, api={"digits": "drop-in"}.get(name, "own"), precision_mode="INT8",
            calibration=write_calibration(name, folder),
        )
        for name, shapes in SHAPES.items()
    }  # fmt: skip
    converted = life_cycle.run_jobs("convert_model.py", list(jobs.values()))
    return Calibrated(folder, made, jobs, dict(zip(SHAPES, converted, strict=True)))


@pytest.mark.parametrize("model", SHAPES)
def test_engines_answer_nearly_as_tensorflow_does(model: str, calibrated: Calibrated) -> None:
    converted = calibrated.converted[model]
    assert "failed" not in converted, converted["failed"]
    assert {engine["precision"] for engine in converted["engines"]} == {"INT8"}
    checked = life_cycle.check_model(
        calibrated.made[model], calibrated.folder / model, {KEY: SHAPES[model]}, {}, rtol=0, atol=10
    )
    life_cycle.check_engines_answered(checked)
    [error] = checked["signatures"][KEY]["errors"].values()
    [spread] = checked["signatures"][KEY]["spreads"].values()
    assert LEAST < error < BOUNDS[model] * max(spread, 1)


def test_a_trained_model_is_as_right_as_it_was_but_for_one_image(calibrated: Calibrated) -> None:
    made = calibrated.made["digits"]
    accuracy = str(made.folder.parent / "digits_test.npz")
    checked = life_cycle.check_model(
        made, calibrated.folder / "digits", {KEY: SHAPES["digits"]}, {}, accuracy=accuracy, rtol=1, atol=1
    )
    right = checked["accuracy"]
    assert right["engine_calls"] == right["of"] // 10
    assert abs(right["original"] - right["converted"]) <= 1
    assert right["original"] > 0.9 * right["of"]


@pytest.mark.parametrize(
    ("model", "kinds"), [("digits", {"Convolution", "FullyConnected"}), ("keras_encoder", {"FullyConnected", "MatMul"})]
)
def test_products_compute_in_8_bits(model: str, kinds: set[str], calibrated: Calibrated) -> None:
    """By OpenVINO's own account of the engine that it has loaded."""
    [engine, *_] = calibrated.read_manifest(model).engines
    data = np.fromfile(calibrated.folder / model / layout.ASSETS / engine.file, np.uint8)
    opened = find_backend("openvino").load(data, engine.input_names, engine.output_names, precision="INT8")
    counted: Counter[tuple[str, str]] = Counter()
    for op in opened._compiled.get_runtime_model().get_ops():  # type: ignore[attr-defined]
        info = {name: op.get_rt_info()[name] for name in ("layerType", "runtimePrecision")}
        found = [str(getattr(value, "value", value)) for value in info.values()]
        if found[0] in ("Convolution", "FullyConnected", "MatMul"):
            counted[found[0], found[1]] += 1
    assert {kind for kind, _ in counted} == kinds
    assert {precision for _, precision in counted} <= {"i8", "u8"}, counted


def test_the_quantised_graph_is_small_and_beside_the_other(calibrated: Calibrated) -> None:
    for name in SHAPES:
        for source in calibrated.read_manifest(name).sources:
            files = [
                calibrated.folder / name / layout.ASSETS / file for file in (source.onnx_file, source.quantized_file)
            ]
            assert files[0] != files[1]
            assert files[1].stat().st_size < files[0].stat().st_size + 60_000


REPEAT = """
import json, sys
from beforehand.calibrate import quantize_segment
def refuse(*_):
    raise AssertionError("NNCF was started")
quantize_segment.run_child = refuse
import convert_model
print(json.dumps([convert_model.run(job) for job in json.loads(sys.argv[1])]))
"""


def test_a_second_run_of_the_same_script_calibrates_nothing(calibrated: Calibrated, tmp_path: pathlib.Path) -> None:
    jobs = [{**job, "output": str(tmp_path / name)} for name, job in calibrated.jobs.items()]
    code = f"import sys; sys.path.insert(0, {str(life_cycle.HERE)!r})\n{REPEAT}"
    done = life_cycle.run_python("-c", code, json.dumps(jobs), BEFOREHAND_FORBID_BUILD="1")
    assert done.returncode == 0, done.stderr[-3000:]
    for name, told in zip(SHAPES, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert "failed" not in told, told["failed"]
        keys = [engine["key"] for engine in told["engines"]]
        assert keys == [engine["key"] for engine in calibrated.converted[name]["engines"]]


ADD = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "nncf", "onnxruntime"):
            raise ModuleNotFoundError(f"{name} is not to be had", name=name)
sys.meta_path.insert(0, Absent())
import beforehand
print([(engine.precision, engine.target) for engine in beforehand.add_target(sys.argv[1], sys.argv[2], progress="off")])
"""


def find_lower() -> str:
    """A CPU with VNNI that has less than this one."""
    here = describe_this_cpu()
    lower = f"{here.partition('+')[0]}+avx512_vnni"
    if here.partition("+")[2] not in list(LEVELS)[: list(LEVELS).index("avx512_vnni")]:
        pytest.skip(f"{here} is no more than {lower}")
    return lower


def test_a_target_is_added_to_what_was_saved_without_calibrating(
    calibrated: Calibrated, tmp_path: pathlib.Path
) -> None:
    """With an empty cache and no NNCF; the engines run where oneDNN is told that this CPU is such a one."""
    lower, cache = find_lower(), tmp_path / "cache"
    for name, shapes in SHAPES.items():
        folder = tmp_path / name
        shutil.copytree(calibrated.folder / name, folder)
        code = f"import os; os.environ['BEFOREHAND_CACHE'] = {str(cache)!r}\n{ADD}"
        done = life_cycle.run_python("-c", code, folder, lower)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.splitlines()[-1] == str([("INT8", lower)] * len(shapes))
        job = life_cycle.describe_check(calibrated.made[name], folder, {KEY: shapes}, {}, rtol=0, atol=10)
        limit = find_limit(lower, describe_this_cpu())
        checked = life_cycle.run_job("check_model.py", job, BEFOREHAND_FORBID_BUILD="1", ONEDNN_MAX_CPU_ISA=limit)
        assert len(checked["built"]["spy"]) == 2 * len(shapes)
        [error] = checked["signatures"][KEY]["errors"].values()
        [spread] = checked["signatures"][KEY]["spreads"].values()
        assert LEAST < error < BOUNDS[name] * max(spread, 1)
    assert not (cache / "quantized").exists()


AT_RUN_TIME = """
import sys, time
import numpy as np, tensorflow as tf, beforehand
model = tf.saved_model.load(sys.argv[1])
beforehand.set_policies(model, on_unseen_shape="build")
image = tf.constant(np.random.default_rng(0).random((12, 8, 8, 1), np.float32))
def call():
    return next(iter(model.signatures["serving_default"](image=image).values())).numpy()
native = answer = call()
end = time.monotonic() + 120
while np.array_equal(answer, native) and time.monotonic() < end:
    time.sleep(0.1)
    answer = call()
assert 1e-5 < np.abs(answer - native).max() < 0.1
"""


def test_an_engine_built_at_run_time_is_int8_too(calibrated: Calibrated, tmp_path: pathlib.Path) -> None:
    code = f"import os; os.environ['BEFOREHAND_CACHE'] = {str(tmp_path)!r}\n{AT_RUN_TIME}"
    done = life_cycle.run_python("-c", code, calibrated.folder / "digits")
    assert done.returncode == 0, done.stderr[-3000:]
    [record] = (tmp_path / "engines").glob("*.json")
    assert json.loads(record.read_text())["precision"] == "INT8"
    assert not (tmp_path / "quantized").exists()


def test_a_build_or_save_before_calibration_is_refused(
    made_model: Callable[[str], life_cycle.MadeModel], tmp_path: pathlib.Path
) -> None:
    converter = beforehand.Converter(made_model("mlp").folder, precision_mode="INT8")
    converter.convert()
    with pytest.raises(CalibrationError, match="BH123 signature `serving_default` is not calibrated"):
        converter.build(shapes={"wide": (1, 6), "deep": (1, 10)})
    with pytest.raises(CalibrationError, match="BH123 there are no samples to calibrate with"):
        converter.calibrate(lambda: iter(()))
    # TF-TRT refuses to save a model whose calibration is pending; with or without engines.
    for save_engines in (True, False):
        with pytest.raises(
            CalibrationError, match=r"BH123 save\(\) was called before calibration, of `serving_default`"
        ) as told:
            converter.save(tmp_path / "saved", save_engines=save_engines)
        assert "Try: calibrate(samples)" in str(told.value)
    assert not (tmp_path / "saved").exists()
    converter = beforehand.Converter(made_model("mlp").folder)
    converter.convert()
    with pytest.raises(CalibrationError, match=r"BH123 calibrate\(\) was called although no calibration is needed"):
        converter.calibrate(lambda: iter(()))


def test_of_several_signatures_one_that_is_calibrated_is_enough_to_save_and_the_others_are_told(
    made_model: Callable[[str], life_cycle.MadeModel], tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = made_model("two_signatures")
    converter = beforehand.Converter(made.folder, precision_mode="INT8")
    converter.convert()
    calibrated, other = converter.signatures
    rng = np.random.default_rng(0)
    rows = [
        {
            spec.name: rng.normal(size=[dim or 1 for dim in spec.shape or ()]).astype(spec.dtype)
            for spec in calibrated.inputs
        }
        for _ in range(40)
    ]
    converter.calibrate(rows, signature=calibrated.key)
    converter.save(tmp_path / "saved")
    told = [record.getMessage() for record in caplog.records if "not calibrated" in record.getMessage()]
    assert told == [
        f"not calibrated: `{other.key}`. Engines that are built of the saved model for it will not run in INT8"
    ]


class Trained(tf.Module):
    """As quantization-aware training leaves a model: fake quantisation of activations, and of weights by channel."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(3)
        self.kernel = tf.Variable(rng.normal(0, 0.2, (3, 3, 8, 16)).astype(np.float32))
        self.dense = tf.Variable(rng.normal(0, 0.3, (16, 12)).astype(np.float32))

        self.most = [np.abs(w.numpy()).max(axis=tuple(range(w.shape.rank - 1))) for w in (self.kernel, self.dense)]

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 8), tf.float32, name="x")], autograph=False)
    def serve(self, x: Any) -> Any:
        quantize = tf.quantization.fake_quant_with_min_max_vars_per_channel
        x = tf.quantization.fake_quant_with_min_max_vars(x, -2.0, 2.5)
        kernel, dense = (
            quantize(weights, -most, most, narrow_range=True)
            for weights, most in zip((self.kernel, self.dense), self.most, strict=True)
        )
        x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))
        x = tf.quantization.fake_quant_with_min_max_vars(x, 0.0, 4.0)
        x = tf.reduce_mean(x, [1, 2])
        return {"y": tf.matmul(tf.quantization.fake_quant_with_min_max_vars(x, 0.0, 1.0), dense)}


def test_a_model_with_ranges_of_its_own_keeps_them(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    module = Trained()
    tf.saved_model.save(module, str(tmp_path / "source"), signatures={"serving_default": module.serve})
    x = np.random.default_rng(5).uniform(-2, 2.5, (2, 8, 8, 8)).astype(np.float32)
    expected = module.serve(tf.constant(x))["y"].numpy()
    found = {}
    for precision in ("INT8", "FP32"):
        converter = beforehand.Converter(tmp_path / "source", precision_mode=precision, use_calibration=False)
        converter.convert()
        [engine] = converter.build(shapes={"x": x.shape})
        converter.save(tmp_path / precision)
        assert engine.precision == precision
        with beforehand.load(tmp_path / precision) as alone:
            found[precision] = alone(x=x)["y"]
    # Steps of the last activation, 1 / 255, times what its channel weighs.
    quantum = np.abs(module.dense.numpy()).sum(axis=0).max() / 255
    assert np.abs(found["FP32"] - expected).max() < quantum
    assert np.abs(found["INT8"] - expected).max() < quantum
    assert caplog.records == []
    [source] = read_manifest(layout.find_manifest(tmp_path / "INT8")).sources
    assert (source.quantized_file, source.quantized_sha256) == (source.onnx_file, source.onnx_sha256)
    opened = read_precisions(tmp_path / "INT8")
    assert {opened["Convolution"], opened["FullyConnected"]} <= {"i8", "u8"}
    assert set(read_precisions(tmp_path / "FP32").values()) == {"f32"}


def read_precisions(folder: pathlib.Path) -> dict[str, str]:
    """Of products, by OpenVINO's own account."""
    [engine] = read_manifest(layout.find_manifest(folder)).engines
    data = np.fromfile(folder / layout.ASSETS / engine.file, np.uint8)
    opened = find_backend("openvino").load(data, engine.input_names, engine.output_names, precision=engine.precision)
    told = {}
    for op in opened._compiled.get_runtime_model().get_ops():  # type: ignore[attr-defined]
        kind, precision = (
            str(getattr(op.get_rt_info()[name], "value", op.get_rt_info()[name]))
            for name in ("layerType", "runtimePrecision")
        )
        if kind in ("Convolution", "FullyConnected"):
            told[kind] = precision
    return told


def test_without_calibration_and_without_ranges_it_is_no_int8_and_says_so(
    made_model: Callable[[str], life_cycle.MadeModel], caplog: pytest.LogCaptureFixture
) -> None:
    converter = beforehand.Converter(made_model("mlp").folder, precision_mode="INT8", use_calibration=False)
    converter.convert()
    [engine] = converter.build(shapes={"wide": (1, 6), "deep": (1, 10)})
    assert engine.precision == find_rest(describe_this_cpu())
    [text] = [record.getMessage() for record in caplog.records if "ranges" in record.getMessage()]
    assert text == (
        "TRTEngineOp_000_000 has no ranges in the graph, and use_calibration is False: "
        f"built in {find_rest(describe_this_cpu())}"
    )


def test_the_command_line_calibrates(calibrated: Calibrated, tmp_path: pathlib.Path) -> None:
    made, out = calibrated.made["digits"], tmp_path / "out"
    command = ["convert", made.folder, "-o", out, "--precision", "int8", "--shapes", "image=2x8x8x1"]
    refused = life_cycle.run_python("-m", "beforehand", *command)
    assert refused.returncode == 2
    assert "BH123 --precision INT8 needs samples whose values are measured" in refused.stderr
    assert not out.exists()
    done = life_cycle.run_python(
        "-m", "beforehand", *command, "--calibration", calibrated.jobs["digits"]["calibration"]
    )
    assert done.returncode == 0, done.stderr
    assert " INT8 " in next(line for line in done.stdout.splitlines() if " openvino " in line)
    inspected = life_cycle.run_python("-m", "beforehand", "inspect", out, "--json")
    assert {engine["precision"] for engine in json.loads(inspected.stdout)["engines"]} == {"INT8"}


def test_an_engine_that_computes_something_else_is_not_used(tmp_path: pathlib.Path) -> None:
    """OpenVINO 2026.4.1 gives zeros for two small products of int8 at batch 8, and not at 9; ONNX Runtime answers the same graph."""
    rng = np.random.default_rng(0)
    module = tf.Module()
    module.weights = [tf.Variable(rng.normal(0, 0.2, (64, 64)).astype(np.float32)) for _ in range(2)]

    @tf.function(input_signature=[tf.TensorSpec((None, 64), tf.float32, name="x")])
    def serve(x: Any) -> dict[str, Any]:
        for weights in module.weights:
            x = tf.nn.relu(tf.matmul(x, weights))
        return {"y": x}

    tf.saved_model.save(module, str(tmp_path / "plain"), signatures={KEY: serve})
    converter = beforehand.Converter(tmp_path / "plain", precision_mode="INT8", progress="off")
    converter.convert(calibration_input_fn=lambda: [rng.normal(size=(100, 64)).astype(np.float32)])
    samples = {batch: rng.normal(size=(batch, 64)).astype(np.float32) for batch in (8, 9)}
    converter.build(samples.values)
    converter.save(tmp_path / "built")
    loaded = tf.saved_model.load(str(tmp_path / "built"))
    for x in samples.values():
        expected, found = (np.asarray(f(x=tf.constant(x))["y"]) for f in (serve, loaded.signatures[KEY]))
        assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    assert beforehand.stats(loaded)["signatures"][KEY]["engine_calls"] == 2
