"""Check one sample, in any of its forms, against a signature, and put it into the one form that the library uses."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from beforehand.errors import SampleError
from beforehand.records import Signature, TensorSpec, describe_shape
from beforehand.saved_model.cast_value import Misfit, cast_array, find_shape_misfit, is_array, read_value

Sample: TypeAlias = Mapping[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class NamedValues:
    """What was given, by input name, before it is read; `extra` fits no input; `misfits` concern names and count."""

    values: Mapping[str, Any]
    extra: tuple[tuple[str, Any], ...] = ()
    misfits: tuple[Misfit, ...] = ()


def check_sample(item: Any, signature: Signature, where: str) -> Sample:
    """`item` as arrays by input name, in the order of `signature`, with its dtypes.

    Forms: a dict by name, in any order; a list or tuple in the order of the signature; for one input also the bare
    value. A value is an array, a tensor, a Python number or text, or a nested list of these. For one input a *list* of
    plain numbers is the value itself, unless it has one element and that element has the rank of the input; a *tuple*
    always holds one value for each input.

    Args:
        item: What was given as one sample.
        signature: What it has to fit.
        where: How messages call the sample, such as `sample 1` or a file.

    Raises:
        SampleError: BH122; the text has every input as expected and as given.
    """
    named = _name_values(item, signature)
    misfits = list(named.misfits)
    arrays: dict[str, npt.NDArray[Any]] = {}
    # With wrong names or a wrong count nobody knows which value was meant for which input.
    for spec in () if misfits else signature.inputs:
        fitted = _fit_value(named.values[spec.name], spec)
        if isinstance(fitted, np.ndarray):
            arrays[spec.name] = fitted
        else:
            misfits.extend(fitted)
    if misfits:
        raise _write_error(misfits, named, signature, where)
    return arrays


def _fit_value(value: Any, spec: TensorSpec) -> npt.NDArray[Any] | list[Misfit]:
    given = read_value(value)
    cast = cast_array(given, spec.dtype)
    misfits = [cast] if isinstance(cast, Misfit) else []
    shape_misfit = None if given.array is None else find_shape_misfit(given.array.shape, spec)
    if shape_misfit:
        misfits.insert(0, shape_misfit)
    if misfits or isinstance(cast, Misfit):
        return [dataclasses.replace(misfit, problem=f"input `{spec.name}` {misfit.problem}") for misfit in misfits]
    return cast


def _name_values(item: Any, signature: Signature) -> NamedValues:
    if isinstance(item, (list, tuple)) and len(item) == 1 and isinstance(item[0], Mapping):
        item = item[0]  # a comma too much, as in `yield {"x": x},`
    if isinstance(item, Mapping):
        return _take_names(item, [spec.name for spec in signature.inputs])
    return _take_positions(_list_values(item, signature.inputs), signature.inputs)


def _take_names(item: Mapping[Any, Any], names: Sequence[str]) -> NamedValues:
    missing = [name for name in names if name not in item]
    extra = [key for key in item if key not in names]
    advice = "the names of the inputs: " + ", ".join(names)
    misfits = [Misfit(f"input `{name}` is missing", advice) for name in missing]
    # An input that was given is not what a wrong name stands for, so missing ones come first.
    misfits += [Misfit(f"there is no input `{key}`" + _guess_name(str(key), missing or names), advice) for key in extra]
    values = {name: item[name] for name in names if name in item}
    return NamedValues(values, tuple((str(key), item[key]) for key in extra), tuple(misfits))


def _guess_name(given: str, names: Iterable[str]) -> str:
    known = {name.lower(): name for name in names}
    near = difflib.get_close_matches(given.lower(), known, n=1, cutoff=0.5)
    return f" (did you mean `{known[near[0]]}`?)" if near else ""


def _list_values(item: Any, inputs: Sequence[TensorSpec]) -> list[Any]:
    if not isinstance(item, (list, tuple)):
        return [item]
    if isinstance(item, list) and len(inputs) == 1 and _is_one_value(item, inputs[0]):
        return [item]
    return list(item)


def _is_one_value(item: list[Any], spec: TensorSpec) -> bool:
    array = read_value(item).array
    if array is None:
        return False
    # [5.0] is one value for a scalar input, and the value itself for a vector: the rank decides.
    return len(item) != 1 or (spec.shape is not None and array.ndim == len(spec.shape))


def _take_positions(values: list[Any], inputs: Sequence[TensorSpec]) -> NamedValues:
    named = {spec.name: value for spec, value in zip(inputs, values, strict=False)}
    extra = tuple((f"value {index}", values[index]) for index in range(len(inputs), len(values)))
    is_nested = len(values) > 1 and _holds_arrays(values[0])
    if len(values) == len(inputs) and not is_nested:
        return NamedValues(named)
    problem = f"{_count(len(values), 'value')} given for {_count(len(inputs), 'input')}"
    if is_nested:
        problem += f", the first of which is itself a {type(values[0]).__name__} of arrays"
    advice = _advise_form(inputs)
    if len(values) > 1 and (is_nested or len(inputs) == 1):
        taken = "x, y" if len(values) == 2 else "x, *_"
        advice = f"without labels, if these are (input, label) of a training set: `dataset.map(lambda {taken}: x)`"
    return NamedValues(named, extra, (Misfit(problem, advice),))


def _holds_arrays(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, (list, tuple)) and any(map(is_array, value)))


def _advise_form(inputs: Sequence[TensorSpec]) -> str:
    names = ", ".join(spec.name for spec in inputs)
    by_name = ", ".join(f"'{spec.name}': ..." for spec in inputs)
    return f"`({names}{',' if len(inputs) == 1 else ''})` in this order, or `{{{by_name}}}` in any order"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _write_error(misfits: list[Misfit], named: NamedValues, signature: Signature, where: str) -> SampleError:
    lines = []
    for spec in signature.inputs:
        given = read_value(named.values[spec.name]).text if spec.name in named.values else "nothing"
        lines.append(f"  {spec.name}: expected {spec.dtype} {describe_shape(spec.shape)}, given {given}\n")
    lines += [f"  {name}: expected no such input, given {read_value(value).text}\n" for name, value in named.extra]
    problems = "; ".join(misfit.problem for misfit in misfits)
    advice = "; ".join(dict.fromkeys(misfit.advice for misfit in misfits if misfit.advice))
    what = f"{where} does not fit signature `{signature.key}`: {problems}. Inputs in order:\n{''.join(lines)}"
    return SampleError(what, advice=advice)
