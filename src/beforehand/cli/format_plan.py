"""A build plan as text."""

from __future__ import annotations

from collections.abc import Iterator

from beforehand.build_engines.build_plan import BuildPlan, PlannedEngine
from beforehand.cli.format_inspection import format_table
from beforehand.progress.describe import describe_bytes, describe_seconds

_UNKNOWN = "not known: no past builds to go by"


def format_plan(plan: BuildPlan) -> list[str]:
    """The lines to print: every engine by target, then what is to be done in all."""
    lines = []
    for target in plan.list_targets():
        part = plan.select_target(target)
        lines += [f"target {target}: {len(part.engines)} engines, {len(part.to_build)} to build"]
        lines += [f"  {line}" for line in format_table([_describe(engine) for engine in part.engines])]
        lines += [f"  {line}" for line in _sum_up(part)] if len(plan.list_targets()) > 1 else []
    return [*lines, *_sum_up(plan)]


def _describe(engine: PlannedEngine) -> tuple[str, ...]:
    spec = engine.spec
    name = (spec.segment, spec.shapes.describe(), spec.backend)
    disk = f"{describe_bytes(spec.weight_bytes)} or more"
    if engine.engine_bytes is not None:
        disk = describe_bytes(engine.engine_bytes)
    if engine.is_cached:
        return (*name, "in the cache" if engine.basis == "cache" else engine.basis, "", disk, "")
    if engine.seconds is None:
        return (*name, "to build", "", disk, "")
    memory = f", {describe_bytes(engine.peak_bytes)} of memory" if engine.peak_bytes is not None else ""
    return (
        *name,
        "to build",
        f"about {describe_seconds(engine.seconds)}{memory}",
        disk,
        f"as the {engine.basis} before",
    )


def _sum_up(plan: BuildPlan) -> Iterator[str]:
    seconds, peak = plan.seconds, plan.peak_bytes
    at_once = f", {plan.workers} at once" if plan.workers > 1 else ""
    yield f"to build    {len(plan.to_build)} of {len(plan.engines)} engines{at_once}"
    yield f"time        {_UNKNOWN if seconds is None else f'about {describe_seconds(seconds)}'}"
    yield f"memory      {_UNKNOWN if peak is None else f'about {describe_bytes(peak)} at most'}"
    least = "" if plan.is_disk_known else " or more: an engine holds the weights of its segment"
    yield f"disk        {describe_bytes(plan.disk_bytes)}{least}"


def format_budget(plan: BuildPlan, budget_s: float) -> list[str]:
    """What of the plan is done within a time."""
    fitting = plan.fit(budget_s)
    count, within = len(plan.engines), describe_seconds(budget_s)
    if len(fitting) == count:
        return [f"budget      all {count} engines fit in {within}"]
    first = next(engine for engine in plan.engines if engine not in fitting)
    name = f"{first.spec.segment} for {first.spec.shapes.describe()}"
    why = f"of {name} no time is known" if first.seconds is None else f"{name} would take it beyond that"
    spent = describe_seconds(BuildPlan(fitting, plan.workers).seconds)
    return [
        f"budget      {len(fitting)} of {count} engines fit in {within} (about {spent}); {why}",
        "            what is built is kept: a build that is stopped goes on from there",
    ]
