"""The texts of `--shapes` as shape sets, for each signature that they fit. Pure functions; nothing is read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence

from beforehand.errors import OptionValueError, SampleError
from beforehand.records import Signature, TensorSpec, describe_range

# A dimension is a size, or the smallest and the largest of a range.
Dims = tuple["int | tuple[int, int]", ...]
# Input name to shape: all inputs, or those of one occurrence of the option.
Shapes = dict[str, Dims]

_EXAMPLE = "--shapes x=1x224x224x3, or for two inputs --shapes a=1x3,b=1x5"
_SHAPE = re.compile(r"[0-9]+(\.\.[0-9]+)?(x[0-9]+(\.\.[0-9]+)?)*")
_SCALAR = "scalar"


def parse_shapes(texts: Sequence[str], signatures: Sequence[Signature]) -> dict[str, list[Shapes]]:
    """Of each signature that some text fits, the shape sets to build for, in the order given.

    A text names one input or several (`a=1x3,b=1x5`). For each signature, the texts that fit it are put together in
    their order until every input has a shape: so a text with all inputs is a set by itself, as is each text for a
    signature of one input, and texts of one input each make a set together. Every text must be in some set.

    Example:
        >>> spec = TensorSpec("x", "float32", (None, 3))
        >>> parse_shapes(["x=1x3", "x=8x3"], [Signature("serving_default", (spec,), ())])
        {'serving_default': [{'x': (1, 3)}, {'x': (8, 3)}]}

    Args:
        texts: What `--shapes` was given, each time.
        signatures: Those to build for, the default one first.

    Raises:
        OptionValueError: BH102, a text is no shape.
        SampleError: BH122, an input that no signature has, or an input without a shape.
    """
    chosen: dict[str, dict[int, Shapes]] = {}
    for number, shapes in enumerate(map(parse_text, texts)):
        for signature in _find_signatures(shapes, signatures):
            chosen.setdefault(signature.key, {})[number] = shapes
    sets: dict[str, list[Shapes]] = {}
    unfinished: dict[int, SampleError] = {}
    used: set[int] = set()
    for signature in signatures:
        for numbers, joined in _join_texts(chosen.get(signature.key, {}), len(signature.inputs)):
            if len(joined) == len(signature.inputs):
                sets.setdefault(signature.key, []).append({spec.name: joined[spec.name] for spec in signature.inputs})
                used |= numbers
            else:
                unfinished = {**dict.fromkeys(numbers, _refuse_missing(joined, signature)), **unfinished}
    for number in range(len(texts)):
        if number not in used:
            raise unfinished[number]
    return sets


def parse_text(text: str) -> Shapes:
    """The shapes in one text, such as `a=1x3,b=1x5`; `b=scalar` is a shape without dimensions, `1..8x3` a range of them.

    Raises:
        OptionValueError: BH102.
    """
    shapes: Shapes = {}
    for part in text.split(","):
        name, sign, dims = part.strip().rpartition("=")
        name, dims = name.strip(), dims.strip()
        if not sign or not name:
            raise _refuse_text(
                text, f"{part.strip()!r} is no INPUT=SHAPE; dimensions are joined by x, inputs by commas"
            )
        if name in shapes:
            raise _refuse_text(text, f"it has two shapes for the input `{name}`")
        shapes[name] = _parse_dims(dims, name, text)
    return shapes


def format_shapes(shapes: Mapping[str, Dims]) -> str:
    """The text that `parse_text` reads as `shapes`."""
    ends = {name: [[_find_end(dim, end) for dim in shape] for end in (0, 1)] for name, shape in shapes.items()}
    return ",".join(f"{name}={describe_range(low, high)}" for name, (low, high) in ends.items())


def _find_end(dim: int | tuple[int, int], end: int) -> int:
    return dim if isinstance(dim, int) else dim[end]


def _parse_dims(dims: str, name: str, text: str) -> Dims:
    if dims == _SCALAR:
        return ()
    if not _SHAPE.fullmatch(dims):
        open_dim = re.search(r"\?|-1|None", dims)
        why = f"{dims!r} is no shape for the input `{name}`"
        raise _refuse_text(text, f"{why}: an engine is built for fixed sizes" if open_dim else why)
    shape = tuple(map(_parse_dim, dims.split("x")))
    if any(_find_end(dim, 0) == 0 for dim in shape):
        raise _refuse_text(text, f"the input `{name}` would be empty, and no engine is built for that")
    if any(_find_end(dim, 0) > _find_end(dim, 1) for dim in shape):
        raise _refuse_text(text, f"a range of the input `{name}` ends below its start")
    return shape


def _parse_dim(text: str) -> int | tuple[int, int]:
    low, _, high = text.partition("..")
    return int(low) if int(high or low) == int(low) else (int(low), int(high))


def _refuse_text(text: str, why: str) -> OptionValueError:
    return OptionValueError(f"--shapes is {text!r}", why=why, advice=_EXAMPLE)


def _find_signatures(shapes: Shapes, signatures: Sequence[Signature]) -> list[Signature]:
    """The signatures that have these inputs with such shapes; else the first with the names: `build` refuses."""
    named = [signature for signature in signatures if set(shapes) <= {spec.name for spec in signature.inputs}]
    if not named:
        raise _refuse_names(shapes, signatures)
    fitting = [signature for signature in named if all(_fits(shapes, spec) for spec in signature.inputs)]
    return fitting or named[:1]


def _fits(shapes: Shapes, spec: TensorSpec) -> bool:
    shape = shapes.get(spec.name)
    if shape is None or spec.shape is None:
        return True
    return len(shape) == len(spec.shape) and all(
        a in (None, b) for a, b in zip(spec.shape, shape, strict=True)
    )  # a range fits None


def _refuse_names(shapes: Shapes, signatures: Sequence[Signature]) -> SampleError:
    known = {spec.name: None for signature in signatures for spec in signature.inputs}
    unknown = [name for name in shapes if name not in known]
    listing = "; ".join(f"{signature.key}: {signature.describe_inputs()}" for signature in signatures)
    if not unknown:
        return SampleError(
            f"no signature has all the inputs of --shapes {format_shapes(shapes)!r}", advice=f"the inputs: {listing}"
        )
    near = difflib.get_close_matches(unknown[0].lower(), {name.lower(): name for name in known}, n=1, cutoff=0.5)
    guess = next(f"did you mean `{name}`? " for name in known if name.lower() == near[0]) if near else ""
    return SampleError(
        f"there is no input `{unknown[0]}`, given as --shapes {format_shapes(shapes)!r}",
        advice=f"{guess}The inputs are {listing}",
    )


def _join_texts(parts: Mapping[int, Shapes], size: int) -> Iterator[tuple[set[int], Shapes]]:
    """Shapes put together until there are `size` of them, or an input comes again; with the numbers of their texts."""
    numbers: set[int] = set()
    joined: Shapes = {}
    for number, part in parts.items():
        if joined and (len(joined) == size or set(part) & set(joined)):
            yield numbers, joined
            numbers, joined = set(), {}
        numbers, joined = {*numbers, number}, {**joined, **part}
    if joined:
        yield numbers, joined


def _refuse_missing(joined: Shapes, signature: Signature) -> SampleError:
    missing = ", ".join(f"`{spec.name}`" for spec in signature.inputs if spec.name not in joined)
    return SampleError(
        f"--shapes {format_shapes(joined)!r} has no shape for {missing}",
        why=f"signature {signature.key} takes {signature.describe_inputs()}",
        advice="all inputs of one shape set in one text, joined by commas",
    )
