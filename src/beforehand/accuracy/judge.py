"""What is too inaccurate: over the budget, or worth a warning where there is none."""

from __future__ import annotations

from beforehand.accuracy.compare_outputs import SMALLEST_MAGNITUDE
from beforehand.records import Accuracy

# Of FP32 engines with no budget given, by measurement (docs/accuracy.md): a wrong translation is beyond it, the noise of models
# that magnify rounding is not.
DEFAULT_MAX_ERROR = {"FP32": 0.1}
# Of all engines where `precision_mode="auto"` may choose another. Of trained models in INT8 (docs/precision.md) those that lost nothing
# were off by 0.08 and 0.09 at most, the one that lost 2 points by 0.31, with a cosine of 0.95.
AUTO_MAX_ERROR = 0.1
LEAST_COSINE = 0.99
LEAST_TOP1 = 0.99
MOST_UNEQUAL = 0.01
# Below it an output has nothing to do with TensorFlow's, whatever the precision: seen of INT8 on backends that compute it wrongly.
# ResNet50 with random weights, whose answers rounding alone decides, had 0.66 in FP16.
LEAST_RELATED = 0.25


def find_budget(max_error: float | None, precision: str) -> float | None:
    """The budget of an engine: the user's, else that of its precision; None if it has none."""
    return max_error if max_error is not None else DEFAULT_MAX_ERROR.get(precision)


def find_excess(accuracy: Accuracy | None, budget: float | None) -> str:
    """Why an engine may not be used; empty if it may. What was not compared may."""
    if accuracy is None:
        return ""
    if accuracy.lost:
        return f"{accuracy.lost} values are NaN, infinite or missing where TensorFlow's are not"
    if budget is not None and accuracy.max_rel > budget:
        return f"it is off by {accuracy.max_rel:.2g} of the largest magnitude of an output, and may be by {budget:g}"
    return _find_unrelated(accuracy) if budget is None else ""


def _find_unrelated(accuracy: Accuracy) -> str:
    """The output of an engine without a budget that is another than TensorFlow's altogether."""
    for output in accuracy.outputs:
        is_all_zeros = output.max_abs <= output.max_rel * SMALLEST_MAGNITUDE  # TensorFlow's, which have no direction
        if output.unequal is None and output.cosine < LEAST_RELATED and not is_all_zeros:
            return f"{output.name} has nothing to do with TensorFlow's: cosine {output.cosine:.4f}"
    return ""


def find_doubts(accuracy: Accuracy | None) -> tuple[str, ...]:
    """What a user should look at, output by output."""
    return tuple(
        f"{output.name}: cosine {output.cosine:.4f}"
        + (f", top-1 the same in {100 * output.top1:.1f}%" if output.top1 is not None else "")
        + (f", {100 * output.unequal:.1f}% of whole numbers not equal" if output.unequal is not None else "")
        for output in (accuracy.outputs if accuracy is not None else ())
        if (output.cosine < LEAST_COSINE and output.unequal is None)
        or (output.top1 is not None and output.top1 < LEAST_TOP1)
        or (output.unequal is not None and output.unequal > MOST_UNEQUAL)
    )


def find_auto_excess(accuracy: Accuracy | None, max_error: float | None) -> str:
    """Why `precision_mode="auto"` may not take an engine; empty if it may.

    Without a budget of the user's the cosine of each output counts too, and whole numbers that are not equal. Top-1 does not: of the
    few rows of a comparison it is all or nothing.
    """
    if accuracy is None or not accuracy.outputs:
        return f"not compared: {accuracy.not_compared if accuracy is not None else 'nobody tried'}"
    excess = find_excess(accuracy, max_error or AUTO_MAX_ERROR)
    if excess or max_error:
        return excess
    for output in accuracy.outputs:
        if output.unequal is None and output.cosine < LEAST_COSINE:
            return (
                f"the cosine of its output {output.name} with TensorFlow's is {output.cosine:.4f}, below {LEAST_COSINE}"
            )
        if output.unequal is not None and output.unequal > MOST_UNEQUAL:
            return f"{100 * output.unequal:.1f}% of the whole numbers of its output {output.name} are not TensorFlow's"
    return ""
