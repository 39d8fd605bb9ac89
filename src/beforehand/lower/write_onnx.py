"""An ONNX model to two files, the graph and its weights, the same bytes for the same model in any process."""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

import numpy as np
import onnx

from beforehand.lower.capture_invariants import capture_invariants
from beforehand.lower.cut_segment import CutSegment, ReadWeight
from beforehand.lower.name_canonically import forget_names, name_canonically
from beforehand.store import layout


def write_onnx(model: Any, cut: CutSegment, read: ReadWeight, folder: pathlib.Path) -> str:
    """Write the model with its weights into `folder`.

    Returns:
        SHA-256 over graph and weights. Names of nodes do not count: a model that is made again has others.
    """
    digest = hashlib.sha256()
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
            digest.update(data)
            file.write(bytes(-file.tell() % layout.WEIGHT_ALIGNMENT))
    capture_invariants(graph)
    name_canonically(graph)
    (folder / layout.ONNX_MODEL).write_bytes(model.SerializeToString(deterministic=True))
    nameless = onnx.ModelProto()
    nameless.CopyFrom(model)
    forget_names(nameless.graph)
    digest.update(nameless.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _describe_external(name: str, array: np.ndarray[Any, Any], offset: int) -> Any:
    tensor = onnx.TensorProto(name=name, dims=array.shape)
    tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", layout.ONNX_WEIGHTS), ("offset", offset), ("length", array.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor
