"""An ONNX model to two files, the graph and its weights, the same bytes for the same model in any process."""

from __future__ import annotations

import hashlib
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from beforehand.lower.cut_segment import CutSegment, ReadWeight
from beforehand.store import layout

_ALIGNMENT = 64
_NUMBERED = re.compile(r"__\d+$")


def write_onnx(model: Any, cut: CutSegment, read: ReadWeight, folder: pathlib.Path) -> str:
    """Write the model with its weights into `folder`.

    Returns:
        SHA-256 over graph and weights.
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
            data = array.tobytes()
            file.write(data)
            digest.update(data)
            file.write(bytes(-file.tell() % _ALIGNMENT))
    _name_canonically(graph)
    text = model.SerializeToString(deterministic=True)
    (folder / layout.ONNX_MODEL).write_bytes(text)
    digest.update(text)
    return digest.hexdigest()


def _describe_external(name: str, array: np.ndarray[Any, Any], offset: int) -> Any:
    tensor = onnx.TensorProto(name=name, dims=array.shape)
    tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", layout.ONNX_WEIGHTS), ("offset", offset), ("length", array.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _name_canonically(graph: Any) -> None:
    """Order nodes and name values by the graph's structure: tf2onnx numbers them by a counter of its process."""
    makers = {output: node for node in graph.node for output in node.output}
    fixed = {value.name for value in (*graph.input, *graph.output)}
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    order = _sort_nodes([value.name for value in graph.output], makers)
    names: dict[str, str] = {}
    for node in order:
        for value in (*node.input, *node.output):
            if value and value not in fixed and value not in names:
                names[value] = f"v{len(names)}"
    seen: dict[str, int] = {}
    for node in order:
        base = _NUMBERED.sub("", node.name)
        seen[base] = seen.get(base, 0) + 1
        node.name = base if seen[base] == 1 else f"{base}__{seen[base]}"
        _rename(node.input, names)
        _rename(node.output, names)
        _rename_captures(node, names)
    del graph.node[:]
    graph.node.extend(order)
    del graph.value_info[:]
    _name_dimensions(graph)
    used = [initializers[value] for value in (*names, *fixed) if value in initializers]
    for tensor in used:
        tensor.name = names.get(tensor.name, tensor.name)
    del graph.initializer[:]
    graph.initializer.extend(used)


def _name_dimensions(graph: Any) -> None:
    names: dict[str, str] = {}
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = names.setdefault(dim.dim_param, f"d{len(names)}")


def _sort_nodes(outputs: list[str], makers: Mapping[str, Any]) -> list[Any]:
    order: list[Any] = []
    done: set[int] = set()
    stack = [(makers[name], False) for name in reversed(outputs) if name in makers]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif id(node) not in done:
            done.add(id(node))
            stack.append((node, True))
            inputs = [*node.input, *_list_captures(node)]
            stack.extend((makers[name], False) for name in reversed(inputs) if name in makers)
    return order


def _rename(values: Any, names: Mapping[str, str]) -> None:
    renamed = [names.get(value, value) for value in values]
    del values[:]
    values.extend(renamed)


def _list_subgraphs(node: Any) -> list[Any]:
    return [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH] + [
        graph for a in node.attribute for graph in a.graphs
    ]


def _list_captures(node: Any) -> list[str]:
    """Values of the outer graph that the bodies of a control-flow node may read."""
    return [
        value
        for graph in _list_subgraphs(node)
        for inner in graph.node
        for value in (*inner.input, *_list_captures(inner))
    ] + [value.name for graph in _list_subgraphs(node) for value in graph.output]


def _rename_captures(node: Any, names: Mapping[str, str]) -> None:
    for graph in _list_subgraphs(node):
        own = {value for inner in graph.node for value in inner.output} | {value.name for value in graph.input}
        outer = {old: new for old, new in names.items() if old not in own}
        for inner in graph.node:
            _rename(inner.input, outer)
            _rename_captures(inner, outer)
        for value in graph.output:
            value.name = outer.get(value.name, value.name)
