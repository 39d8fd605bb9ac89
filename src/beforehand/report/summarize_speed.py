"""How fast the engines of a model are beside TensorFlow, in one line; and what `precision_mode="auto"` did not take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from beforehand.records import Engine, EngineSpeed, LostCandidate, describe_us

_MOST = 8  # engines whose rivals are told


def summarize_speed(engines: Sequence[Engine]) -> str:
    """How many were timed, the slowest of them beside TensorFlow; why others were not; what lost. Empty where nobody tried."""
    tried = [(engine, engine.speed) for engine in engines if engine.speed is not None]
    if not tried:
        return ""
    timed = [(engine, speed) for engine, speed in tried if not speed.not_timed]
    told = f"{len(timed)} of {len(engines)} engines timed against TensorFlow"
    if timed:
        engine, speed = min(timed, key=lambda pair: pair[1].speedup)
        told += f"; the least gain, {engine.segment} for {engine.shapes.describe()} in {engine.precision}, {speed.describe()}"
    reasons = dict.fromkeys(speed.not_timed for _, speed in tried if speed.not_timed)
    told += "".join(f"; not timed: {reason}" for reason in reasons)
    lost = [_describe_lost(engine, speed) for engine, speed in tried if speed.lost]
    more = [f"and so {len(lost) - _MOST} engines more"] if len(lost) > _MOST else []
    return "; ".join([told, *lost[:_MOST], *more])


def summarize_calls(called: Mapping[str, EngineSpeed]) -> str:
    """Of whole signatures, the one with the least gain, by what was called; empty where none was timed."""
    if not called:
        return ""
    worst = min(called, key=lambda name: called[name].speedup)
    least = f", the least gain of {len(called)} that were called" if len(called) > 1 else ""
    return f"{worst} takes {called[worst].describe()}{least}"


def _describe_lost(engine: Engine, speed: EngineSpeed) -> str:
    others = ", ".join(map(describe_candidate, speed.lost))
    return f"{engine.segment} for {engine.shapes.describe()} is in {engine.precision}, not {others}"


def describe_candidate(lost: LostCandidate) -> str:
    """`INT8 (5.10 ms, off by 1.2e-02: not faster)`."""
    told = [describe_us(lost.engine_us)] if lost.engine_us else []
    told += [f"off by {lost.max_rel:.1e}"] if lost.max_rel is not None else []
    return f"{lost.precision} ({', '.join(told)}{': ' if told else ''}{lost.why})"
