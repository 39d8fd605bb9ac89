"""An ONNX model to two files, the graph and its weights, the same bytes for the same model in any process."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from typing import Any

import numpy as np
import onnx

from beforehand.lower.capture_invariants import capture_invariants
from beforehand.lower.cut_segment import CutSegment, ReadWeight
from beforehand.lower.name_canonically import forget_names, name_canonically
from beforehand.store import layout


@dataclasses.dataclass(frozen=True)
class WrittenOnnx:
    """What was written: `onnx_sha256` and `weights_sha256` are of the two files, `bytes` is their size in all.

    `digest` is a SHA-256 over graph and weights, for keys. Names of nodes do not count in it: a model that is made again
    has others.
    """

    digest: str
    onnx_sha256: str
    weights_sha256: str
    bytes: int


def write_onnx(model: Any, cut: CutSegment, read: ReadWeight, folder: pathlib.Path) -> WrittenOnnx:
    """Write the model with its weights into `folder`."""
    digest, whole = hashlib.sha256(), hashlib.sha256()
    graph = model.graph
    weights = dict(cut.weights)
    kept = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(kept)
    with (folder / layout.ONNX_WEIGHTS).open("wb") as file:
        for name, weight in weights.items():
            array = np.ascontiguousarray(read(weight))
            graph.initializer.append(_describe_external(name, array, file.tell()))
            data = array.reshape(-1).view(np.uint8).data  # not `tobytes`, which would copy gigabytes
            file.write(data)
            padding = bytes(-file.tell() % layout.WEIGHT_ALIGNMENT)
            file.write(padding)
            digest.update(data)
            whole.update(data)
            whole.update(padding)
        size = file.tell()
    capture_invariants(graph)
    name_canonically(graph)
    serialized = model.SerializeToString(deterministic=True)
    (folder / layout.ONNX_MODEL).write_bytes(serialized)
    nameless = onnx.ModelProto()
    nameless.CopyFrom(model)
    forget_names(nameless.graph)
    digest.update(nameless.SerializeToString(deterministic=True))
    return WrittenOnnx(
        digest.hexdigest(), hashlib.sha256(serialized).hexdigest(), whole.hexdigest(), size + len(serialized)
    )


def _describe_external(name: str, array: np.ndarray[Any, Any], offset: int) -> Any:
    tensor = onnx.TensorProto(name=name, dims=array.shape)
    tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", layout.ONNX_WEIGHTS), ("offset", offset), ("length", array.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor
