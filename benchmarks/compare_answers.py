"""How far answers are from those of TensorFlow in float32."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def compare_answers(found: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, float]:
    """The largest difference and the largest value expected, and the norm of the difference beside that of the answer.

    Of several outputs those of the one with the largest relative norm. NaN is never lost: it compares as the worst.
    """
    worst = {"largest": 0.0, "of": 0.0, "norm": -1.0}
    for name, reference in expected.items():
        value, wanted = np.asarray(found[name], np.float64), np.asarray(reference, np.float64)
        difference = value - wanted
        norm = float(np.linalg.norm(difference) / np.linalg.norm(wanted))
        if not norm <= worst["norm"]:
            worst = {"largest": float(np.abs(difference).max()), "of": float(np.abs(wanted).max()), "norm": norm}
            if np.isnan(norm):
                break
    return worst
