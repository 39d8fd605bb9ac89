"""What the comparison at the conversion found, for engines that are built of a saved model, where nobody can compare again."""

from __future__ import annotations

import dataclasses

from beforehand.backends.protocol import Backend
from beforehand.errors import PrecisionError
from beforehand.records import Engine, EngineSpec, Manifest, ShapeSet

_EXACT = "FP32"
# Made of one graph: what is put back in one has the same names in the other.
_HALVES = ("FP16", "BF16")


def follow_healed(spec: EngineSpec, manifest: Manifest, backend: Backend) -> EngineSpec:
    """With what was put back to a higher precision in the segment's engine for the same shapes, else in one for others.

    Where parts were put back in one half precision and the target would take the other, which is wrong in other places: the
    one that was compared, if the target has it; else the same parts are put back, and `find_uncompared` tells.
    """
    found = list_nearest(manifest, spec.segment_index, spec.shapes)
    if any(engine.precision == _EXACT and engine.backend == spec.backend for engine in found):
        return dataclasses.replace(spec, precision=_EXACT)
    healed = [engine for engine in found if engine.kept]
    same = [engine for engine in healed if engine.precision == spec.precision]
    if not same and spec.precision in _HALVES:
        same = [engine for engine in healed if engine.precision in _HALVES]
        if same and _has(backend, same[0].precision, spec.target):
            spec = dataclasses.replace(spec, precision=same[0].precision)
    return dataclasses.replace(spec, kept=same[0].kept if same else ())


def list_nearest(manifest: Manifest, segment: int, shapes: ShapeSet) -> list[Engine]:
    """The segment's engines for these shapes, else all of it."""
    engines = _list_engines(manifest, segment)
    return [engine for engine in engines if engine.shapes == shapes] or engines


def _list_engines(manifest: Manifest, segment: int) -> list[Engine]:
    return [engine for engine in manifest.engines if engine.segment_index == segment]


def find_uncompared(spec: EngineSpec, manifest: Manifest) -> str:
    """Why nothing is known of an engine's errors, though engines of its segment were compared; empty where that does not hold."""
    if spec.precision == _EXACT:
        return ""
    compared = _list_compared(manifest, spec.segment_index)
    if not compared or spec.precision in compared:
        return ""
    return f"it runs in {spec.precision}; at the conversion engines of {spec.segment} were compared in {', '.join(compared)}"


def has_budget(spec: EngineSpec, manifest: Manifest) -> bool:
    """Whether somebody has set a budget for errors, or parts of the segment were put back for theirs."""
    engines = _list_engines(manifest, spec.segment_index)
    return dict(manifest.options).get("max_error") is not None or any(engine.kept for engine in engines)


def _list_compared(manifest: Manifest, segment: int) -> list[str]:
    engines = _list_engines(manifest, segment)
    return sorted({engine.precision for engine in engines if engine.accuracy is not None and engine.accuracy.outputs})


def _has(backend: Backend, precision: str, target: str) -> bool:
    try:
        return backend.resolve_precision(precision, target) == precision
    except PrecisionError:
        return False
