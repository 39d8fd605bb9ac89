"""The process that quantises one segment: `python -m beforehand.calibrate.child STATUS PARENT JOB.json`.

JOB.json has "onnx_file", "target" (the file to write, beside it), "folder", "calls", "names" and "is_smoothed" (see `run_nncf`).
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import traceback
from typing import Any

from beforehand import causes
from beforehand.build_engines.prepare_child import prepare_child
from beforehand.build_engines.status_file import Failure, StatusWriter
from beforehand.calibrate.run_nncf import run_nncf
from beforehand.store.hashing import hash_file

TOLD = 64
# What is told as the result where nothing of the model can be quantised.
NOTHING = "nothing"


def main(arguments: list[str]) -> int:
    """Quantise the model of a job."""
    status = StatusWriter(pathlib.Path(arguments[0]))
    prepare_child(int(arguments[1]))
    try:
        status.tell_phase("quantising")
        status.tell_result(_quantize(json.loads(pathlib.Path(arguments[2]).read_text())))
    except Exception as error:  # noqa: BLE001 (whatever it is, the parent must hear of it)
        traceback.print_exc()
        cause = causes.HOST_MEMORY if isinstance(error, MemoryError) else causes.FAILED
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        status.tell_failure(Failure(cause, "", text[:2000]))
        return TOLD
    return 0


def _quantize(job: dict[str, Any]) -> str:
    """SHA-256 of the file written, or `NOTHING`."""
    from beforehand.precision.find_attention import find_attention  # noqa: PLC0415 (these need onnx, an extra: what is missing is told)
    from beforehand.precision.keep_reduced import keep_reduced  # noqa: PLC0415
    from beforehand.precision.prepare_model import fold_model  # noqa: PLC0415
    from beforehand.precision.write_compactly import write_compactly  # noqa: PLC0415

    target = pathlib.Path(job["target"])
    prepared = fold_model(job["onnx_file"], has_gelu=False)
    keep_reduced(prepared.model)
    written = pathlib.Path.cwd() / "prepared"
    written.mkdir()
    quantized = run_nncf(
        prepared.model.write(written), pathlib.Path(job["folder"]), job["calls"], job["names"],
        has_attention=find_attention(prepared.model) > 0, is_smoothed=job["is_smoothed"],
    )  # fmt: skip
    if not any(node.op_type == "QuantizeLinear" for node in quantized.graph.node):
        return NOTHING
    write_compactly(quantized, prepared.model, target)
    return hash_file(target)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
