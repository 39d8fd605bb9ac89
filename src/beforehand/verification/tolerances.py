"""How far an engine of each precision may be off, and why so far."""

from __future__ import annotations

import dataclasses

from beforehand.accuracy.judge import MOST_UNEQUAL
from beforehand.records import OutputAccuracy

# Largest difference from the reference by the largest magnitude of the output. Finest first. Each is about twice the worst that engines
# which compute rightly were off by in measurements (docs/verify.md), and far below what a wrong one is off by: the output's own size.
TOLERANCES = {
    "FP32": 1e-3,  # ResNet-50 4.6e-4; most models 1e-6 to 1e-5
    "TF32": 1e-2,  # its products have the 11 bits of FP16
    "FP16": 1e-2,  # an MLP 4e-3; 11 bits are 5e-4 a rounding
    "BF16": 4e-2,  # BERT's pooled output 1.8e-2, ViT 7.5e-3; 8 bits are 4e-3 a rounding
    "INT8": 0.15,  # trained encoder 0.086 and CNN 0.076, which lost nothing; 0.31 lost 2.4 points
}
# Where a model magnifies rounding, TensorFlow's own float32 is off too: an engine in FP32 may be by so many times that.
FLOAT32_FACTOR = 8.0


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Whether one output is right: `tolerance` is what `max_rel` may be; `why` is empty if it is."""

    tolerance: float
    why: str

    @property
    def is_right(self) -> bool:
        """Whether it is."""
        return not self.why


def find_coarsest(precisions: tuple[str, ...]) -> str:
    """Of several precisions the one with the largest tolerance; FP32 for none."""
    return max(precisions, key=lambda name: TOLERANCES.get(name, 0.0), default="FP32")


def judge_output(
    found: OutputAccuracy, precision: str, native: OutputAccuracy | None = None, tolerance: float | None = None
) -> Judgement:
    """Judge one output.

    Args:
        found: How it differs from the reference.
        precision: The coarsest of the engines that made it.
        native: How TensorFlow's own float32 differs.
        tolerance: Instead of the precision's.
    """
    allowed = TOLERANCES.get(precision, TOLERANCES["FP32"]) if tolerance is None else tolerance
    if tolerance is None and native is not None and native.unequal is None:
        allowed = max(allowed, FLOAT32_FACTOR * native.max_rel)
    if found.lost:
        return Judgement(allowed, f"{found.lost} values are NaN, infinite or missing that TensorFlow has")
    if found.unequal is not None:
        unequal = max(MOST_UNEQUAL, native.unequal or 0.0) if native is not None else MOST_UNEQUAL
        told = f"{100 * found.unequal:.1f}% of whole numbers are not equal" if found.unequal > unequal else ""
        return Judgement(unequal, told)
    told = f"off by {found.max_rel:.1e}, may be by {allowed:.1e}" if not found.max_rel <= allowed else ""
    return Judgement(allowed, told)
