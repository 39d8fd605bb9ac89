"""Every option once: its default, what it may be, and whether it is part of an engine's key."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from beforehand.errors import OptionValueError, UnknownOptionError
from beforehand.options import ALL, Options, make_options

# Each option with another value than its default, and whether that must change the key of an engine.
OTHER_VALUES: dict[str, tuple[Any, bool]] = {
    "precision_mode": ("FP16", True),
    "minimum_segment_size": (7, False),
    "backend": ("tensorrt", True),
    "target": ("cpu-riscv64", True),
    "max_workspace_size_bytes": (1 << 20, True),
    "builder_optimization_level": (0, True),
    "device": (1, False),
    "maximum_cached_engines": (2, False),
    "use_calibration": (False, True),
    "compare_samples": (0, False),
    "max_error": (0.01, False),
    "max_rebuilds": (3, False),
    "on_inaccurate": ("error", False),
    "min_speedup": (None, False),
    "on_unseen_shape": ("build", False),
    "on_mismatch": ("error", False),
    "performance_hint": ("throughput", False),
    "use_dynamic_shape": (True, False),
    "dynamic_shape_profile_strategy": ("Optimal", False),
    "serve_smaller_batches": (True, False),
    "ops_denylist": (("Conv2D",), False),
    "nodes_denylist": (("conv1",), False),
    "max_engines": (3, False),
    "timeout_s": (9.0, False),
    "max_build_memory_bytes": (1 << 30, False),
    "on_build_failure": ("retry", False),
    "workers": (2, False),
    "executor": ("ray", False),
    "progress": ("json", False),
}


def test_this_file_knows_every_option() -> None:
    assert set(OTHER_VALUES) == {field.name for field in dataclasses.fields(Options)}


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_the_key_changes_exactly_with_the_options_that_can_change_an_engine(name: str) -> None:
    value, changes = OTHER_VALUES[name]
    assert value != getattr(Options(), name)
    assert (make_options({name: value}).to_key() != Options().to_key()) is changes


@pytest.mark.parametrize("field", dataclasses.fields(Options), ids=lambda field: field.name)
def test_every_option_has_a_meaning_that_is_a_sentence_and_says_who_honours_it(field: Any) -> None:
    assert field.metadata["meaning"].endswith(".")
    assert field.metadata["backends"] in (ALL, "openvino", "tensorrt")
    assert isinstance(field.metadata["in_key"], bool)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"precision_mode": "FP8"}, "BH102 precision_mode is 'FP8'. Try: one of FP32, TF32, FP16, BF16, INT8, auto."),
        (
            {"minimum_segment_size": 0},
            "BH102 minimum_segment_size is 0. Try: 1 or more, or -1 to leave the whole graph native.",
        ),
        (
            {"minimum_segment_size": -2},
            "BH102 minimum_segment_size is -2. Try: 1 or more, or -1 to leave the whole graph native.",
        ),
        (
            {"maximum_cached_engines": 0},
            "BH102 maximum_cached_engines is 0. Try: 1 or more, or None for no bound.",
        ),
        (
            {"dynamic_shape_profile_strategy": "range"},
            (
                "BH102 dynamic_shape_profile_strategy is 'range'. "
                "Try: one of Range, Optimal, Range+Optimal, ImplicitBatchModeCompatible."
            ),
        ),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_those_that_can(values: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionValueError) as raised:
        make_options(values)
    assert str(raised.value) == text


def test_an_unknown_option_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UnknownOptionError, match=r"`maximum_cached_engiens`.*did you mean `maximum_cached_engines`\?"):
        make_options({"maximum_cached_engiens": 100})


def test_an_option_like_none_of_them_is_answered_with_all_of_them() -> None:
    with pytest.raises(UnknownOptionError) as raised:
        make_options({"zzz": 1})
    assert all(name in str(raised.value) for name in OTHER_VALUES)


def test_lists_become_tuples_so_that_nobody_can_change_them() -> None:
    given = ["Conv2D"]
    options = make_options({"ops_denylist": given})
    given.append("MatMul")
    assert options.ops_denylist == ("Conv2D",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.backend = "tensorrt"  # type: ignore[misc]


def test_what_a_backend_ignores_is_listed_only_where_the_user_set_it() -> None:
    set_by_user = make_options({"max_workspace_size_bytes": 1 << 20})
    assert set_by_user.list_ignored("openvino") == ("max_workspace_size_bytes",)
    assert set_by_user.list_ignored("tensorrt") == ()
    assert Options().list_ignored("openvino") == ()
