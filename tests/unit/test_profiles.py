"""TF-TRT's static mode and its four strategies: which profiles there are, and which of them serves a request.

The tables are those of TF-TRT's behaviour: requests are asked of `ModelRuntime`, as at run time.
"""

from __future__ import annotations

import itertools
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beforehand.errors import BuildError, SampleError
from beforehand.options import PROFILE_STRATEGIES, Options
from beforehand.profiles.apply_strategy import apply_strategy
from beforehand.profiles.choose_rule import choose_rule
from beforehand.profiles.plan_profiles import EXACT, STATIC, Rule, plan_profiles
from beforehand.profiles.plan_static import plan_static
from beforehand.profiles.replace_refused import replace_refused
from beforehand.records import UNBOUNDED, Engine, EngineSpec, SegmentRecord, Shape, ShapeSet, TensorSpec
from beforehand.runtime.model_runtime import ModelRuntime

NAMES = ("a", "b", "c")
A, B, C = (1, 8, 3), (4, 16, 3), (2, 32, 3)


def make_set(*shapes: Shape) -> ShapeSet:
    return ShapeSet(NAMES[: len(shapes)], shapes)


def make_inputs(*shapes: Any) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, "float32", shape) for name, shape in zip(NAMES, shapes, strict=False))


ONE = make_inputs((None, None, 3))
SEEN = [make_set(shape) for shape in (A, B, C, A)]


def make_segment(inputs: Sequence[TensorSpec]) -> SegmentRecord:
    return SegmentRecord("TRTEngineOp_000_000", "serving_default", 3, 1.0, tuple(inputs), (), ())


def choose(profiles: Sequence[ShapeSet], *request: Shape) -> int | None:
    """Which profile the runtime would run for these shapes; None: natively."""
    model = ModelRuntime((), (make_segment(make_inputs(*request)),), pathlib.Path())
    for number, shapes in enumerate(profiles):
        model.add_engine(Engine("", 0, shapes, "", "", "", "", (), (), str(number), "", 0, "", 0.0))
    found = next(model._tables[0].find_engines(request), None)
    return None if found is None else int(found.record.key)


# The static mode.


def test_eight_shapes_of_dynamic_input_shapes_test_make_six_engines() -> None:
    shapes = [
        (1, 5, 5, 1), (10, 5, 5, 1), (3, 5, 5, 1), (1, 5, 5, 1), (1, 3, 1, 1), (2, 9, 9, 1), (1, 224, 224, 1), (1, 128, 224, 1),
    ]  # fmt: skip
    planned = plan_static(map(make_set, shapes), make_inputs((None, None, None, 1)))
    assert [item.describe() for item in planned] == [
        "a=1x5x5x1", "a=1..10x5x5x1", "a=1x3x1x1", "a=1..2x9x9x1", "a=1x224x224x1", "a=1x128x224x1",
    ]  # fmt: skip
    assert choose(planned, (3, 5, 5, 1)) == 1  # request 3: the engine of batch 10
    assert choose(planned, (1, 5, 5, 1)) == 0  # request 4: the engine of batch 1


def test_each_request_of_the_worked_example_is_served_as_in_tf_trt() -> None:
    """But for the last row, where TF-TRT has thrown (2, 5) away for its bound of two engines."""
    inputs = make_inputs((None, None))
    built: list[ShapeSet] = []
    served: list[tuple[Shape, str]] = []
    for request in ((2, 5), (1, 5), (3, 5), (2, 5), (1, 7), (2, 5)):
        new = plan_static([make_set(request)], inputs, built)
        built += new
        which = choose(built, request)
        assert which is not None
        served.append((request, ("builds " if new else "") + built[which].describe()))
    assert served == [
        ((2, 5), "builds a=1..2x5"),
        ((1, 5), "a=1..2x5"),
        ((3, 5), "builds a=1..3x5"),
        ((2, 5), "a=1..2x5"),
        ((1, 7), "builds a=1x7"),
        ((2, 5), "a=1..2x5"),
    ]
    assert choose(built[1:], (2, 5)) == 0  # the last row: without the first engine, that of batch 3 serves


@pytest.mark.parametrize(
    ("shapes", "inputs"),
    [
        (((4, 3), ()), ((None, 3), ())),  # a scalar
        (((4, 3), (2, 3)), ((None, 3), (None, 3))),  # two batches
        (((4, 3),), ((4, 3),)),  # the model has it fixed
        (((4, 3), (4, 3)), ((None, 3), (4, 3))),
        (((1, 3),), ((None, 3),)),  # there is no smaller one
    ],
)
def test_what_has_no_batch_that_may_be_smaller_gets_its_exact_shapes(shapes: Any, inputs: Any) -> None:
    assert plan_static([make_set(*shapes)], make_inputs(*inputs)) == [make_set(*shapes)]


def test_two_inputs_have_one_batch() -> None:
    [planned] = plan_static([make_set((4, 3), (4, 5))], make_inputs((None, 3), (None, 5)))
    assert planned == ShapeSet(("a", "b"), ((1, 3), (1, 5)), ((4, 3), (4, 5)), one_batch=True)
    assert choose([planned], (2, 3), (2, 5)) == 0
    assert choose([planned], (2, 3), (3, 5)) is None


BATCH_SHAPES = st.lists(
    st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(4, 5)).map(lambda n: ((n[0], n[1]), (n[0], n[2]))),
    min_size=1, max_size=12,
)  # fmt: skip


@given(BATCH_SHAPES)
def test_static_engines_serve_exactly_what_tf_trt_s_rule_says(several: list[tuple[Shape, Shape]]) -> None:
    cached: list[tuple[Shape, Shape]] = []  # TF-TRT's cache, without a bound

    def find_fitting(request: tuple[Shape, Shape]) -> tuple[Shape, Shape] | None:
        fitting = [
            item for item in cached if item[0][0] >= request[0][0] and [s[1:] for s in item] == [s[1:] for s in request]
        ]
        return min(fitting, key=lambda item: item[0][0], default=None)

    for shapes in several:
        if find_fitting(shapes) is None:
            cached.append(shapes)
    planned = plan_static([make_set(*shapes) for shapes in several], make_inputs((None, None), (None, None)))
    assert [item.max_shapes or item.shapes for item in planned] == cached
    for batch, other, one, two in itertools.product(range(1, 11), (0, 1), range(1, 4), (4, 5)):
        request = ((batch, one), (batch + other, two))
        which = choose(planned, *request)
        wanted = None if other else find_fitting(request)
        assert (None if which is None else cached[which]) == wanted


# The dynamic mode.

P = {
    "Range": ["a=1..4x8..32x3"],
    "Optimal": ["a=1x8x3", "a=4x16x3", "a=2x32x3"],
    "Range+Optimal": ["a=1x8x3", "a=4x16x3", "a=2x32x3", "a=1..4x8..32x3"],
    "ImplicitBatchModeCompatible": ["a=1x8x3", "a=1..4x16x3", "a=1..2x32x3"],
}
REQUESTS = ((1, 8, 3), (4, 16, 3), (3, 20, 3), (3, 16, 3), (3, 32, 3), (5, 8, 3))
SERVED: dict[str, list[int | None]] = {
    "Range": [0, 0, 0, 0, 0, None],
    "Optimal": [0, 1, None, None, None, None],
    "Range+Optimal": [0, 1, 3, 3, 3, None],
    "ImplicitBatchModeCompatible": [0, 1, None, 1, None, None],
}


@pytest.mark.parametrize("strategy", PROFILE_STRATEGIES)
def test_the_table_of_profiles_and_of_what_serves_each_request(strategy: str) -> None:
    profiles = apply_strategy(strategy, SEEN, ONE)
    assert [item.describe() for item in profiles] == P[strategy]
    assert [choose(profiles, request) for request in REQUESTS] == SERVED[strategy]
    assert not any(item.one_batch for item in profiles)


def test_a_range_is_to_be_fastest_at_what_came_most_often_and_else_at_the_largest() -> None:
    [often] = apply_strategy("Range", SEEN, ONE)
    assert often.opt_shapes == (A,)
    [once] = apply_strategy("Range", SEEN[:3], ONE)
    assert once.opt_shapes == (B,)  # as many elements as C, and a larger batch: the first of the largest
    [largest] = apply_strategy("Range", [make_set((1, 8, 3)), make_set((2, 8, 3))], ONE)
    assert largest.opt_shapes == ()  # the largest is the default


def test_the_hull_of_two_inputs_admits_combinations_that_never_came() -> None:
    pairs = [make_set((1, 16), (2, 16)), make_set((2, 32), (4, 32)), make_set((4, 32), (8, 32))]
    profiles = apply_strategy("Range", pairs, make_inputs((None, None), (None, None)))
    assert [item.describe() for item in profiles] == ["a=1..4x16..32, b=2..8x16..32"]
    assert choose(profiles, (4, 16), (2, 32)) == 0
    assert choose(profiles, (4, 16), (1, 32)) is None


@pytest.mark.parametrize("strategy", ["Range", "Optimal", "Range+Optimal"])
def test_one_shape_alone_makes_one_engine_of_it(strategy: str) -> None:
    assert apply_strategy(strategy, [SEEN[1]] * 2, ONE) == [SEEN[1]]


def test_implicit_batch_leaves_what_the_model_fixes_and_scalars() -> None:
    inputs = make_inputs((None, 3), (8, 3), ())
    [profile] = apply_strategy("ImplicitBatchModeCompatible", [make_set((4, 3), (8, 3), ())], inputs)
    assert profile.describe() == "a=1..4x3, b=8x3, c=scalar"


@pytest.mark.parametrize("strategy", ["Range", "Range+Optimal"])
def test_sets_of_different_ranks_have_no_range_and_an_error_says_so(strategy: str) -> None:
    with pytest.raises(SampleError, match=r"BH122 a range cannot hold both a=1x3 and a=1x3x1.*ranks differ"):
        apply_strategy(strategy, [make_set((1, 3)), make_set((1, 3, 1))], ONE)


def test_sets_of_different_ranks_are_no_matter_where_each_has_a_profile_of_its_own() -> None:
    sets = [make_set((2, 3)), make_set((2, 3, 1))]
    assert apply_strategy("Optimal", sets, make_inputs(None)) == sets
    assert len(apply_strategy("ImplicitBatchModeCompatible", sets, make_inputs(None))) == 2
    assert len(plan_static(sets, make_inputs(None))) == 2


PAIRS = st.tuples(*[st.integers(1, 4)] * 4).map(lambda n: (n[:2], n[2:]))


@given(
    st.sampled_from(PROFILE_STRATEGIES), st.lists(PAIRS, min_size=1, max_size=6), st.lists(PAIRS | PAIRS, max_size=20)
)
def test_accept_sets_are_those_of_tf_trt(strategy: str, seen: list[Any], others: list[Any]) -> None:
    profiles = apply_strategy(strategy, [make_set(*shapes) for shapes in seen], make_inputs((None, None), (None, None)))
    assert len(set(profiles)) == len(profiles)
    for request in [*seen, *others]:
        flat = list(itertools.chain(*request))
        sets = [list(itertools.chain(*shapes)) for shapes in seen]
        is_seen = request in seen
        in_hull = all(min(dims) <= dim <= max(dims) for dim, *dims in zip(flat, *sets, strict=True))
        in_batch = any(
            s[0][0] >= request[0][0]
            and s[1][0] >= request[1][0]
            and (s[0][1], s[1][1]) == (request[0][1], request[1][1])
            for s in seen
        )
        wanted = {
            "Range": in_hull,
            "Optimal": is_seen,
            "Range+Optimal": in_hull,
            "ImplicitBatchModeCompatible": in_batch,
        }
        which = choose(profiles, *request)
        assert (which is not None) is wanted[strategy]
        if strategy == "Range+Optimal" and is_seen:
            assert which is not None
            assert not profiles[which].is_range


# Several segments, builds after builds, and what is refused.


def test_a_rule_is_applied_to_each_segment_by_itself() -> None:
    segments = [make_segment(ONE), make_segment(make_inputs((None, 7)))]
    seen = [(0, SEEN[0]), (1, make_set((2, 7))), (0, SEEN[1]), (1, make_set((8, 7)))]
    planned = plan_profiles(seen, Rule("Range"), segments, {})
    assert [(index, shapes.describe()) for index, shapes in planned] == [(0, "a=1..4x8..16x3"), (1, "a=2..8x7")]
    assert plan_profiles([*seen, *seen], Rule(EXACT), segments, {}) == seen


@pytest.mark.parametrize("rule", [STATIC, "Range", "ImplicitBatchModeCompatible"])
def test_what_fits_an_engine_is_not_built_again(rule: str) -> None:
    segments = [make_segment(make_inputs((None, 7)))]
    first = plan_profiles([(0, make_set((1, 7))), (0, make_set((8, 7)))], Rule(rule), segments, {})
    built = {0: [shapes for _, shapes in first]}
    assert plan_profiles([(0, make_set((1, 7))), (0, make_set((5, 7)))], Rule(rule), segments, built) == []
    again = plan_profiles([(0, make_set((9, 7)))], Rule(rule), segments, built)
    assert len(again) == 1


def test_an_optimum_has_an_engine_of_its_own_though_a_range_holds_it() -> None:
    segments = [make_segment(make_inputs((None, 7)))]
    built = {0: [ShapeSet(("a",), ((1, 7),), ((8, 7),))]}
    for rule in ("Optimal", "Range+Optimal"):
        seen = [(0, make_set((1, 7))), (0, make_set((5, 7)))]
        assert plan_profiles(seen, Rule(rule), segments, built) == seen


def test_sizes_that_depend_on_values_stay_free() -> None:
    free = ShapeSet(("a",), ((1, 7),), ((UNBOUNDED, 7),))
    segments = [make_segment(make_inputs((None, 7)))]
    for rule in (STATIC, *PROFILE_STRATEGIES, EXACT):
        assert [shapes for _, shapes in plan_profiles([(0, free), (0, free)], Rule(rule), segments, {})] == [free]


def refuse(shapes: ShapeSet, cause: str, rule: str, built: Sequence[ShapeSet] = ()) -> Any:
    spec = EngineSpec("TRTEngineOp_000_000", 0, "", (), (), shapes, "", "", "", "", (), "")
    seen = [
        (0, make_set((4, 6))),
        (1, make_set((3, 6))),
        (0, make_set((2, 6))),
        (0, make_set((4, 6))),
        (0, make_set((9, 6))),
    ]
    return replace_refused(spec, BuildError("no", cause=cause, why="its batch is 4"), Rule(rule), seen, built)


RANGED = ShapeSet(("a",), ((1, 6),), ((4, 6),))


@pytest.mark.parametrize(
    ("rule", "level"),
    [(STATIC, logging.INFO), ("ImplicitBatchModeCompatible", logging.INFO), ("Range", logging.WARNING)],
)
def test_instead_of_a_refused_range_the_seen_shapes_in_it_are_built_and_it_is_told(
    rule: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "beforehand"):
        assert refuse(RANGED, "range", rule) == [(0, make_set((4, 6))), (0, make_set((2, 6)))]
        assert refuse(RANGED, "failed", rule, [make_set((4, 6))]) == [(0, make_set((2, 6)))]
        assert refuse(RANGED, "range", rule, [make_set((4, 6)), make_set((2, 6))]) == []
    assert [record.levelno for record in caplog.records] == [level] * 3
    assert "TRTEngineOp_000_000 has no engine for the range a=1..4x6" in caplog.text
    assert "its batch is 4" in caplog.text


def test_nothing_stands_in_for_what_was_named_or_would_fail_again() -> None:
    assert refuse(RANGED, "range", EXACT) is None
    assert refuse(make_set((4, 6)), "failed", STATIC) is None
    assert refuse(RANGED, "timeout", STATIC) is None
    assert refuse(RANGED, "killed", "Range") is None


def test_the_rule_follows_from_the_options_unless_the_ranges_are_named() -> None:
    plain = {"buckets": None, "has_profiles": False, "batch_range": False}
    dynamic = Options(use_dynamic_shape=True, dynamic_shape_profile_strategy="Optimal", serve_smaller_batches=True)
    assert choose_rule(Options(), **plain) == Rule(EXACT)
    assert choose_rule(Options(serve_smaller_batches=True), **plain) == Rule(STATIC)
    assert choose_rule(dynamic, **plain) == Rule("Optimal")
    assert choose_rule(dynamic, **{**plain, "has_profiles": True}) == Rule(EXACT)
    assert choose_rule(dynamic, **{**plain, "batch_range": True}) == Rule(EXACT)
    assert choose_rule(dynamic, **{**plain, "buckets": {"max_spread": 2}}).name == "buckets"
