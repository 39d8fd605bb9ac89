"""The table of accuracies as Markdown, and the precisions that this machine has not."""

from collections.abc import Mapping
from typing import Any

from describe_machine import describe_machine
from format_models import clean, find_error
from format_results import format_table

HEAD = ["model", "asked for", "runs in", "right, %", "points", "alike", "error", "cosine", "engines", "verdict"]
DROPS = {"FP32": 0.2, "TF32": 0.2, "BF16": 0.2, "FP16": 0.2, "INT8": 0.5}  # points that may be lost
MISSED = "**missed**"


def format_accuracy(results: Mapping[str, Mapping[str, Any]], backend: str, batch: int, gpu: str = "") -> str:
    """The whole section; `results` are by model and by what was asked for, `gpu` is what the engines ran on, if not the CPU."""
    good = [result for found in results.values() for result in found.values() if "of" in result]
    rows = [HEAD]
    refused: dict[str, str] = {}
    for model, found in results.items():
        for mode, result in found.items():
            if "refused" in result:
                refused[mode] = result["refused"]
            else:
                rows.append(write_row(model, mode, result))
    explanation = (
        f"Trained models of the tests, on images and texts that were not trained on, {batch} a call: right answers of the converted "
        "model, and the difference from TensorFlow's in float32, in points (of 100 answers); rows where both choose the same class; "
        "largest error of a logit, of the spread of TensorFlow's logits; cosine of all logits; bytes of the engines. Every call was "
        f"answered by engines alone. {describe_tests(results)} Met: at most 0.2 points are lost, "
        "0.5 in INT8; searched: built with metric= and max_drop=, until no more than 0.5 % of answers that are not of the test differ from TensorFlow's."
    )
    reasons = "\n".join(f"- {mode}: {clean_whole(text)}" for mode, text in refused.items())
    parts = [
        f"## Accuracy ({backend})",
        describe_machine() + (f"\n- {gpu}" if gpu else ""),
        explanation if good else "",
        format_table(rows),
        reasons,
    ]
    return "\n\n".join(part for part in parts if part)


def describe_tests(results: Mapping[str, Mapping[str, Any]]) -> str:
    """How large each test set is, and what one answer of it is worth."""
    sizes = {model: next((r["of"] for r in found.values() if "of" in r), 0) for model, found in results.items()}
    told = [f"{model} {size} (one is {100 / size:.3f} points)" for model, size in sizes.items() if size]
    return f"Tested on: {', '.join(told)}."


def describe_search(result: Mapping[str, Any]) -> str:
    """What was put back, among how many parts, by how many rebuilds; empty if nothing was."""
    parts, search = result.get("put_back", ()), result.get("search")
    if not parts or not search:
        return ""
    least = "none can be spared" if search["is_minimal"] else "perhaps more than are needed"
    told = f"{len(parts)} of {search['parts']} parts, {least}, after {search['rebuilds']} rebuilds"
    return f"; in a higher precision, {told}: {', '.join(parts)}"


def write_row(model: str, mode: str, result: Mapping[str, Any]) -> list[str]:
    """One model in one precision."""
    if "failed" in result:
        return [model, mode, *[""] * (len(HEAD) - 3), f"**failed**: {clean(find_error(result['failed']))}"]
    verdict = find_verdict(mode, result) + describe_search(result)
    return [
        model, mode, result["precision"], f"{100 * result['right'] / result['of']:.2f}", f"{find_points(result):+.2f}",
        f"{100 * result['same'] / result['of']:.2f} %", f"{result['error']:.1e} of {result['spread']:.1e}",
        f"{result['cosine']:.6f}", f"{result['bytes'] / 1e3:.0f} kB", verdict,
    ]  # fmt: skip


def find_verdict(mode: str, result: Mapping[str, Any]) -> str:
    """Whether too many points are lost; nothing where that is not known."""
    drop = DROPS.get(mode.partition(",")[0])
    if drop is None or "right" not in result:
        return ""
    return "met" if -find_points(result) <= drop else MISSED


def find_points(result: Mapping[str, Any]) -> float:
    """Right answers of a hundred, beyond TensorFlow's."""
    return 100 * (int(result["right"]) - int(result["native"])) / int(result["of"])


def clean_whole(text: str) -> str:
    """On one line, however long."""
    return " ".join(text.split())
