"""TF-TRT's conversion parameters: names, defaults, allowed values; and what became of its old names."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

from beforehand import environment
from beforehand.errors import EagerError, OptionValueError, RemovedApiError, UnknownOptionError
from beforehand.options import AUTO, PROFILE_STRATEGIES, check_names

# TF-TRT's value where TensorRT is older than 8.4 or, as in every TensorFlow since 2.18, absent.
DEFAULT_TRT_MAX_WORKSPACE_SIZE_BYTES = 1 << 30

PROFILE_STRATEGY_RANGE = "Range"
PROFILE_STRATEGY_OPTIMAL = "Optimal"
PROFILE_STRATEGY_RANGE_OPTIMAL = "Range+Optimal"
PROFILE_STRATEGY_IMPLICIT_BATCH_MODE_COMPATIBLE = "ImplicitBatchModeCompatible"

_NO_SESSION = "TensorFlow's Grappler no longer takes part: the graph is divided by beforehand itself"
_ONLY_DYNAMIC = "Engines are always built by build() or at a call, as is_dynamic_op=True did"
_ONLY_TF1 = "It belonged to TensorFlow 1's TrtGraphConverter"

# Parameter that old scripts still pass: (what became of it, what to do).
_GONE = {
    "rewriter_config_template": (_NO_SESSION, "leave it out"),
    "session_config": (_NO_SESSION, "leave it out"),
    "is_dynamic_op": (_ONLY_DYNAMIC, "leave it out"),
    "max_batch_size": (
        "Engines are built for the shapes that the input_fn of build() yields",
        "leave it out and let input_fn yield batches of the sizes that you serve",
    ),
    "nodes_blacklist": ("It became nodes_denylist", "beforehand.Converter(..., nodes_denylist=[...])"),
    "nodes_denylist": (_ONLY_TF1, "beforehand.Converter(..., nodes_denylist=[...])"),
    "input_graph_def": (_ONLY_TF1, "save the graph as a SavedModel and pass input_saved_model_dir"),
}


class _Unset(int):
    """An int that shows as TF-TRT's default and is known, by identity, not to come from the user."""


UNSET_CACHED_ENGINES = _Unset(1)


_TF_TRT_MODES = ("FP32", "FP16", "INT8")


class TrtPrecisionMode:
    """The precisions, as TF-TRT names them."""

    FP32 = "FP32"
    FP16 = "FP16"
    INT8 = "INT8"

    @staticmethod
    def supported_precision_modes() -> list[str]:
        """All spellings that are accepted: upper case and lower case, nothing between. `Converter` has more precisions."""
        return [mode.upper() for mode in _TF_TRT_MODES] + [mode.lower() for mode in _TF_TRT_MODES]


def supported_profile_strategies() -> list[str]:
    """The strategies by which shape profiles follow from the shapes seen in `build`."""
    return list(PROFILE_STRATEGIES)


def check_parameter_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse parameters that do not exist: those of old TF-TRT with their fate, others with the nearest name.

    Raises:
        UnknownOptionError: BH101.
    """
    given, known = list(given), list(known)
    for name in given:
        if name in _GONE and name not in known:
            fate, advice = _GONE[name]
            raise UnknownOptionError(f"there is no parameter `{name}`", why=fate, advice=advice)
    check_names(given, known, what="parameter")


class _Fields(NamedTuple):
    max_workspace_size_bytes: int
    precision_mode: str
    minimum_segment_size: int
    maximum_cached_engines: int
    use_calibration: bool
    allow_build_at_runtime: bool


class TrtConversionParams(_Fields):
    """The parameters of one conversion: a named tuple, as in TF-TRT.

    Values are checked by the converter that receives them; names are checked here.

    Raises:
        UnknownOptionError: BH101, a field that does not exist, in the constructor or in `_replace`.

    Example:
        >>> TrtConversionParams()._replace(precision_mode="FP16").precision_mode
        'FP16'
    """

    __slots__ = ()

    def __new__(
        cls,
        max_workspace_size_bytes: int = DEFAULT_TRT_MAX_WORKSPACE_SIZE_BYTES,
        precision_mode: str = TrtPrecisionMode.FP32,
        minimum_segment_size: int = 3,
        maximum_cached_engines: int = 1,
        use_calibration: bool = True,
        allow_build_at_runtime: bool = True,
        **unknown: Any,
    ) -> TrtConversionParams:
        """The named tuple; `unknown` only exists to be refused with the nearest name."""
        check_parameter_names(unknown, cls._fields)
        return super().__new__(
            cls,
            max_workspace_size_bytes,
            precision_mode,
            minimum_segment_size,
            maximum_cached_engines,
            use_calibration,
            allow_build_at_runtime,
        )

    def _replace(self, **changes: Any) -> TrtConversionParams:
        check_parameter_names(changes, self._fields)
        return super()._replace(**changes)

    __replace__ = _replace  # copy.replace of Python 3.13 would otherwise find the one without our check


DEFAULT_TRT_CONVERSION_PARAMS = TrtConversionParams()

CONVERTER_PARAMETERS = (
    "input_saved_model_dir",
    "input_saved_model_tags",
    "input_saved_model_signature_key",
    "use_dynamic_shape",
    "dynamic_shape_profile_strategy",
    *TrtConversionParams._fields,
    "conversion_params",
)


def check_eager() -> None:
    """Refuse to work inside a graph; a process that has not imported TensorFlow is eager.

    Raises:
        EagerError: BH104, eager execution is off.
    """
    tf = sys.modules.get("tensorflow")
    if tf is not None and not tf.executing_eagerly():
        raise EagerError(
            "eager execution is off", advice="make the converter outside of tf.Graph, tf.function and TF1 mode"
        )


def check_conversion_params(params: TrtConversionParams) -> None:
    """Refuse the values that TF-TRT refuses.

    Raises:
        OptionValueError: BH102, precision_mode or minimum_segment_size.
    """
    modes = [*TrtPrecisionMode.supported_precision_modes(), AUTO]
    if params.precision_mode not in modes:
        raise OptionValueError(f"precision_mode is {params.precision_mode!r}", advice="one of " + ", ".join(modes))
    if params.minimum_segment_size == 0 or params.minimum_segment_size < -1:
        raise OptionValueError(
            f"minimum_segment_size is {params.minimum_segment_size}",
            advice="1 or more, or -1 to leave the whole graph native",
        )


def find_strategy(given: str | None) -> str:
    """The strategy's one spelling, whatever the case of `given`; None gives "Range".

    Raises:
        OptionValueError: BH102, there is no such strategy.
    """
    if given is None:
        return PROFILE_STRATEGY_RANGE
    for strategy in PROFILE_STRATEGIES:
        if str(given).lower() == strategy.lower():
            return strategy
    raise OptionValueError(
        f"dynamic_shape_profile_strategy is {given!r}", advice="one of " + ", ".join(PROFILE_STRATEGIES)
    )


def read_conversion_params(given: Any) -> TrtConversionParams | None:
    """The six values of `given`, also where it is of TensorFlow's own class, made before `install`; None of None.

    A tuple does not tell who wrote its `maximum_cached_engines=1`, and nearly always it is the default: it counts as
    not set by the user.

    Raises:
        OptionValueError: BH102, `given` is something else, such as a dict.
    """
    if given is None:
        return None
    if getattr(given, "_fields", None) != TrtConversionParams._fields:
        raise OptionValueError(
            f"conversion_params is a {type(given).__name__}", advice="TrtConversionParams(precision_mode=...)"
        )
    params = TrtConversionParams(*given)
    return (
        params._replace(maximum_cached_engines=UNSET_CACHED_ENGINES) if params.maximum_cached_engines == 1 else params
    )


def make_converter_options(params: TrtConversionParams) -> dict[str, Any]:
    """The keyword arguments of `beforehand.converter.Converter` that `params` stand for.

    TF-TRT's defaults of the cache size and of the workspace are left out: the default of 1 engine made TF-TRT throw
    away built engines without a word, so here it bounds only when the user wrote it. Less than 1 is no bound.
    """
    options: dict[str, Any] = {
        "precision_mode": params.precision_mode if params.precision_mode == AUTO else params.precision_mode.upper(),
        "minimum_segment_size": params.minimum_segment_size,
        "use_calibration": params.use_calibration,
        "max_engines": max(0, environment.read_max_engines()),
        "on_unseen_shape": "build" if params.allow_build_at_runtime else "native",
    }
    if params.max_workspace_size_bytes != DEFAULT_TRT_MAX_WORKSPACE_SIZE_BYTES:
        options["max_workspace_size_bytes"] = params.max_workspace_size_bytes
    if params.maximum_cached_engines is not UNSET_CACHED_ENGINES and params.maximum_cached_engines >= 1:
        options["maximum_cached_engines"] = params.maximum_cached_engines
    return options


class TrtGraphConverter:
    """TensorFlow 1's converter: always refused, with the way out."""

    def __init__(self, *_: Any, **__: Any) -> None:
        _refuse("TrtGraphConverter", "It converted graphs of TensorFlow 1")


def create_inference_graph(*_: Any, **__: Any) -> NoReturn:
    """TensorFlow 1's function: always refused, with the way out."""
    _refuse("create_inference_graph", "It converted graphs of TensorFlow 1")


def get_tensorrt_rewriter_config(*_: Any, **__: Any) -> NoReturn:
    """The settings of a Grappler pass that no longer runs: always refused, with the way out."""
    _refuse("get_tensorrt_rewriter_config", _NO_SESSION)


def _refuse(name: str, why: str) -> NoReturn:
    raise RemovedApiError(
        f"{name} is not offered", why=why, advice="TrtGraphConverterV2(input_saved_model_dir=...), then convert()"
    )
