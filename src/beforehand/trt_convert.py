"""TF-TRT's names and rules over `beforehand.converter.Converter`; `install` makes old scripts find them.

The module stands in for `tensorflow.python.compiler.tensorrt.trt_convert`, and imports without TensorFlow. What
differs from TF-TRT on purpose: no GPU is needed, `build` may be repeated, names and values are checked at once.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from beforehand.errors import (
    CalibrationError,
    ConvertedTwiceError,
    NoSamplesError,
    NotConvertedError,
    OptionValueError,
)
from beforehand.options import AUTO, follow_environment
from beforehand.report.summarize import format_summary
from beforehand.trt_params import (
    CONVERTER_PARAMETERS,
    DEFAULT_TRT_CONVERSION_PARAMS,
    DEFAULT_TRT_MAX_WORKSPACE_SIZE_BYTES,
    PROFILE_STRATEGY_IMPLICIT_BATCH_MODE_COMPATIBLE,
    PROFILE_STRATEGY_OPTIMAL,
    PROFILE_STRATEGY_RANGE,
    PROFILE_STRATEGY_RANGE_OPTIMAL,
    UNSET_CACHED_ENGINES,
    TrtConversionParams,
    TrtGraphConverter,
    TrtPrecisionMode,
    check_conversion_params,
    check_eager,
    check_parameter_names,
    create_inference_graph,
    find_strategy,
    get_tensorrt_rewriter_config,
    make_converter_options,
    read_conversion_params,
    supported_profile_strategies,
)

if TYPE_CHECKING:
    from beforehand.converter import Converter

__all__ = [
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
    "install",
    "supported_profile_strategies",
    "uninstall",
]

_PACKAGE = "tensorflow.python.compiler.tensorrt"
_ABSENT = object()
# What install() replaced: the dictionary of names, the name, and the old value.
_rebound: list[tuple[dict[str, Any], str, Any]] = []


class TrtGraphConverterV2:
    """Converts one signature of a SavedModel, with the calls of TF-TRT's class of this name.

    `convert()` divides the graph, `build(input_fn)` builds the engines for the shapes of its samples, `save(folder)`
    writes a SavedModel that carries them. `beforehand.Converter` offers more: all signatures, backends, deny lists.

    Args:
        input_saved_model_dir: the SavedModel.
        input_saved_model_tags: its tags; None means ["serve"].
        input_saved_model_signature_key: the signature to convert; None means "serving_default".
        use_dynamic_shape: engines with ranges of shapes. None means False: an engine serves every batch up to its own.
        dynamic_shape_profile_strategy: one of `supported_profile_strategies()`, in any case; read only if
            `use_dynamic_shape`; None means "Range".
        max_workspace_size_bytes: bound of a builder's scratch memory, for backends that have one.
        precision_mode: one of `TrtPrecisionMode.supported_precision_modes()`.
        minimum_segment_size: fewer nodes stay native; -1 leaves everything native.
        maximum_cached_engines: engines loaded at once for each segment. Unlike TF-TRT, the default bounds nothing.
        use_calibration: INT8 only: calibrate with data.
        allow_build_at_runtime: build an engine when a call has an unseen shape; never with `use_dynamic_shape`, as in TF-TRT.
        conversion_params: deprecated; replaces the six parameters before it.
        unknown: refused with the nearest name.

    Raises:
        UnknownOptionError: BH101, a parameter that does not exist.
        OptionValueError: BH102, a value that the parameter cannot have.
        PrecisionError: BH103, the backend does not have this precision.
        EagerError: BH104, eager execution is off.
    """

    def __init__(  # noqa: PLR0913, PLR0917 (TF-TRT's parameters, in TF-TRT's order)
        self,
        input_saved_model_dir: Any = None,
        input_saved_model_tags: Sequence[str] | None = None,
        input_saved_model_signature_key: str | None = None,
        use_dynamic_shape: bool | None = None,
        dynamic_shape_profile_strategy: str | None = None,
        max_workspace_size_bytes: int = DEFAULT_TRT_MAX_WORKSPACE_SIZE_BYTES,
        precision_mode: str = TrtPrecisionMode.FP32,
        minimum_segment_size: int = 3,
        maximum_cached_engines: int = UNSET_CACHED_ENGINES,
        use_calibration: bool = True,
        allow_build_at_runtime: bool = True,
        conversion_params: TrtConversionParams | None = None,
        **unknown: Any,
    ) -> None:
        check_parameter_names(unknown, CONVERTER_PARAMETERS)
        check_eager()
        if conversion_params is not None:
            text = "conversion_params is deprecated and replaces six parameters: pass these instead"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
        self._conversion_params = read_conversion_params(conversion_params) or TrtConversionParams(
            max_workspace_size_bytes,
            precision_mode,
            minimum_segment_size,
            maximum_cached_engines,
            use_calibration,
            allow_build_at_runtime,
        )
        self._set_mode(use_dynamic_shape, dynamic_shape_profile_strategy)
        if self._conversion_params.maximum_cached_engines < 1:
            warnings.warn("maximum_cached_engines is less than 1: as in TF-TRT, it then bounds nothing", stacklevel=2)
        self._signature_key = input_saved_model_signature_key or "serving_default"
        self._converter = self._make_converter(input_saved_model_dir, input_saved_model_tags or "serve")

    def _set_mode(self, use_dynamic_shape: Any, strategy: str | None) -> None:
        """Check the values, in TF-TRT's order, and set the attributes that users of TF-TRT read."""
        params = self._conversion_params
        check_conversion_params(params)
        if isinstance(use_dynamic_shape, tuple):  # here stood conversion_params until TensorFlow 2.4
            raise OptionValueError("use_dynamic_shape is a tuple", advice="conversion_params=... by its name")
        self._use_dynamic_shape = bool(use_dynamic_shape)
        self._profile_strategy = find_strategy(strategy) if self._use_dynamic_shape else "Unknown"
        self.freeze = True
        self._need_calibration = params.precision_mode.upper() == TrtPrecisionMode.INT8 and bool(params.use_calibration)
        self._calibrated = False
        self._build_called_once = False
        self._converted_func: Any = None

    def _make_converter(self, source: Any, tags: Sequence[str]) -> Converter:
        from beforehand.converter import Converter  # noqa: PLC0415 (tests and install() must be able to replace it)

        if source is None:
            raise OptionValueError("input_saved_model_dir is missing", advice="the folder of a SavedModel")
        # TF-TRT never left out an engine that it had built; BEFOREHAND_MIN_SPEEDUP asks for it all the same.
        options = follow_environment(make_converter_options(self._conversion_params))
        options.setdefault("min_speedup", None)
        if self._use_dynamic_shape:
            options["dynamic_shape_profile_strategy"] = self._profile_strategy
            options["on_unseen_shape"] = "native"  # TF-TRT never adds a profile, whatever allow_build_at_runtime says
        else:
            options["serve_smaller_batches"] = True
        return Converter(
            source,
            tags=(tags,) if isinstance(tags, str) else tuple(tags),
            signatures=(self._signature_key,),
            use_dynamic_shape=self._use_dynamic_shape,
            **options,
        )

    @property
    def _converted_graph_def(self) -> Any:
        """The converted graph, made anew at each reading; None before `convert`."""
        return None if self._converted_func is None else self._converted_func.graph.as_graph_def()

    def convert(self, calibration_input_fn: Callable[[], Any] | None = None) -> Any:
        """The converted `ConcreteFunction`; no engine is built yet.

        Args:
            calibration_input_fn: only for INT8 with calibration: takes nothing, returns an iterable of samples as `build` takes
                them, of any shapes; their values matter.

        Raises:
            ConvertedTwiceError: BH112, called before with success.
            CalibrationError: BH123, a function although nothing is calibrated, or none although it is needed.
        """
        if self._converted_func is not None:
            raise ConvertedTwiceError("convert() was called before", advice="a new converter for another conversion")
        self._check_calibration(calibration_input_fn)
        functions = self._converter.convert(calibration_input_fn or None)
        self._converted_func = functions[self._signature_key]
        self._calibrated = self._need_calibration
        return self._converted_func

    def _check_calibration(self, calibration_input_fn: Callable[[], Any] | None) -> None:
        may_be_calibrated = (
            self._conversion_params.precision_mode.lower() == AUTO and self._conversion_params.use_calibration
        )
        if calibration_input_fn and not (self._need_calibration or may_be_calibrated):
            text = "calibration_input_fn is given, but only precision_mode INT8 with use_calibration=True is calibrated"
            raise CalibrationError(text, advice="convert() without it")
        if self._need_calibration and not calibration_input_fn:
            raise CalibrationError(
                "INT8 calibration needs data and calibration_input_fn is missing",
                advice="convert(calibration_input_fn=...), or use_calibration=False for a model that has its ranges",
            )

    def build(self, input_fn: Callable[[], Any] | None) -> None:
        """Build the engines for the shapes of all samples; may be repeated, with other shapes.

        Args:
            input_fn: takes nothing, returns an iterable of samples: an array, a list or tuple, or a dict each.

        Raises:
            NoSamplesError: BH121, `input_fn` is missing or yields nothing.
            NotConvertedError: BH111, `convert` comes first.
        """
        if not input_fn:
            raise NoSamplesError("input_fn is missing", advice="a function that yields one sample for each shape")
        self._check_converted("build")
        self._converter.build(input_fn, signature=self._signature_key)
        self._build_called_once = True

    def plan(self, input_fn: Callable[[], Any] | None) -> Any:
        """What `build(input_fn)` would do, as a `BuildPlan`; nothing is built. TF-TRT had no such call.

        Raises:
            NoSamplesError: BH121. NotConvertedError: BH111.
        """
        if not input_fn:
            raise NoSamplesError("input_fn is missing", advice="a function that yields one sample for each shape")
        self._check_converted("plan")
        return self._converter.plan(input_fn, signature=self._signature_key)

    def save(self, output_saved_model_dir: Any, save_gpu_specific_engines: bool = True, options: Any = None) -> None:
        """Write the converted SavedModel.

        Args:
            output_saved_model_dir: the folder to write.
            save_gpu_specific_engines: False leaves the engines out.
            options: a `tf.saved_model.SaveOptions`.

        Raises:
            NotConvertedError: BH111, `convert` comes first.
            CalibrationError: BH123, calibration is pending: never so after a `convert` that succeeded.
        """
        self._check_converted("save")
        self._converter.save(output_saved_model_dir, save_engines=bool(save_gpu_specific_engines), options=options)

    def summary(
        self, line_length: int = 160, detailed: bool = True, print_fn: Callable[[str], Any] | None = None
    ) -> None:
        """Print TF-TRT's table of the engines, by one call of `print_fn` (default `print`) for each text.

        Raises:
            NotConvertedError: BH111, `convert` comes first.
            OptionValueError: BH102, `line_length` is less than 160.
        """
        self._check_converted("summary")
        if line_length < 160:
            raise OptionValueError(f"line_length is {line_length}", advice="160 or more")
        for text in format_summary(self._converter.summary(), line_length=line_length, detailed=detailed):
            (print_fn or print)(text)

    def _check_converted(self, verb: str) -> None:
        if self._converted_func is None:
            raise NotConvertedError(f"{verb}() was called before convert()", advice="convert() first")


def install() -> None:
    """Make TensorFlow's names of TF-TRT mean this module's, so that old scripts run unedited; repeating is harmless.

    Rebound are `tensorflow.python.compiler.tensorrt.trt_convert` and `tf.experimental.tensorrt`; where a TensorFlow
    no longer has them, they are made. Call it before the script's own imports. `uninstall` restores what was there.
    """
    if _rebound:
        return
    here, tf = sys.modules[__name__], importlib.import_module("tensorflow")
    package = _open_module(_PACKAGE)
    _rebind(sys.modules, f"{_PACKAGE}.trt_convert", here)
    for name in ("trt_convert", "trt"):
        _rebind(vars(package), name, here)
    for parent in (tf.experimental, tf.compat.v2.experimental):  # two modules of one content
        if not hasattr(parent, "tensorrt"):
            _rebind(vars(parent), "tensorrt", types.ModuleType("tensorflow.experimental.tensorrt"))
        _rebind(vars(parent.tensorrt), "Converter", TrtGraphConverterV2)
        _rebind(vars(parent.tensorrt), "ConversionParams", TrtConversionParams)


def uninstall() -> None:
    """Undo `install`; harmless without it."""
    while _rebound:
        names, name, old = _rebound.pop()
        if old is _ABSENT:
            names.pop(name, None)
        else:
            names[name] = old


def _rebind(names: dict[str, Any], name: str, value: Any) -> None:
    _rebound.append((names, name, names.get(name, _ABSENT)))
    names[name] = value


def _open_module(name: str) -> types.ModuleType:
    """The module of that name, or an empty one in its place where this TensorFlow has none."""
    try:
        return importlib.import_module(name)
    except ImportError:
        parent, _, last = name.rpartition(".")
        module = types.ModuleType(name)
        module.__path__ = []  # a package, so that modules below it can be imported
        _rebind(vars(_open_module(parent)), last, module)
        _rebind(sys.modules, name, module)
        return module
