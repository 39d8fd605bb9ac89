"""Profiles named outright: of each input the smallest, the best and the largest shape, checked against the signature."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from beforehand.errors import NoSamplesError, SampleError
from beforehand.records import Shape, Signature, TensorSpec, describe_shape
from beforehand.saved_model.read_shapes import make_zeros
from beforehand.saved_model.sample_range import SampleRange

_ENDS = ("min", "opt", "max")
_ADVICE = '{"x": ((1, 8), (4, 16), (8, 32))}, which are the smallest, the best and the largest shape, or {"x": {"min": ..., "max": ...}}'
Shapes = dict[str, Shape]


def read_profiles(profiles: Any, signature: Signature) -> Iterator[SampleRange]:
    """The ends of each profile as samples of zeros; all profiles are checked by the call itself.

    Args:
        profiles: An iterable of profiles, or one: a mapping from input names to (min, opt, max), or to a mapping with
            these keys, of which `opt` may be missing (then it is `max`). Every input of the signature has one.
        signature: What the profiles are for.

    Raises:
        SampleError: BH122, with the profile, the input, the dimension and why.
        NoSamplesError: BH121, there is no profile.
    """
    several = [profiles] if isinstance(profiles, Mapping) else list(profiles)
    if not several:
        raise NoSamplesError("profiles has no profile", advice=f"a list such as [{_ADVICE}]")
    checked = [_check_profile(item, signature, f"profile {number}") for number, item in enumerate(several, 1)]
    return (_make_range(low, opt, high, signature) for low, opt, high in checked)


def _make_range(low: Shapes, opt: Shapes, high: Shapes, signature: Signature) -> SampleRange:
    smallest = make_zeros(low, signature)
    return SampleRange(smallest, smallest if low == high else make_zeros(high, signature), opt)


def _check_profile(item: Any, signature: Signature, where: str) -> tuple[Shapes, Shapes, Shapes]:
    names = [spec.name for spec in signature.inputs]
    if not isinstance(item, Mapping):
        raise SampleError(f"{where} is {item!r}, no mapping from input names to shapes", advice=_ADVICE)
    missing, extra = [name for name in names if name not in item], [name for name in item if name not in names]
    if missing or extra:
        told = [f"it has no {name!r}" for name in missing] + [f"there is no input {name!r}" for name in extra]
        raise SampleError(
            f"{where} does not have the inputs of signature {signature.key}",
            why="; ".join(told),
            advice=f"a mapping for these inputs: {signature.describe_inputs()}",
        )
    ends = {spec.name: _check_input(_read_ends(item[spec.name], spec, where), spec, where) for spec in signature.inputs}
    low, opt, high = ({name: shapes[place] for name, shapes in ends.items()} for place in range(3))
    return low, opt, high


def _read_ends(given: Any, spec: TensorSpec, where: str) -> tuple[Shape, Shape, Shape]:
    """The three shapes of one input, in whichever form."""
    try:
        if isinstance(given, Mapping):
            if not {"min", "max"} <= set(given) <= set(_ENDS):
                raise ValueError(f"its keys are {', '.join(map(repr, given))}")  # noqa: TRY301 (told below, as the others)
            given = (given["min"], given.get("opt", given["max"]), given["max"])
        low, opt, high = (tuple(operator.index(dim) for dim in shape) for shape in given)
    except (TypeError, ValueError) as error:
        raise SampleError(
            f"{where} has {given!r} for the input `{spec.name}`",
            why=f"that is not min, opt and max: {error}",
            advice=_ADVICE,
        ) from error
    return low, opt, high


def _check_input(ends: tuple[Shape, Shape, Shape], spec: TensorSpec, where: str) -> tuple[Shape, Shape, Shape]:
    low, opt, high = ends
    told = ", ".join(f"{name} {describe_shape(shape)}" for name, shape in zip(_ENDS, ends, strict=True))
    problem = _find_problem(low, opt, high, spec)
    if problem:
        raise SampleError(
            f"{where} does not fit the input `{spec.name}`: {told}",
            why=problem,
            advice=f"min <= opt <= max in each dimension, for {spec.describe()}",
        )
    return ends


def _find_problem(low: Shape, opt: Shape, high: Shape, spec: TensorSpec) -> str:
    if not len(low) == len(opt) == len(high):
        return f"their ranks are {len(low)}, {len(opt)} and {len(high)}"
    if spec.shape is not None and len(spec.shape) != len(low):
        return f"the input has {len(spec.shape)} dimensions, the profile {len(low)}"
    known: Sequence[int | None] = spec.shape or (None,) * len(low)
    for place, (a, b, c, dim) in enumerate(zip(low, opt, high, known, strict=True)):
        if a < 1:
            return f"dimension {place} begins at {a}, and no engine is built for empty tensors"
        if not a <= b <= c:
            return f"dimension {place} is {a}, {b}, {c}, which does not rise"
        if dim is not None and (a, c) != (dim, dim):
            return f"dimension {place} is {dim} in the model, and {a} to {c} in the profile"
    return ""
