"""Polynomials of values: what a chain of sums and products computes, in whatever order it was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

# By monomials: the sorted letters of the variables, "" for the constant term. Coefficients broadcast.
Polynomial = Mapping[str, "np.ndarray[Any, Any]"]


def add(left: Polynomial | None, right: Polynomial | None) -> Polynomial | None:
    """The sum; None where a term is no polynomial, or the coefficients' shapes have nothing to do with each other."""
    if left is None or right is None:
        return None
    zero = np.zeros((), np.float32)
    try:
        return {key: np.add(left.get(key, zero), right.get(key, zero)) for key in {**left, **right}}
    except ValueError:
        return None


def multiply(left: Polynomial | None, right: Polynomial | None, most_factors: int) -> Polynomial | None:
    """The product; None in the same cases, and where a monomial has more factors than anybody looks for."""
    if left is None or right is None:
        return None
    product: dict[str, Any] = {}
    try:
        for a, x in left.items():
            for b, y in right.items():
                key = "".join(sorted(a + b))
                product[key] = np.add(product.get(key, np.float32(0)), np.multiply(x, y))
    except ValueError:
        return None
    return product if all(len(key) <= most_factors for key in product) else None
