"""Process 2 of a life cycle: converts, builds, saves.

Usage: python convert_model.py JOB, which is JSON: {"api": "drop-in" or "own", "source", "output", "form", "options",
"builds": [[SIGNATURE, [{INPUT: shape}, ...]], ...]}. The last line printed is JSON: the engines and the summary.
"""

import json
import sys

import numpy as np


def make_samples(shapes, form, names):
    """Samples of zeros in one of the forms that users choose; `names` is the order of the model's inputs."""
    for item in shapes:
        arrays = {name: np.zeros(shape, np.float32) for name, shape in item.items()}
        ordered = [arrays[name] for name in names]
        yield {
            "dict": arrays,
            "reversed dict": dict(reversed(list(arrays.items()))),
            "list": ordered,
            "tuple": tuple(ordered),
            "array": ordered[0],
        }[form]


def convert_by_drop_in(job):
    from beforehand import trt_convert as trt

    [[key, shapes]] = job["builds"]
    converter = trt.TrtGraphConverterV2(
        input_saved_model_dir=job["source"], input_saved_model_signature_key=key, **job["options"]
    )
    converter.convert()
    converter.build(input_fn=lambda: make_samples(shapes, job["form"], list(shapes[0])))
    converter.save(job["output"])
    return converter._converter


def convert_by_own_api(job):
    import beforehand

    converter = beforehand.Converter(job["source"], **job["options"])
    converter.convert()
    for key, shapes in job["builds"]:
        converter.build(shapes=shapes, signature=key)
    converter.save(job["output"])
    return converter


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    converter = (convert_by_drop_in if job["api"] == "drop-in" else convert_by_own_api)(job)
    result = {
        "engines": [
            {**vars(engine), "shapes": engine.shapes.to_dict(), "max_shapes": engine.shapes.to_max_dict()}
            for engine in converter.engines
        ],
        "segments": [{"name": segment.name, "nodes": segment.nodes} for segment in converter.segments],
        "summary": converter.summary().to_dict(),
    }
    print(json.dumps(result))
