"""torch.compile of one model at one batch and layout into Inductor's cache: `python gpu_compile.py JOB`.

JOB is JSON: {"model", "batch", "layout", "precision"}. The last line printed is JSON: seconds of the first call.
"""

import json
import sys
import time
from typing import Any

import torch
from gpu_models import draw_inputs
from gpu_models_torch import arrange_inputs, compile_module, convert_inputs, make_module


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Compile and call."""
    module = make_module(job["model"], job["precision"], job["layout"])
    arrays = draw_inputs(job["model"], job["batch"])
    inputs = convert_inputs(arrange_inputs(arrays, job["layout"]), job["precision"])
    begun = time.perf_counter()
    with torch.no_grad():
        compile_module(module)(*inputs)
    torch.cuda.synchronize()
    return {"seconds": time.perf_counter() - begun}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
