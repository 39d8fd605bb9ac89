"""The table of models as Markdown: what runs in engines, how well, and what stays native."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from typing import Any

from describe_machine import describe_machine
from format_results import format_table, show

from beforehand.benchmark.alternate_calls import list_ratios
from beforehand.speed.estimate_median import CONFIDENCE, Estimate, combine_geometric, estimate_median

HEAD = ["model", "segments", "engines", "work", "error", "TensorFlow ms", "converted ms", "speed-up", "native"]
_LONGEST = 200


def format_models(results: Mapping[str, Any], table: Mapping[str, Any], seconds: float) -> str:
    """The whole section."""
    good = {name: result for name, result in results.items() if not find_failure(result)}
    rows = [HEAD, *(write_row(name, result, table[name]) for name, result in results.items())]
    explanation = (
        f"Segments; engines for each shape set of a signature; share of the floating-point work inside them (the least of the "
        f"model's signatures); largest error of a floating-point output against TensorFlow's, of the largest value, over every "
        f"shape set that engines were built for; medians of alternating calls of both signatures at the first of them, and the "
        f"median of the paired ratios with its {100 * CONFIDENCE:.0f} % interval (inconclusive: the interval holds 1); what "
        f"stays in TensorFlow: why it has to, and how many nodes were left out by reason."
    )
    parts = ["## Models", describe_machine(), explanation, format_table(rows), summarize(good, len(results), seconds)]
    return "\n\n".join(parts)


def summarize(good: Mapping[str, Any], count: int, seconds: float) -> str:
    """How many, how fast, how long."""
    text = f"{len(good)} of {count} models, in {seconds:.0f} s."
    estimates = [find_speed_up(result) for result in good.values()]
    if estimates:
        verdicts = Counter(judge(estimate) for estimate in estimates)
        counted = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common())
        mean = combine_geometric(estimates)
        text += (
            f" {counted}; geometric mean of the speed-up {show(mean, 2) if math.isfinite(mean.high) else 'unknown'}."
        )
    return text


def write_row(name: str, result: Mapping[str, Any], expected: Any) -> list[str]:
    """One model."""
    failure = find_failure(result)
    if failure:
        return [name, *[""] * (len(HEAD) - 2), f"**failed**: {clean(failure)}"]
    estimate = find_speed_up(result)
    verdict = judge(estimate)
    medians = [f"{statistics.median(result['times'][way]):.2f}" for way in ("TensorFlow", "beforehand")]
    speed = show(estimate, 2) + (" inconclusive" if verdict == "inconclusive" else "")
    share = min(sum(segment["share"] for segment in find_segments(result, key)) for key in expected.built)
    error = f"{result['error']:.1e} of {result['size']:.1e}" if result["size"] else "equal"
    return [
        name, str(len(result["segments"])), describe_engines(result, expected), f"{100 * share:.1f} %", error, *medians,
        speed, describe_native(result, expected),
    ]  # fmt: skip


def find_failure(result: Mapping[str, Any]) -> str:
    """The first line of what went wrong, or nothing."""
    if "failed" in result:
        return find_error(result["failed"])
    if result["outside"]:
        return str(result["outside"][0])
    if result["native_calls"] or not result["engine_calls"]:
        return f"at built shapes {result['native_calls']} native and {result['engine_calls']} engine calls"
    return ""


def find_error(text: str) -> str:
    """The first line of a text; of a traceback, the first line of the error at its end."""
    lines = [line for line in text.splitlines() if line.strip()] or ["for no reason told"]
    frames = [index for index, line in enumerate(lines) if line.startswith('  File "')]
    after = lines[frames[-1] + 1 :] if frames else lines
    line = next((line for line in after if not line.startswith(" ")), lines[-1])
    return line.removeprefix("beforehand.errors.")


def find_speed_up(result: Mapping[str, Any]) -> Estimate:
    """How many times faster than TensorFlow's signature."""
    return estimate_median(list_ratios(result["times"], "beforehand", "TensorFlow"))


def judge(estimate: Estimate) -> str:
    """`faster`, `slower`, or `inconclusive` where the interval holds 1."""
    if estimate.low <= 1 <= estimate.high:
        return "inconclusive"
    return "faster" if estimate.low > 1 else "slower"


def find_segments(result: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The segments of a signature."""
    return [segment for segment in result["segments"] if segment["signature"] == key]


def describe_engines(result: Mapping[str, Any], expected: Any) -> str:
    """Engines of a signature by its distinct shape sets; the most of all signatures."""
    found = []
    for key, shapes in expected.built.items():
        names = {segment["name"] for segment in find_segments(result, key)}
        count = sum(engine["segment"] in names for engine in result["engines"])
        sets = len({repr(sorted((name, tuple(shape)) for name, shape in item.items())) for item in shapes})
        found.append(count / sets)
    return f"{max(found):g}" if max(found) == round(max(found)) else f"{max(found):.1f}"


def describe_native(result: Mapping[str, Any], expected: Any) -> str:
    """The table's own words, and the reasons counted."""
    reasons = Counter(node["reason"] for _, node in result["left_out"])
    counted = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
    return clean("; ".join(filter(None, (expected.native, counted)))) or "nothing"


def clean(text: str) -> str:
    """On one line of a table, and no longer than can be read there."""
    line = " ".join(text.split()).replace("|", "/")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
