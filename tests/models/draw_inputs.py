"""How the values of a model's inputs are drawn: said once by its maker, as plain JSON data, and obeyed by both processes after.

The functions that a maker calls (`uniform`, `integers`, `booleans`, `text`, `mask`, `rows_of`, `splits_of`) return the data;
`draw_inputs` draws.
"""

import pathlib

import numpy as np


def uniform(high=1.0, low=0.0, dtype="float32", *, decides=False):
    """Floating-point numbers in [low, high); they may decide which way the model takes."""
    return {"kind": "uniform", "low": low, "high": high, "dtype": dtype, "decides": decides}


def integers(low, high, dtype="int32"):
    """Whole numbers in [low, high)."""
    return {"kind": "integers", "low": low, "high": high, "dtype": dtype}


def booleans():
    """Each value with the same chance."""
    return {"kind": "booleans", "dtype": "bool"}


def text(*choices):
    """Each element is one of the choices."""
    return {"kind": "text", "choices": choices, "dtype": "string"}


def mask(dtype="int32"):
    """Along the last axis ones, then zeros; at least one of each where there is room, and in each row another number of them."""
    return {"kind": "mask", "dtype": dtype}


def rows_of(file, name):
    """Rows, drawn with repeats, of the array `name` in an .npz file that the maker wrote beside the model."""
    return {"kind": "rows", "file": file, "name": name}


def splits_of(name):
    """Where each row of a ragged tensor starts and the last one ends; its values are the input `name`, no row is empty."""
    return {"kind": "splits", "of": name}


def is_plain(spec):
    """Whether zeros say as much as real values: nothing but floating-point numbers reaches the model by it."""
    return spec["kind"] == "uniform" and not spec["decides"]


def draw_inputs(specs, shapes, rng, folder):
    """An array for each input of `shapes`; `folder` is where the makers' own files lie."""
    arrays = {}
    for name, shape in shapes.items():
        if specs[name]["kind"] == "splits":
            arrays[name] = _draw_splits(shapes[specs[name]["of"]][0], shape[0], rng)
        else:
            arrays[name] = _draw(specs[name], shape, rng, pathlib.Path(folder))
    return arrays


def _draw_splits(values, splits, rng):
    inner = rng.choice(np.arange(1, values), splits - 2, replace=False)
    return np.array([0, *sorted(inner), values], np.int64)


def _draw(spec, shape, rng, folder):
    kind = spec["kind"]
    if kind == "uniform":
        return rng.uniform(spec["low"], spec["high"], shape).astype(spec["dtype"])
    if kind == "integers":
        return rng.integers(spec["low"], spec["high"], shape).astype(spec["dtype"])
    if kind == "booleans":
        return rng.integers(0, 2, shape).astype(bool)
    if kind == "text":
        return np.array([choice.encode() for choice in spec["choices"]], object)[
            rng.integers(0, len(spec["choices"]), shape)
        ]
    if kind == "mask":
        lengths = rng.integers(1, max(2, shape[-1]), (*shape[:-1], 1))
        return (np.arange(shape[-1]) < lengths).astype(spec["dtype"])
    if kind == "rows":
        rows = np.load(folder / spec["file"])[spec["name"]]
        count = shape[: len(shape) + 1 - rows.ndim]  # () for one row alone
        assert list(rows.shape[1:]) == list(shape[len(count) :]), (
            f"{spec['name']} has rows of {rows.shape[1:]}: {shape}"
        )
        return rows[rng.integers(0, len(rows), count)]
    raise ValueError(f"nobody can draw {kind}")
