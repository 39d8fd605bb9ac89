"""TF-TRT's parameters: names, order, defaults, and what is said of names and values that do not exist."""

from __future__ import annotations

import collections
import copy
import pickle
import re
import sys
from typing import Any

import pytest

from beforehand import trt_params as trt
from beforehand.errors import OptionValueError, RemovedApiError, UnknownOptionError

FIELDS = {
    "max_workspace_size_bytes": 1073741824,
    "precision_mode": "FP32",
    "minimum_segment_size": 3,
    "maximum_cached_engines": 1,
    "use_calibration": True,
    "allow_build_at_runtime": True,
}


def test_fields_order_and_defaults_are_those_of_tf_trt() -> None:
    assert list(trt.TrtConversionParams()._asdict().items()) == list(FIELDS.items())
    assert trt.TrtConversionParams() == trt.DEFAULT_TRT_CONVERSION_PARAMS == tuple(FIELDS.values())


def test_constants_are_those_of_tf_trt() -> None:
    assert trt.DEFAULT_TRT_MAX_WORKSPACE_SIZE_BYTES == 1 << 30
    assert trt.supported_profile_strategies() == ["Range", "Optimal", "Range+Optimal", "ImplicitBatchModeCompatible"]
    assert trt.supported_profile_strategies() == [
        trt.PROFILE_STRATEGY_RANGE,
        trt.PROFILE_STRATEGY_OPTIMAL,
        trt.PROFILE_STRATEGY_RANGE_OPTIMAL,
        trt.PROFILE_STRATEGY_IMPLICIT_BATCH_MODE_COMPATIBLE,
    ]
    assert trt.TrtPrecisionMode.supported_precision_modes() == ["FP32", "FP16", "INT8", "fp32", "fp16", "int8"]
    assert (trt.TrtPrecisionMode.FP32, trt.TrtPrecisionMode.FP16, trt.TrtPrecisionMode.INT8) == ("FP32", "FP16", "INT8")


def test_positions_keywords_expansion_and_replace_give_the_same_tuple() -> None:
    wanted = (1 << 32, "FP16", 5, 100, False, False)
    params = trt.TrtConversionParams(*wanted)
    assert params == wanted
    assert trt.TrtConversionParams(**dict(zip(FIELDS, wanted, strict=True))) == params  # type: ignore[arg-type]
    assert trt.TrtConversionParams(**params._asdict()) == params
    replaced = trt.DEFAULT_TRT_CONVERSION_PARAMS._replace(**params._asdict())
    assert replaced == params
    assert type(replaced) is trt.TrtConversionParams


def test_params_can_be_copied_and_pickled_but_not_changed() -> None:
    params = trt.TrtConversionParams(precision_mode="FP16")
    for again in (copy.copy(params), copy.deepcopy(params), pickle.loads(pickle.dumps(params))):
        assert again == params
        assert type(again) is trt.TrtConversionParams
    with pytest.raises(AttributeError):
        params.precision_mode = "FP32"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        params.precision = "FP32"  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [TypeError, ValueError, UnknownOptionError])
def test_the_typo_of_the_founding_question_is_named_with_its_cure(kind: type[Exception]) -> None:
    text = re.escape(
        "BH101 there is no parameter `maximum_cached_engiens`. Try: did you mean `maximum_cached_engines`?"
    )
    with pytest.raises(kind, match=f"^{text}$"):
        trt.DEFAULT_TRT_CONVERSION_PARAMS._replace(maximum_cached_engiens=100)
    with pytest.raises(kind, match=f"^{text}$"):
        trt.TrtConversionParams(maximum_cached_engiens=100)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="copy.replace is new in Python 3.13")
def test_copy_replace_checks_names_too() -> None:
    with pytest.raises(UnknownOptionError, match="`minimum_segment_size`"):
        copy.replace(trt.TrtConversionParams(), minimum_segment_sise=4)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "fate"),
    [
        ("rewriter_config_template", "Grappler no longer takes part"),
        ("session_config", "Grappler no longer takes part"),
        ("is_dynamic_op", "as is_dynamic_op=True did"),
        ("max_batch_size", "shapes that the input_fn of build() yields"),
        ("nodes_blacklist", "It became nodes_denylist"),
        ("nodes_denylist", "beforehand.Converter(..., nodes_denylist=[...])"),
        ("input_graph_def", "TensorFlow 1's TrtGraphConverter"),
    ],
)
def test_a_parameter_removed_long_ago_is_told_its_fate(name: str, fate: str) -> None:
    for call in (trt.TrtConversionParams, trt.TrtConversionParams()._replace):
        with pytest.raises(UnknownOptionError) as caught:
            call(**{name: None})  # type: ignore[arg-type]
        assert str(caught.value).startswith(f"BH101 there is no parameter `{name}`. ")
        assert fate in str(caught.value)
        assert "did you mean" not in str(caught.value)


def test_a_name_like_no_other_lists_the_known_ones() -> None:
    with pytest.raises(UnknownOptionError, match="one of max_workspace_size_bytes, precision_mode, "):
        trt.TrtConversionParams(zzz=1)


@pytest.mark.parametrize("mode", ["FP32", "FP16", "INT8", "fp32", "fp16", "int8"])
def test_the_six_spellings_of_a_precision_are_accepted(mode: str) -> None:
    trt.check_conversion_params(trt.TrtConversionParams(precision_mode=mode))


@pytest.mark.parametrize("mode", ["Fp16", "BF16", "", None, 16])
def test_any_other_precision_is_refused_and_the_six_are_listed(mode: Any) -> None:
    with pytest.raises(ValueError, match=r"^BH102 precision_mode is .*FP32, FP16, INT8, fp32, fp16, int8"):
        trt.check_conversion_params(trt.TrtConversionParams(precision_mode=mode))


@pytest.mark.parametrize(("size", "allowed"), [(-2, False), (-1, True), (0, False), (1, True), (3, True)])
def test_the_minimum_segment_size_is_positive_or_minus_one(size: int, allowed: bool) -> None:
    params = trt.TrtConversionParams(minimum_segment_size=size)
    if allowed:
        trt.check_conversion_params(params)
        return
    with pytest.raises(ValueError, match=f"^BH102 minimum_segment_size is {size}"):
        trt.check_conversion_params(params)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, "Range"),
        ("range", "Range"),
        ("OPTIMAL", "Optimal"),
        ("range+optimal", "Range+Optimal"),
        ("implicitbatchmodecompatible", "ImplicitBatchModeCompatible"),
    ],
)
def test_a_strategy_is_found_in_any_case(given: str | None, found: str) -> None:
    assert trt.find_strategy(given) == found


def test_an_unknown_strategy_is_refused_and_the_four_are_listed() -> None:
    with pytest.raises(OptionValueError, match=r"'Best'.*Range, Optimal, Range\+Optimal, ImplicitBatchModeCompatible"):
        trt.find_strategy("Best")


def test_params_of_tensorflows_own_class_are_read() -> None:
    namedtuple: Any = collections.namedtuple
    foreign = namedtuple("TrtConversionParams", list(FIELDS))
    read = trt.read_conversion_params(foreign(1 << 30, "FP16", 4, 7, True, False))
    assert type(read) is trt.TrtConversionParams
    assert read == (1 << 30, "FP16", 4, 7, True, False)


@pytest.mark.parametrize("given", [{"precision_mode": "FP16"}, "FP16", (1, 2, 3, 4, 5, 6)])
def test_params_of_another_kind_are_refused(given: object) -> None:
    with pytest.raises(OptionValueError, match=f"conversion_params is a {type(given).__name__}"):
        trt.read_conversion_params(given)


def test_converter_options_leave_tf_trts_defaults_out() -> None:
    params = trt.read_conversion_params(trt.TrtConversionParams(precision_mode="fp16"))
    assert params is not None
    assert trt.make_converter_options(params) == {
        "precision_mode": "FP16",
        "minimum_segment_size": 3,
        "use_calibration": True,
        "max_engines": 20,
        "on_unseen_shape": "build",
    }


@pytest.mark.parametrize(("value", "kept"), [("3", 3), ("0", 0), ("-1", 0), ("many", 20)])
def test_the_number_of_segments_is_bounded_by_tf_trts_variable(
    monkeypatch: pytest.MonkeyPatch, value: str, kept: int
) -> None:
    monkeypatch.setenv("TF_TRT_MAX_ALLOWED_ENGINES", value)
    assert trt.make_converter_options(trt.TrtConversionParams())["max_engines"] == kept


@pytest.mark.parametrize(
    ("count", "bound"), [(0, None), (-3, None), (1, 1), (16, 16), (trt.UNSET_CACHED_ENGINES, None)]
)
def test_converter_options_bound_engines_only_as_the_user_said(count: int, bound: int | None) -> None:
    options = trt.make_converter_options(trt.TrtConversionParams(maximum_cached_engines=count))
    assert options.get("maximum_cached_engines") == bound


def test_converter_options_carry_a_workspace_that_is_not_the_default() -> None:
    options = trt.make_converter_options(trt.TrtConversionParams(max_workspace_size_bytes=1 << 32))
    assert options["max_workspace_size_bytes"] == 1 << 32


@pytest.mark.parametrize("name", ["TrtGraphConverter", "create_inference_graph", "get_tensorrt_rewriter_config"])
def test_what_tensorflow_1_had_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(RemovedApiError, match=rf"{name} is not offered\. .*Try: TrtGraphConverterV2\("):
        getattr(trt, name)("graph_def", outputs=["y"])
