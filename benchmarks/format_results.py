"""The measurements as Markdown, each beside its target and with a verdict."""

import statistics
from collections.abc import Iterable
from typing import Any

from describe_machine import describe_machine
from make_models import SIX, TEXTS

from beforehand.benchmark.alternate_calls import list_differences, list_ratios
from beforehand.speed.estimate_median import CONFIDENCE, Estimate, combine_geometric, estimate_median

MARGIN_MS = 0.4  # as in time_calls.py, which imports NumPy
SPEED_UP = {"FP32": 2.0, "BF16": 3.5, "FP16": 3.5, "INT8": 4.5}
ENCODER_SPEED_UP = 2.0  # of a text encoder in INT8
CONVERSION_S = {"ResNet50": 5.0, "MobileNetV2": 2.5}
PARENT = (1.5, 1.5e9)  # times the weights, plus bytes
CHILD = (3.5, 0.3e9)
IMPORT_S = 0.2


def format_results(results: dict[str, Any], precision: str = "FP32") -> str:
    """The whole section, of engines that were asked for in `precision`."""
    parts = [f"## Speed on a CPU ({precision})", describe_machine()]
    if results["calls"]:
        parts += format_calls(results["calls"], precision)
    if results["conversion"]:
        parts.append(format_conversion(results["conversion"]))
    if results["memory"]:
        parts.append(format_memory(results["memory"]))
    if results["import"]:
        seconds = statistics.median(results["import"]["seconds"])
        verdict = "met" if seconds < IMPORT_S else "missed"
        parts.append(
            f"`import beforehand` in a fresh process: {1000 * seconds:.0f} ms (target {IMPORT_S} s: {verdict})."
        )
    return "\n\n".join(parts)


def format_calls(calls: dict[str, Any], precision: str) -> list[str]:
    """A table for each batch size, and the mean speed-up."""
    run_in = ", ".join(sorted({item["precision"] for item in calls.values()}))
    parts = [
        (
            "### Calls\n\nMedians in milliseconds of calls in random turns, all in one process, after a warm-up. In brackets the "
            f"{100 * CONFIDENCE:.0f} % interval of the median of the paired ratios or differences. OpenVINO alone is compiled of the "
            f"same ONNX file with the same hints, and its outputs are not copied. These two run in {run_in}, all others in float32"
            f"{', but half: beforehand in BF16.' if precision == 'INT8' else '.'}"
        )
    ]
    for batch in next(iter(calls.values()))["batches"]:
        found = {model: item["batches"][batch] for model, item in calls.items()}
        parts.append(format_batch(batch, found))
    first = {model: item["batches"]["1"] for model, item in calls.items() if "1" in item["batches"] and model in SIX}
    if first:
        mean = combine_geometric([find_speed_up(item) for item in first.values()])
        target = SPEED_UP[precision]
        parts.append(
            f"Geometric mean of the speed-up over TensorFlow's signature, batch 1, {len(first)} models: "
            f"{show(mean, 2)} (target at least {target:g} over {len(SIX)} models: {mean.judge(target, at_most=False)}).",
        )
    if precision == "INT8":
        parts += format_int8({model: item["batches"]["1"] for model, item in calls.items() if "1" in item["batches"]})
    return parts


def format_int8(first: dict[str, Any]) -> list[str]:
    """At batch 1: encoders beside TensorFlow, and all models beside half precision."""
    parts = []
    for model in (model for model in first if model in TEXTS):
        estimate = find_speed_up(first[model])
        parts.append(
            f"{model}: {show(estimate, 2)} times as fast as TensorFlow's signature in float32 "
            f"(target at least {ENCODER_SPEED_UP:g}: {estimate.judge(ENCODER_SPEED_UP, at_most=False)})."
        )
    rows = [["model", "INT8, times half", "no slower than half"]]
    for model, item in first.items():
        estimate = estimate_median(list_ratios(item["times"], "beforehand", "half"))
        rows.append([model, show(estimate, 2), estimate.judge(1.0, at_most=False)])
    return [*parts, f"INT8 beside BF16, batch 1:\n\n{format_table(rows)}"] if first else parts


def find_speed_up(item: dict[str, Any]) -> Estimate:
    """How many times faster than TensorFlow's signature."""
    return estimate_median(list_ratios(item["times"], "beforehand", "TensorFlow"))


def format_batch(batch: str, found: dict[str, Any]) -> str:
    """The table of one batch size."""
    ways = list(next(iter(found.values()))["times"])
    rows = [["model", *ways, "times TensorFlow", "ms beyond OpenVINO", f"at most +{MARGIN_MS} ms", "error"]]
    for model, item in found.items():
        beyond = estimate_median(list_differences(item["pair"], "beforehand", "OpenVINO"))
        medians = [f"{statistics.median(item['times'][way]):.2f}" for way in ways]
        verdict = f"{beyond.judge(MARGIN_MS, at_most=True)} ({beyond.count} rounds)"
        error = f"{item['differences']['beforehand']:.1e} of {item['spread']:.1e}"
        rows.append([model, *medians, show(find_speed_up(item), 2), show(beyond, 3), verdict, error])
    return f"Batch {batch}:\n\n{format_table(rows)}"


def format_conversion(conversions: dict[str, Any]) -> str:
    """Conversion and save, in seconds."""
    calibrated = ["calibrate"] if any("calibrate" in item for item in conversions.values()) else []
    rows = [
        [
            "model",
            "load",
            "convert",
            *calibrated,
            "build",
            "beyond one load",
            "target",
            "save",
            "TensorFlow's save",
            "save at most its",
        ]
    ]
    for model, item in conversions.items():
        beyond = item["convert"] + item["build"] - item["load"]
        target = CONVERSION_S.get(model)
        verdict = "none" if target is None else f"{target:g}: {'met' if beyond <= target else 'missed'}"
        ours, theirs = min(item["saves"]), min(item["tensorflow_saves"])
        steps = [item[name] for name in ("load", "convert", *calibrated, "build")]
        plain = [f"{number:.2f}" for number in (*steps, beyond)]
        rows.append([model, *plain, verdict, f"{ours:.2f}", f"{theirs:.2f}", "met" if ours <= theirs else "missed"])
    return (
        "### Conversion\n\nSeconds, in a fresh process, imports not counted: `tf.saved_model.load` of the source, `convert()`, "
        f"`build()` for batch 1, and the fastest of three saves in turn.{' `calibrate()` is not counted.' if calibrated else ''}"
        f"\n\n{format_table(rows)}"
    )


def format_memory(memories: dict[str, Any]) -> str:
    """Peaks of memory."""
    rows = [["model", "weights", "parent", "target", "child", "target"]]
    for model, item in memories.items():
        row = [model, f"{item['weights'] / 1e6:.0f}"]
        for name, (factor, constant) in (("parent", PARENT), ("child", CHILD)):
            limit = factor * item["weights"] + constant
            row += [f"{item[name] / 1e6:.0f}", f"{limit / 1e6:.0f}: {'met' if 0 < item[name] <= limit else 'missed'}"]
        rows.append(row)
    return (
        "### Memory\n\nPeaks of resident memory in MB, of a fresh process that converts, builds for batch 1 and saves, and of the "
        f"child that builds (`VmHWM`).\n\n{format_table(rows)}"
    )


def show(estimate: Estimate, digits: int) -> str:
    """`1.23 [1.20, 1.26]`."""
    return f"{estimate.median:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def format_table(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = rows
    return "\n".join(write_row(row) for row in (head, ["---"] * len(head), *body))


def write_row(cells: Iterable[str]) -> str:
    """One row."""
    return f"| {' | '.join(cells)} |"
