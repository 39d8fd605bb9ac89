"""The graph that a converted SavedModel holds, without its engines: each call of a segment is its native segment, and is watched."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from beforehand.errors import GraphError
from beforehand.records import SegmentRecord
from beforehand.runtime.tensorflow_private import TAP_TOKEN
from beforehand.saved_model.read_saved_model import Source, read_saved_model

_NATIVE = re.compile(r"(TRTEngineOp_\d+_\d+)_native_segment")
_IFS = ("If", "StatelessIf")
_TAGS = ("serve",)


def read_native_graph(folder: pathlib.Path, segments: Iterable[SegmentRecord]) -> Source:
    """A converted SavedModel as if it had no engines, with what comes to each segment, and what it makes of it, told to the tap.

    In the saved form an engine call is `If(served) outputs else native(inputs)`, see `runtime.tensorflow_private`. It becomes the
    second branch, in which an op that calls the tap follows the native segment: (index of the segment, inputs, outputs) -> outputs.

    Args:
        folder: The converted SavedModel.
        segments: Of its manifest.

    Raises:
        SourceNotFoundError: BH201. SignatureError: BH203. GraphError: BH205, it is not of the form that beforehand saves.
    """
    source = read_saved_model(folder, _TAGS, None, allow_converted=True)
    places = {segment.name: (index, len(segment.inputs)) for index, segment in enumerate(segments)}
    meta_graph = type(source.meta_graph)()
    meta_graph.CopyFrom(source.meta_graph)
    graph = meta_graph.graph_def
    found = {
        function.signature.name: name for function in graph.library.function if (name := _add_tap(function, places))
    }
    missing = set(places) - set(found.values())
    if missing:
        raise GraphError(
            f"{folder} does not hold the native form of {', '.join(sorted(missing))}",
            why="its graph is not of the form that beforehand saves",
            advice="convert the original SavedModel again",
        )
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for node in nodes:
            if node.op in _IFS and node.attr["else_branch"].func.name in found:
                _take_branch(node)
    return dataclasses.replace(source, meta_graph=meta_graph)


def _add_tap(function: Any, places: Mapping[str, tuple[int, int]]) -> str:
    """If the function is the branch that calls a native segment, have that call watched; the segment's name, else nothing."""
    for node in list(function.node_def):
        match = _NATIVE.search(node.attr["f"].func.name) if "f" in node.attr else None
        if match is None or match[1] not in places:
            continue
        index, count = places[match[1]]
        old, new = f"{node.name}:output:", f"{node.name}_tap:output:"
        for other in function.node_def:
            _redirect(other.input, old, new)
        for name, tensor in function.ret.items():
            if tensor.startswith(old):
                function.ret[name] = new + tensor.removeprefix(old)
        function.node_def.extend(_make_tap(node, index, count))
        return match[1]
    return ""


def _redirect(tensors: Any, old: str, new: str) -> None:
    for place, tensor in enumerate(tensors):
        if tensor.startswith(old):
            tensors[place] = new + tensor.removeprefix(old)


def _make_tap(call: Any, index: int, count: int) -> list[Any]:
    """The tap of a native segment's call, and the constant that it reads."""
    place = tf.compat.v1.NodeDef(name=f"{call.name}_place", op="Const")
    place.attr["dtype"].type = tf.int64.as_datatype_enum
    place.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(index, tf.int64))
    inputs, outputs = list(call.attr["Tin"].list.type)[:count], list(call.attr["Tout"].list.type)
    given = [tensor for tensor in call.input if not tensor.startswith("^")][:count]
    tap = tf.compat.v1.NodeDef(name=f"{call.name}_tap", op="PyFunc")
    tap.input.extend([f"{place.name}:output:0", *given, *(f"{call.name}:output:{i}" for i in range(len(outputs)))])
    tap.attr["token"].s = TAP_TOKEN.encode()
    tap.attr["Tin"].list.type.extend([tf.int64.as_datatype_enum, *inputs, *outputs])
    tap.attr["Tout"].list.type.extend(outputs)
    return [place, tap]


def _take_branch(node: Any) -> None:
    """An If as a call of its second branch."""
    branch = node.attr["else_branch"].func
    attributes = {name: list(node.attr[name].list.type) for name in ("Tin", "Tout")}
    node.op = "StatefulPartitionedCall"
    del node.input[0]  # the condition
    node.attr["f"].func.CopyFrom(branch)
    for name in [name for name in node.attr if name not in ("f", "Tin", "Tout")]:
        del node.attr[name]
    for name, types in attributes.items():
        node.attr[name].list.ClearField("type")
        node.attr[name].list.type.extend(types)
