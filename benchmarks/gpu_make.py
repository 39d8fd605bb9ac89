"""Step 1 of gpu.py, for one model, with TensorFlow: `python gpu_make.py JOB`.

JOB is JSON: {"folder", "model", "batches", "precision"}. Writes the SavedModel, the one with engines, and for each batch the
inputs of one call and what TensorFlow answers in float32. The last line printed is JSON: seconds of each step.
"""

import json
import pathlib
import shutil
import sys
import time
from typing import Any

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "models"))

import tensorflow as tf  # noqa: E402 (before Keras, whose backend it is)
from gpu_models import draw_inputs, find_built, find_source, save_arrays  # noqa: E402
from gpu_models_keras import make_model  # noqa: E402

import beforehand  # noqa: E402


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Make, answer, convert, build, save."""
    folder, name = pathlib.Path(job["folder"]), job["model"]
    source, built = find_source(folder, name), find_built(folder, name)
    if not (source / "saved_model.pb").is_file():
        make_model(name, str(source))
    inputs = {batch: draw_inputs(name, batch) for batch in job["batches"]}
    serve = tf.saved_model.load(str(source))
    for batch, arrays in inputs.items():
        found = serve.signatures["serving_default"](**{key: tf.constant(array) for key, array in arrays.items()})
        save_arrays(folder, name, batch, "inputs", arrays)
        save_arrays(folder, name, batch, "outputs", {key: value.numpy() for key, value in found.items()})
    converter = beforehand.Converter(
        source, backend="tensorrt-rtx", precision_mode=job["precision"], progress="off", min_speedup=None
    )
    seconds = {}
    begun = time.perf_counter()
    converter.convert()
    seconds["convert"] = time.perf_counter() - begun
    begun = time.perf_counter()
    engines = converter.build(
        shapes=[{key: array.shape for key, array in arrays.items()} for arrays in inputs.values()]
    )
    seconds["build"] = time.perf_counter() - begun
    shutil.rmtree(built, ignore_errors=True)
    converter.save(built)
    return {
        **seconds,
        "segments": len(converter.segments),
        "engines": [
            {"shapes": engine.shapes.describe(), "seconds": engine.build_seconds, "bytes": engine.bytes}
            for engine in engines
        ],
        "tensorflow": tf.__version__,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
