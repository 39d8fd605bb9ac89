"""The drop-in converter: what it passes on, what it refuses and when, and `install`. `Converter` is a stub here."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from beforehand import trt_convert as trt
from beforehand.errors import (
    CalibrationError,
    ConvertedTwiceError,
    EagerError,
    NoSamplesError,
    NotConvertedError,
    OptionValueError,
    UnknownOptionError,
)
from beforehand.report.summarize import Summary, format_summary

OLD = "tensorflow.python.compiler.tensorrt"
SUMMARY = Summary((), 4)


class StubGraph:
    def as_graph_def(self) -> str:
        return "a GraphDef"


class StubFunction:
    graph = StubGraph()


class StubConverter:
    """Remembers what it was told; converts every signature that it was asked to convert."""

    made: ClassVar[list[StubConverter]] = []
    fail: Exception | None = None

    def __init__(self, source: Any, *, tags: Any = ("serve",), signatures: Any = None, **options: Any) -> None:
        self.arguments = {"source": source, "tags": tags, "signatures": signatures, **options}
        self.calls: list[tuple[Any, ...]] = []
        StubConverter.made.append(self)

    def _note(self, *call: Any) -> None:
        if StubConverter.fail:
            raise StubConverter.fail
        self.calls.append(call)

    def convert(self, calibration_input_fn: Any = None) -> dict[str, Any]:
        self._note("convert", *([calibration_input_fn] if calibration_input_fn else []))
        return {key: StubFunction() for key in self.arguments["signatures"]}

    def build(self, input_fn: Any, signature: str | None = None) -> None:
        self._note("build", input_fn, signature)

    def save(self, folder: Any, *, save_engines: bool = True, options: Any = None) -> None:
        self._note("save", folder, save_engines, options)

    def summary(self) -> Summary:
        return SUMMARY


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("beforehand.converter")
    module.Converter = StubConverter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "beforehand.converter", module)
    monkeypatch.setattr(StubConverter, "made", [])
    monkeypatch.setattr(StubConverter, "fail", None)


def read_passed(**arguments: Any) -> dict[str, Any]:
    """What `Converter` is told when the drop-in is made with `arguments`."""
    trt.TrtGraphConverterV2("model", **arguments)
    return StubConverter.made[-1].arguments


def yield_samples() -> Iterator[list[int]]:
    yield [1]


# The constructor.


def test_parameters_order_and_defaults_are_those_of_tf_trt() -> None:
    parameters = inspect.signature(trt.TrtGraphConverterV2).parameters.values()
    assert [(p.name, p.default) for p in parameters if p.kind is not p.VAR_KEYWORD] == [
        ("input_saved_model_dir", None),
        ("input_saved_model_tags", None),
        ("input_saved_model_signature_key", None),
        ("use_dynamic_shape", None),
        ("dynamic_shape_profile_strategy", None),
        ("max_workspace_size_bytes", 1 << 30),
        ("precision_mode", "FP32"),
        ("minimum_segment_size", 3),
        ("maximum_cached_engines", 1),
        ("use_calibration", True),
        ("allow_build_at_runtime", True),
        ("conversion_params", None),
    ]


def test_defaults_convert_one_signature_into_twenty_engines_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEFOREHAND_MIN_SPEEDUP")
    assert read_passed() == {
        "source": "model",
        "tags": ("serve",),
        "signatures": ("serving_default",),
        "precision_mode": "FP32",
        "minimum_segment_size": 3,
        "max_engines": 20,
        "use_calibration": True,
        "on_unseen_shape": "build",
        "use_dynamic_shape": False,
        "serve_smaller_batches": True,
        "min_speedup": None,
    }


def test_engines_slower_than_tensorflow_are_left_out_where_the_environment_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TF-TRT never left one out."""
    monkeypatch.setenv("BEFOREHAND_MIN_SPEEDUP", "1.5")
    assert read_passed()["min_speedup"] == 1.5


def test_the_fastest_precision_may_be_asked_for_with_samples_or_without() -> None:
    assert read_passed(precision_mode="auto")["precision_mode"] == "auto"
    converter = trt.TrtGraphConverterV2("model", precision_mode="auto")
    converter.convert()
    converter = trt.TrtGraphConverterV2("model", precision_mode="auto")
    converter.convert(list)


def test_every_parameter_is_passed_on_by_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEFOREHAND_MIN_SPEEDUP")
    trt.TrtGraphConverterV2("model", ["serve", "gpu"], "detect", True, "optimal", 1 << 20, "fp16", 5, 7, False, False)
    assert StubConverter.made[-1].arguments == {
        "source": "model",
        "tags": ("serve", "gpu"),
        "signatures": ("detect",),
        "max_engines": 20,
        "use_dynamic_shape": True,
        "dynamic_shape_profile_strategy": "Optimal",
        "max_workspace_size_bytes": 1 << 20,
        "precision_mode": "FP16",
        "minimum_segment_size": 5,
        "maximum_cached_engines": 7,
        "use_calibration": False,
        "on_unseen_shape": "native",
        "min_speedup": None,
    }


def test_dynamic_mode_leaves_unseen_shapes_native_and_static_mode_serves_smaller_batches() -> None:
    dynamic = read_passed(use_dynamic_shape=True, allow_build_at_runtime=True)
    assert (dynamic["on_unseen_shape"], dynamic["dynamic_shape_profile_strategy"]) == ("native", "Range")
    assert "serve_smaller_batches" not in dynamic
    static = read_passed(allow_build_at_runtime=True)
    assert (static["on_unseen_shape"], static["serve_smaller_batches"]) == ("build", True)


def test_one_tag_as_text_is_not_cut_into_letters() -> None:
    assert read_passed(input_saved_model_tags="serve")["tags"] == ("serve",)


def test_a_bound_of_one_engine_counts_only_when_the_user_wrote_it() -> None:
    assert "maximum_cached_engines" not in read_passed()
    assert read_passed(maximum_cached_engines=1)["maximum_cached_engines"] == 1


def test_a_bound_of_one_engine_in_conversion_params_is_the_default() -> None:
    with pytest.warns(DeprecationWarning, match="conversion_params"):
        assert "maximum_cached_engines" not in read_passed(conversion_params=trt.TrtConversionParams())
    with pytest.warns(DeprecationWarning, match="conversion_params"):
        passed = read_passed(conversion_params=trt.TrtConversionParams(maximum_cached_engines=2))
    assert passed["maximum_cached_engines"] == 2


@pytest.mark.parametrize("count", [0, -1])
def test_less_than_one_cached_engine_warns_and_bounds_nothing(count: int) -> None:
    with pytest.warns(UserWarning, match="maximum_cached_engines is less than 1") as caught:
        converter = trt.TrtGraphConverterV2("model", maximum_cached_engines=count)
    assert caught[0].filename == __file__
    assert "maximum_cached_engines" not in StubConverter.made[-1].arguments
    assert converter._conversion_params.maximum_cached_engines == count


def test_conversion_params_replace_all_six_values_and_are_deprecated() -> None:
    params = trt.TrtConversionParams(precision_mode="FP16", max_workspace_size_bytes=1 << 32)
    with pytest.warns(DeprecationWarning, match="^conversion_params is deprecated") as caught:
        converter = trt.TrtGraphConverterV2("model", minimum_segment_size=9, conversion_params=params)
    assert caught[0].filename == __file__
    assert converter._conversion_params == params
    passed = StubConverter.made[-1].arguments
    assert (passed["precision_mode"], passed["minimum_segment_size"]) == ("FP16", 3)
    assert passed["max_workspace_size_bytes"] == 1 << 32


@pytest.mark.parametrize("kind", [TypeError, ValueError, UnknownOptionError])
def test_a_typo_is_named_with_its_cure(kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"`maximum_cached_engiens`\. Try: did you mean `maximum_cached_engines`\?"):
        trt.TrtGraphConverterV2("model", maximum_cached_engiens=100)
    with pytest.raises(kind, match="did you mean `input_saved_model_dir`"):
        trt.TrtGraphConverterV2(saved_model_dir="model")


def test_an_old_parameter_is_told_its_fate() -> None:
    with pytest.raises(UnknownOptionError, match=r"there is no parameter `is_dynamic_op`\. Engines are always built"):
        trt.TrtGraphConverterV2("model", is_dynamic_op=True)


def test_conversion_params_in_their_old_position_are_recognised() -> None:
    with pytest.raises(OptionValueError, match=r"conversion_params=\.\.\. by its name"):
        trt.TrtGraphConverterV2("model", None, None, trt.TrtConversionParams())  # type: ignore[arg-type]


def test_no_source_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="input_saved_model_dir is missing"):
        trt.TrtGraphConverterV2()


def test_values_are_checked_in_tf_trts_order_before_anything_is_made() -> None:
    wrong: dict[str, Any] = {
        "precision_mode": "Fp16",
        "minimum_segment_size": 0,
        "use_dynamic_shape": True,
        "dynamic_shape_profile_strategy": "Best",
    }
    for name, right in [("precision_mode", "FP16"), ("minimum_segment_size", -1)]:
        with pytest.raises(ValueError, match=f"^BH102 {name} is "):
            trt.TrtGraphConverterV2("model", **wrong)
        wrong[name] = right
    with pytest.raises(ValueError, match=r"^BH102 dynamic_shape_profile_strategy is 'Best'"):
        trt.TrtGraphConverterV2("model", **wrong)
    assert StubConverter.made == []


def test_the_strategy_is_read_only_in_dynamic_mode() -> None:
    static = trt.TrtGraphConverterV2("model", dynamic_shape_profile_strategy="Best")
    assert static._profile_strategy == "Unknown"
    assert "dynamic_shape_profile_strategy" not in StubConverter.made[-1].arguments
    dynamic = trt.TrtGraphConverterV2("model", use_dynamic_shape=True)
    assert (dynamic._use_dynamic_shape, dynamic._profile_strategy) == (True, "Range")


def test_an_error_of_the_converter_passes_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OptionValueError("from below")

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(StubConverter, "__init__", refuse)
    with pytest.raises(OptionValueError) as caught:
        trt.TrtGraphConverterV2("model", precision_mode="FP16")
    assert caught.value is error


def test_without_eager_execution_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    graph_mode = types.ModuleType("tensorflow")
    graph_mode.executing_eagerly = lambda: False  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorflow", graph_mode)
    with pytest.raises(EagerError, match="eager execution is off"):
        trt.TrtGraphConverterV2("model")
    assert StubConverter.made == []


# The life cycle.


def test_convert_build_save_pass_on_to_the_converter() -> None:
    converter = trt.TrtGraphConverterV2("model", input_saved_model_signature_key="detect")
    assert (converter.freeze, converter._build_called_once, converter._converted_graph_def) == (True, False, None)
    function = converter.convert()
    assert isinstance(function, StubFunction)
    assert converter._converted_func is function
    assert converter._converted_graph_def == "a GraphDef"
    assert converter.build(yield_samples) is None  # type: ignore[func-returns-value]
    assert converter._build_called_once
    converter.build(input_fn=yield_samples)
    converter.save("out")
    converter.save(output_saved_model_dir="lean", save_gpu_specific_engines=False, options="options")
    assert StubConverter.made[-1].calls == [
        ("convert",),
        ("build", yield_samples, "detect"),
        ("build", yield_samples, "detect"),
        ("save", "out", True, None),
        ("save", "lean", False, "options"),
    ]


def test_convert_a_second_time_is_an_assertion_error() -> None:
    converter = trt.TrtGraphConverterV2("model")
    converter.convert()
    with pytest.raises(AssertionError, match=r"^BH112 ") as caught:
        converter.convert()
    assert type(caught.value) is ConvertedTwiceError


def test_a_failed_convert_or_build_can_be_repeated() -> None:
    converter = trt.TrtGraphConverterV2("model")
    StubConverter.fail = RuntimeError("once")
    with pytest.raises(RuntimeError, match="once"):
        converter.convert()
    StubConverter.fail = None
    converter.convert()
    StubConverter.fail = RuntimeError("twice")
    with pytest.raises(RuntimeError, match="twice"):
        converter.build(yield_samples)
    assert not converter._build_called_once
    StubConverter.fail = None
    converter.build(yield_samples)
    assert converter._build_called_once


@pytest.mark.parametrize(
    ("verb", "call", "kinds"),
    [
        ("build", lambda c: c.build(yield_samples), (RuntimeError,)),
        ("save", lambda c: c.save("out"), (AssertionError,)),
        ("summary", lambda c: c.summary(), (RuntimeError,)),
        ("summary", lambda c: c.summary(line_length=10), (RuntimeError,)),
    ],
)
def test_before_convert_nothing_else_works(
    verb: str, call: Callable[[Any], Any], kinds: tuple[type[Exception], ...]
) -> None:
    with pytest.raises(kinds, match=rf"^BH111 {verb}\(\) was called before convert\(\)") as caught:
        call(trt.TrtGraphConverterV2("model"))
    assert type(caught.value) is NotConvertedError


@pytest.mark.parametrize("input_fn", [None, 0, []])
def test_build_without_input_fn_is_a_runtime_error_even_before_convert(input_fn: Any) -> None:
    converter = trt.TrtGraphConverterV2("model")
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^BH121 input_fn is missing") as caught:
            converter.build(input_fn)
        assert type(caught.value) is NoSamplesError
        if converter._converted_func is None:
            converter.convert()


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({"precision_mode": "INT8"}, True),
        ({"precision_mode": "int8"}, True),
        ({"precision_mode": "INT8", "use_calibration": False}, False),
        ({"precision_mode": "FP16"}, False),
        ({}, False),
    ],
)
def test_a_calibration_function_must_be_given_exactly_when_it_is_needed(options: dict[str, Any], needed: bool) -> None:
    converter = trt.TrtGraphConverterV2("model", **options)
    assert (converter._need_calibration, converter._calibrated) == (needed, False)
    with pytest.raises(ValueError, match=r"^BH123 .*calibration_input_fn is") as caught:
        converter.convert(None if needed else yield_samples)
    assert type(caught.value) is CalibrationError
    assert StubConverter.made[-1].calls == []


def test_calibration_data_are_handed_on() -> None:
    converter = trt.TrtGraphConverterV2("model", precision_mode="INT8")
    converter.convert(calibration_input_fn=yield_samples)
    assert StubConverter.made[-1].calls == [("convert", yield_samples)]
    assert converter._calibrated


def test_summary_prints_the_table_through_print_fn() -> None:
    converter = trt.TrtGraphConverterV2("model")
    converter.convert()
    texts: list[str] = []
    converter.summary(line_length=200, detailed=False, print_fn=texts.append)
    assert texts == format_summary(SUMMARY, line_length=200, detailed=False)


def test_summary_prints_on_the_screen_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    converter = trt.TrtGraphConverterV2("model")
    converter.convert()
    converter.summary()
    assert capsys.readouterr().out == "\n".join(format_summary(SUMMARY)) + "\n"


@pytest.mark.parametrize("line_length", [159, 0])
def test_a_line_shorter_than_160_is_a_value_error(line_length: int) -> None:
    converter = trt.TrtGraphConverterV2("model")
    converter.convert()
    with pytest.raises(ValueError, match=f"^BH102 line_length is {line_length}"):
        converter.summary(line_length=line_length)


# The module, and install.


def test_every_name_of_tf_trts_module_is_public() -> None:
    names = {
        "DEFAULT_TRT_CONVERSION_PARAMS",
        "DEFAULT_TRT_MAX_WORKSPACE_SIZE_BYTES",
        "PROFILE_STRATEGY_IMPLICIT_BATCH_MODE_COMPATIBLE",
        "PROFILE_STRATEGY_OPTIMAL",
        "PROFILE_STRATEGY_RANGE",
        "PROFILE_STRATEGY_RANGE_OPTIMAL",
        "TrtConversionParams",
        "TrtGraphConverter",
        "TrtGraphConverterV2",
        "TrtPrecisionMode",
        "create_inference_graph",
        "get_tensorrt_rewriter_config",
        "supported_profile_strategies",
    }
    assert set(trt.__all__) == names | {"install", "uninstall"}
    assert all(hasattr(trt, name) for name in trt.__all__)


def test_the_module_imports_without_tensorflow() -> None:
    code = "import sys; sys.modules['tensorflow'] = None; import beforehand.trt_convert"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.fixture
def tf() -> Iterator[Any]:
    tensorflow = pytest.importorskip("tensorflow")
    trt.uninstall()
    yield tensorflow
    trt.uninstall()


def read_names(tf: Any) -> list[Any]:
    """Everything that an old script can reach TF-TRT by."""
    package = sys.modules[OLD]
    public = [tf.experimental.tensorrt, tf.compat.v2.experimental.tensorrt]
    return [sys.modules[f"{OLD}.trt_convert"], package.trt_convert, package.trt] + [
        getattr(module, name) for module in public for name in ("Converter", "ConversionParams")
    ]


def test_install_makes_old_imports_find_us_and_uninstall_restores_them(tf: Any) -> None:
    importlib.import_module(f"{OLD}.trt_convert")
    before = read_names(tf)
    assert trt.install() is None  # type: ignore[func-returns-value]
    noted = len(trt._rebound)
    trt.install()
    assert len(trt._rebound) == noted
    space: dict[str, Any] = {}
    exec(f"from {OLD} import trt_convert as trt\nfrom {OLD}.trt_convert import TrtGraphConverterV2 as V2", space)  # noqa: S102
    exec(f"import {OLD}.trt_convert as whole", space)  # noqa: S102
    assert (space["trt"], space["whole"], space["V2"]) == (trt, trt, trt.TrtGraphConverterV2)
    assert read_names(tf) == [trt, trt, trt] + [trt.TrtGraphConverterV2, trt.TrtConversionParams] * 2
    trt.uninstall()
    trt.uninstall()
    assert all(new is old for new, old in zip(read_names(tf), before, strict=True))
    assert trt not in before


def test_install_makes_the_modules_that_a_tensorflow_lacks(tf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (OLD, f"{OLD}.trt_convert", "tensorflow.python.compiler"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it now raises ModuleNotFoundError
    monkeypatch.delattr(tf.experimental, "tensorrt")
    monkeypatch.delattr(tf.compat.v2.experimental, "tensorrt")
    trt.install()
    space: dict[str, Any] = {}
    exec(f"from {OLD} import trt_convert as trt\nimport {OLD}.trt_convert as whole", space)  # noqa: S102
    assert (space["trt"], space["whole"]) == (trt, trt)
    assert tf.experimental.tensorrt.Converter is trt.TrtGraphConverterV2
    assert tf.compat.v2.experimental.tensorrt.ConversionParams is trt.TrtConversionParams
    trt.uninstall()
    assert not hasattr(tf.experimental, "tensorrt")
    with pytest.raises(ImportError):
        importlib.import_module(f"{OLD}.trt_convert")


def test_the_founding_questions_script_now_says_what_is_wrong(tf: Any) -> None:
    trt.install()
    space: dict[str, Any] = {}
    exec(f"from {OLD} import trt_convert as trt\nparams = trt.DEFAULT_TRT_CONVERSION_PARAMS", space)  # noqa: S102
    params = space["params"]._replace(max_workspace_size_bytes=1 << 32)._replace(precision_mode="FP16")
    with pytest.raises(ValueError, match="did you mean `maximum_cached_engines`"):
        params._replace(maximum_cached_engiens=100)


def test_inside_a_tensorflow_graph_no_converter_is_made(tf: Any) -> None:
    with tf.Graph().as_default(), pytest.raises(EagerError, match="eager execution is off"):
        trt.TrtGraphConverterV2("model")
    trt.TrtGraphConverterV2("model")
