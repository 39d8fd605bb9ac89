"""Times the calls of one model, every way in one process: `python time_calls.py JOB`.

JOB is JSON: {"source", "size", "scale", "batches", "rounds": [fewest, most], "seconds", "scratch", "precision"}: beforehand and
bare OpenVINO run in that precision, all others in float32. The last line printed
is JSON: for each batch the milliseconds of each way in each round, those of the pair (bare OpenVINO, converted), and the
largest difference of each way's answer from TensorFlow's.
"""

import json
import sys
from typing import Any

import numpy as np
import tensorflow as tf
from alternate_calls import Times, alternate_calls, list_differences, list_ratios
from estimate_median import estimate_median
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

MARGIN_MS = 0.4  # what a call may cost beyond bare OpenVINO
PAIR = ("OpenVINO", "beforehand")


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Convert, open every way, time."""
    source = tf.saved_model.load(job["source"])  # a signature does not keep its variables
    native = source.signatures["serving_default"]
    name = next(iter(native.structured_input_signature[1]))
    converter = beforehand.Converter(job["source"], precision_mode=job["precision"])
    converter.convert()
    side = (job["size"], job["size"], 3)
    converter.build(shapes=[{name: (batch, *side)} for batch in job["batches"]])
    converter.save(job["scratch"])
    loaded = tf.saved_model.load(job["scratch"])
    converted = loaded.signatures["serving_default"]
    onnx_file = converter._converted[1].lowered[0].onnx_file
    frozen, session = freeze(native), open_onnxruntime(onnx_file)
    results = {}
    for batch in job["batches"]:
        x = np.random.default_rng().uniform(0, job["scale"], (batch, *side)).astype(np.float32)
        ways = {
            "TensorFlow": run_signature(native, name, x),
            "frozen": run_frozen(frozen, x),
            "XLA": run_xla(native, name, x),
            "ONNX Runtime": run_onnxruntime(session, x),
            "OpenVINO": run_openvino(onnx_file, x, converter.engines[0].precision),
            "beforehand": run_signature(converted, name, x),
        }
        results[str(batch)] = time_ways(ways, job)
    counted = beforehand.stats(loaded)["signatures"]["serving_default"]
    assert counted["native_calls"] == 0, counted
    return {
        "batches": results,
        "segments": len(converter.segments),
        "precision": converter.engines[0].precision,
        **counted,
    }


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
