"""Process 2 of a life cycle: converts, builds, saves.

Usage: python convert_model.py JOBS, which is JSON: [{"api": "drop-in" or "own", "source", "output", "inputs", "form",
"options", "builds": [[SIGNATURE, [{INPUT: shape}, ...]], ...], "calibration": "" or an .npz file of rows for INT8}, ...]. For each job a line of JSON is printed: the engines,
the segments, what was left out, and the summary; or {"failed": traceback}.
"""

import json
import pathlib
import sys
import time
import traceback

import numpy as np
from draw_inputs import draw_inputs, is_plain


def make_samples(job, shapes, form):
    """Samples in one of the forms that users choose, in the order of the model's inputs.

    Zeros, where a model takes nothing but floating-point numbers; else real values, since the shapes within may depend
    on them.
    """
    rng = np.random.default_rng(100)
    for item in shapes:
        if all(is_plain(job["inputs"][name]) for name in item):
            arrays = {name: np.zeros(shape, job["inputs"][name]["dtype"]) for name, shape in item.items()}
        else:
            arrays = draw_inputs(job["inputs"], item, rng, pathlib.Path(job["source"]).parent)
        ordered = list(arrays.values())
        yield {
            "dict": arrays,
            "reversed dict": dict(reversed(list(arrays.items()))),
            "list": ordered,
            "tuple": tuple(ordered),
            "array": ordered[0],
        }[form]


def make_calibration(job):
    """`calibration_input_fn`, row by row; None where nothing is calibrated."""
    if not job.get("calibration"):
        return None
    with np.load(job["calibration"]) as file:
        rows = dict(file)
    return lambda: (
        {name: value[i : i + 1] for name, value in rows.items()} for i in range(len(next(iter(rows.values()))))
    )


def convert_by_drop_in(job):
    from beforehand import trt_convert as trt

    [[key, shapes]] = job["builds"]
    converter = trt.TrtGraphConverterV2(
        input_saved_model_dir=job["source"], input_saved_model_signature_key=key, **job["options"]
    )
    converter.convert(make_calibration(job))
    converter.build(input_fn=lambda: make_samples(job, shapes, job["form"]))
    converter.save(job["output"])
    return converter._converter


def convert_by_own_api(job):
    import beforehand

    converter = beforehand.Converter(job["source"], **job["options"])
    converter.convert()
    if job.get("calibration"):
        converter.calibrate(make_calibration(job))
    for key, shapes in job["builds"]:
        if job["form"] == "shapes":
            converter.build(shapes=shapes, signature=key)
        else:
            converter.build(lambda shapes=shapes: make_samples(job, shapes, job["form"]), signature=key)
    converter.save(job["output"])
    return converter


def describe(converter):
    return {
        "engines": [
            {**vars(engine), "shapes": engine.shapes.to_dict(), "max_shapes": engine.shapes.to_max_dict()}
            for engine in converter.engines
        ],
        "segments": [
            {"name": segment.name, "signature": segment.signature, "nodes": segment.nodes, "share": segment.flops_share}
            for segment in converter.segments
        ],
        "left_out": [[key, vars(node)] for key, node in converter._make_manifest(()).native_nodes],
        "summary": converter.summary().to_dict(),
    }


def run(job):
    start = time.perf_counter()
    try:
        result = describe((convert_by_drop_in if job["api"] == "drop-in" else convert_by_own_api)(job))
    except Exception:  # noqa: BLE001 (whatever it was, the other jobs go on)
        return {"failed": traceback.format_exc()}
    return {**result, "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    for job in json.loads(sys.argv[1]):
        print(json.dumps(run(job)), flush=True)
