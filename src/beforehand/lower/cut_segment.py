"""Cut a segment out of its flat graph, as a GraphDef of its own, with what depends on no input computed already."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from beforehand.graph.nodes import make_placeholder
from beforehand.lower.make_functions_unique import make_functions_unique
from beforehand.records import FlatGraph, Segment, TensorSpec, Weight

ReadWeight = Callable[[Weight], np.ndarray[Any, Any]]

# Weights of more elements stay placeholders in the passes: these copy every constant they meet, many times over
# (20 s for ResNet50). Smaller ones must be seen, or the passes cannot move transposes across them.
SMALL_WEIGHT_ELEMENTS = 1 << 14


@dataclasses.dataclass(frozen=True)
class CutSegment:
    """A segment as a GraphDef whose placeholders are its inputs (`input_0`...) and its large weights (`weight_0`...)."""

    graph_def: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[tuple[str, Weight], ...]


def cut_segment(graph: FlatGraph, segment: Segment, tensors: Mapping[str, TensorSpec], read: ReadWeight) -> CutSegment:
    """The segment as a graph of its own."""
    nodes = {node.name: node for node in graph.graph_def.node}
    weights = {weight.node: weight for weight in graph.weights}
    renamed = {tensor: f"input_{index}:0" for index, tensor in enumerate(segment.input_tensors)}
    cut = tf.compat.v1.GraphDef()
    cut.versions.CopyFrom(graph.graph_def.versions)
    cut.library.CopyFrom(graph.graph_def.library)
    for index, tensor in enumerate(segment.input_tensors):
        spec = tensors[tensor] if segment.inputs[index].shape is None else segment.inputs[index]
        cut.node.append(make_placeholder(f"input_{index}", spec.dtype, spec.shape))
    large: list[tuple[str, Weight]] = []
    quantized = _find_quantized(graph.graph_def.node)
    for name in segment.constants:
        weight = weights.get(name)
        if weight is None:
            cut.node.append(_redirect(nodes[name], {}))
        elif np.prod(weight.shape, dtype=np.int64) <= SMALL_WEIGHT_ELEMENTS and name not in quantized:
            cut.node.append(make_constant(name, read(weight)))
        else:
            placeholder = f"weight_{len(large)}"
            large.append((placeholder, weight))
            renamed[f"{name}:0"] = f"{placeholder}:0"
            cut.node.append(make_placeholder(placeholder, weight.dtype, weight.shape))
    for name in segment.nodes:
        cut.node.append(_redirect(nodes[name], renamed))
    outputs = segment.output_tensors
    make_functions_unique(cut)
    return CutSegment(
        _fold_constants(cut, outputs), tuple(renamed[t] for t in segment.input_tensors), outputs, tuple(large)
    )


def _find_quantized(nodes: Iterable[Any]) -> set[str]:
    """What goes into a fake quantisation, as it is or through identities: it is not computed, or its range would be lost."""
    by_name = {node.name: node for node in nodes}
    found = set()
    for node in by_name.values():
        if not node.op.startswith("FakeQuantWithMinMax"):
            continue
        name = node.input[0].partition(":")[0]
        while name in by_name and by_name[name].op == "Identity":
            name = by_name[name].input[0].partition(":")[0]
        found.add(name)
    return found


def _redirect(node: Any, renamed: Mapping[str, str]) -> Any:
    copy = tf.compat.v1.NodeDef()
    copy.CopyFrom(node)
    del copy.input[:]
    for tensor in node.input:
        if not tensor.startswith("^"):  # a segment has no effects, and what it waits for is outside of it
            full = tensor if ":" in tensor else f"{tensor}:0"
            copy.input.append(renamed.get(full, full))
    return copy


def _fold_constants(graph_def: Any, outputs: tuple[str, ...]) -> Any:
    """Compute, once and now, every node that depends on constants alone (Keras 3's batch normalisation is full of them)."""
    constant: set[str] = set()
    kept = {tensor.partition(":")[0] for tensor in outputs}
    for node in graph_def.node:
        inputs = [tensor.partition(":")[0] for tensor in node.input]
        if node.op.startswith("TensorList"):  # lists have no constant form, and translators know loops by them
            continue
        if node.op == "Const" or (inputs and node.name not in kept and all(name in constant for name in inputs)):
            constant.add(node.name)
    edge: dict[str, None] = {}
    for node in graph_def.node:
        if node.name not in constant:
            edge.update((tensor, None) for tensor in node.input if tensor.partition(":")[0] in constant)
    computed = {node.name for node in graph_def.node if node.op != "Const" and node.name in constant}
    wanted = [tensor for tensor in edge if tensor.partition(":")[0] in computed]
    values = _compute(graph_def, wanted)
    folded = tf.compat.v1.GraphDef()
    folded.versions.CopyFrom(graph_def.versions)
    folded.library.CopyFrom(graph_def.library)
    names = {tensor: f"{tensor.replace(':', '_')}_folded" for tensor in wanted}
    folded.node.extend(make_constant(names[tensor], value) for tensor, value in values.items())
    moved = {tensor: f"{name}:0" for tensor, name in names.items()}
    needed = {tensor.partition(":")[0] for tensor in edge}
    for node in graph_def.node:
        if node.name not in constant:
            folded.node.append(_redirect(node, moved))
        elif node.name in needed and node.name not in computed:
            folded.node.append(node)
    return folded


def _compute(graph_def: Any, tensors: list[str]) -> dict[str, np.ndarray[Any, Any]]:
    if not tensors:
        return {}
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            return dict(zip(tensors, session.run(tensors), strict=True))


def make_constant(name: str, value: np.ndarray[Any, Any]) -> Any:
    """A Const node."""
    tensor = tf.make_tensor_proto(value)
    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tensor.dtype
    node.attr["value"].tensor.CopyFrom(tensor)
    return node
