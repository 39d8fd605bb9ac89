"""How the engines of a model compare with TensorFlow, in one line."""

from __future__ import annotations

from collections.abc import Sequence

from beforehand.records import Accuracy, Engine


def summarize_accuracy(engines: Sequence[Engine]) -> str:
    """How many were compared, and the worst of them; why others were not. Empty where nobody tried."""
    tried = [(engine, engine.accuracy) for engine in engines if engine.accuracy is not None]
    if not tried:
        return ""
    compared = [(engine, accuracy) for engine, accuracy in tried if accuracy.outputs]
    told = f"{len(compared)} of {len(engines)} engines compared with TensorFlow"
    if compared:
        engine, accuracy = max(compared, key=lambda pair: _rank(pair[1]))
        drawn = " on inputs drawn at random" if accuracy.is_drawn else ""
        told += f"{drawn}; the worst, {engine.segment} for {engine.shapes.describe()}, is {accuracy.describe()}"
    reasons = dict.fromkeys(accuracy.not_compared for _, accuracy in tried if not accuracy.outputs)
    return told + "".join(f"; not compared: {reason}" for reason in reasons)


def _rank(accuracy: Accuracy) -> tuple[int, float]:
    return accuracy.lost, accuracy.max_rel
