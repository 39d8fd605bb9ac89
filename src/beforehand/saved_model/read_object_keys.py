"""Of each variable that a function captures, its key in the checkpoint, read off the objects of a SavedModel.

The graph's own restore op does not know them all: `tf.saved_model.save` of a Keras 3 model makes two nodes of each
variable, restores one and has the functions read the other (so that such a model runs in Python alone, where the loader
goes by the objects, and TF Serving finds its variables uninitialised).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from beforehand.runtime.tensorflow_private import decode_object_graph
from beforehand.saved_model.read_saved_model import Source

_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "VARIABLE_VALUE"


def read_object_keys(source: Source) -> dict[str, str]:
    """By node of the MetaGraph, the checkpoint's key of the variable; nothing for a SavedModel of TensorFlow 1."""
    objects = source.meta_graph.object_graph_def
    captured = {
        node: place for node, place in _list_captures(source.meta_graph) if objects.nodes[place].HasField("variable")
    }
    if not captured or not source.has_checkpoint:
        return {}
    reader = tf.train.load_checkpoint(source.checkpoint)
    if not reader.has_tensor(_GRAPH_KEY):
        return {}
    places = _match_objects(objects, saved := decode_object_graph(reader.get_tensor(_GRAPH_KEY)))
    keys = {}
    for node, place in captured.items():
        for attribute in saved.nodes[places[place]].attributes if place in places else ():
            if attribute.name == _VALUE:
                keys[node] = attribute.checkpoint_key
    return keys


def _list_captures(meta_graph: Any) -> Iterator[tuple[str, int]]:
    """Nodes that calls of the top level give to a function as its captures, with the objects that these are."""
    functions = meta_graph.object_graph_def.concrete_functions
    for node in meta_graph.graph_def.node:
        name = node.attr["f"].func.name if "f" in node.attr else node.op
        bound = functions[name].bound_inputs if name in functions else ()
        data = [tensor.partition(":")[0] for tensor in node.input if not tensor.startswith("^")]
        if bound:
            yield from zip(data[-len(bound) :], bound, strict=True)


def _match_objects(objects: Any, saved: Any) -> dict[int, int]:
    """The same objects in the SavedModel's graph of objects and in the checkpoint's, by the names on the way from the root."""
    places = {0: 0}
    waiting = [0]
    while waiting:
        place = waiting.pop()
        children = {child.local_name: child.node_id for child in saved.nodes[places[place]].children}
        for child in objects.nodes[place].children:
            if child.local_name in children and child.node_id not in places:
                places[child.node_id] = children[child.local_name]
                waiting.append(child.node_id)
    return places
