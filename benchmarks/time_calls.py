"""Times the calls of one model, every way in one process: `python time_calls.py JOB`.

JOB is JSON: {"model", "source", "batches", "rounds": [fewest, most], "seconds", "scratch", "precision"}: beforehand and
bare OpenVINO run in that precision, all others in float32; beside INT8 there is also "half", beforehand in BF16. The last line printed
is JSON: for each batch the milliseconds of each way in each round, those of the pair (bare OpenVINO, converted), and the
largest difference of each way's answer from TensorFlow's.
"""

import json
import sys
from typing import Any

import numpy as np
import tensorflow as tf
from make_models import CALIBRATED, draw_inputs
from ways_to_run import (
    freeze,
    open_onnxruntime,
    read_answer,
    run_frozen,
    run_onnxruntime,
    run_openvino,
    run_signature,
    run_xla,
)

import beforehand
from beforehand.benchmark.alternate_calls import Times, alternate_calls, list_differences, list_ratios
from beforehand.speed.estimate_median import estimate_median

MARGIN_MS = 0.4  # what a call may cost beyond bare OpenVINO
PAIR = ("OpenVINO", "beforehand")


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Convert, open every way, time."""
    source = tf.saved_model.load(job["source"])  # a signature does not keep its variables
    native = source.signatures["serving_default"]
    converter, loaded = convert(job, job["precision"])
    converted = loaded.signatures["serving_default"]
    half = convert(job, "BF16")[1] if job["precision"] == "INT8" else None
    lowered = converter._converted[1].lowered[0]
    [engine, *_] = converter.engines
    frozen, session = freeze(native), open_onnxruntime(lowered.onnx_file)
    results = {}
    for batch in job["batches"]:
        inputs = draw_inputs(job["model"], list_names(converter), batch, np.random.default_rng())
        named = name_as_onnx(inputs, converter.signatures[0], lowered)
        file = lowered.quantized_file if engine.precision == "INT8" else lowered.onnx_file
        ways = {
            "TensorFlow": run_signature(native, inputs),
            "frozen": run_frozen(frozen, inputs),
            "XLA": run_xla(native, inputs),
            "ONNX Runtime": run_onnxruntime(session, named),
            "OpenVINO": run_openvino(file, named, engine.precision, engine.target),
            "beforehand": run_signature(converted, inputs),
        }
        if half is not None:
            ways["half"] = run_signature(half.signatures["serving_default"], inputs)
        results[str(batch)] = time_ways(ways, job)
    counted = [
        beforehand.stats(model)["signatures"]["serving_default"] for model in (loaded, half) if model is not None
    ]
    assert not any(item["native_calls"] for item in counted), counted
    return {"batches": results, "segments": len(converter.segments), "precision": engine.precision, **counted[0]}


def convert(job: dict[str, Any], precision: str) -> tuple[beforehand.Converter, Any]:
    """The model converted, and loaded again; INT8 is calibrated with inputs drawn as those that are timed."""
    converter = beforehand.Converter(job["source"], precision_mode=precision, min_speedup=None)
    converter.convert()
    names, rng = list_names(converter), np.random.default_rng(2)
    if precision == "INT8":
        converter.calibrate(lambda: (draw_inputs(job["model"], names, 1, rng) for _ in range(CALIBRATED)))
    drawn = [draw_inputs(job["model"], names, batch, rng) for batch in job["batches"]]
    converter.build(shapes=[{name: x.shape for name, x in inputs.items()} for inputs in drawn])
    converter.save(f"{job['scratch']}/{precision}")
    return converter, tf.saved_model.load(f"{job['scratch']}/{precision}")


def list_names(converter: beforehand.Converter) -> list[str]:
    """The inputs of the model's first signature."""
    return [spec.name for spec in converter.signatures[0].inputs]


def name_as_onnx(inputs: dict[str, Any], signature: Any, lowered: Any) -> dict[str, Any]:
    """The inputs of a signature that is one segment, by the names of that segment's ONNX file."""
    names = [signature.inputs[place].name for place in signature.whole.inputs]
    return {onnx: inputs[name] for onnx, name in zip(lowered.input_names, names, strict=True)}


def time_ways(ways: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """All ways in turn, then bare OpenVINO and the converted signature alone, until each question is decided."""
    answers = {way: read_answer(call()) for way, call in ways.items()}
    expected = answers["TensorFlow"]
    rounds, seconds = tuple(job["rounds"]), job["seconds"]
    times = alternate_calls(ways, is_order_decided, rounds=rounds, seconds=seconds)
    pair = {way: ways[way] for way in PAIR}
    # The difference asked for is small beside the times: many more rounds, which two ways allow.
    pair_times = alternate_calls(pair, is_margin_decided, rounds=(4 * rounds[0], 10 * rounds[1]), seconds=seconds)
    return {
        "times": times,
        "pair": pair_times,
        "differences": {way: float(np.max(np.abs(answer - expected))) for way, answer in answers.items()},
        "spread": float(expected.max() - expected.min()),
    }


def is_order_decided(times: Times) -> bool:
    """Whether it is known of every other way, but bare OpenVINO, whether it is faster or slower than ours."""
    others = [way for way in times if way not in PAIR]
    return all(
        estimate_median(list_ratios(times, "beforehand", way)).judge(1.0, at_most=False) != "inconclusive"
        for way in others
    )


def is_margin_decided(times: Times) -> bool:
    """Whether it is known that a call costs more, or no more, than the margin beyond bare OpenVINO."""
    differences = estimate_median(list_differences(times, "beforehand", "OpenVINO"))
    return differences.judge(MARGIN_MS, at_most=True) != "inconclusive"


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
