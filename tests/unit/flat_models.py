"""What several tests need: small modules saved and frozen, flat graphs run, models converted with engines in them."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

import beforehand
from beforehand.freeze.freeze_signature import CheckpointKeys, find_checkpoint_keys, freeze_signature
from beforehand.records import FlatGraph
from beforehand.runtime.tensorflow_private import find_op_def
from beforehand.saved_model.open_weights import ReadWeight, open_weights
from beforehand.saved_model.read_saved_model import Source, read_saved_model

Arrays = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A SavedModel's signatures as flat graphs."""

    source: Source
    keys: CheckpointKeys
    graphs: Mapping[str, FlatGraph]
    read: ReadWeight

    @property
    def graph(self) -> FlatGraph:
        return self.graphs["serving_default"]

    def list_ops(self) -> list[str]:
        return [node.op for node in self.graph.graph_def.node]

    def list_inner_ops(self) -> list[str]:
        return [node.op for function in self.graph.graph_def.library.function for node in function.node_def]

    def run(self, inputs: Arrays, key: str = "serving_default") -> Arrays:
        """The outputs of a flat graph without tables, run by TensorFlow with the weights fed; by the signature's names."""
        graph = self.graphs[key]
        feeds = {f"{weight.node}:0": self.read(weight) for weight in graph.weights}
        for spec, tensor in zip(graph.signature.inputs, graph.input_tensors, strict=True):
            feeds[tensor] = inputs[spec.name]
        wanted = dict(zip((spec.name for spec in graph.signature.outputs), graph.output_tensors, strict=True))
        with tf.Graph().as_default() as imported:
            tf.graph_util.import_graph_def(graph.graph_def, name="")
            with tf.compat.v1.Session(graph=imported) as session:
                found: Arrays = session.run(wanted, feeds)
        return found


def save(folder: pathlib.Path, module: tf.Module, specs: list[tf.TensorSpec], **functions: Callable[..., Any]) -> None:
    """Save `module` with these functions as its signatures."""
    signatures = {
        key: tf.function(function, input_signature=specs, autograph=False) for key, function in functions.items()
    }
    module.functions = list(signatures.values())
    tf.saved_model.save(module, str(folder), signatures=signatures)


def freeze(folder: pathlib.Path) -> Frozen:
    source = read_saved_model(folder, ["serve"], None)
    keys = find_checkpoint_keys(source.meta_graph, find_op_def)
    constants: dict[str, Any] = {}
    graphs = {}
    for item in source.signatures:
        graph = freeze_signature(
            source.meta_graph, item.signature, item.input_tensors, item.output_tensors, keys, find_op_def
        )
        constants.update(graph.constants)
        graphs[item.signature.key] = graph
    return Frozen(source, keys, graphs, open_weights(source, constants))


def answer(folder: pathlib.Path, inputs: Arrays, key: str = "serving_default") -> Arrays:
    """What TensorFlow itself answers."""
    loaded = tf.saved_model.load(str(folder))
    results = loaded.signatures[key](**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in results.items()}


def expect_same(found: Arrays, expected: Arrays) -> None:
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        if value.dtype == object:
            assert np.asarray(found[name]).tolist() == value.tolist()
        else:
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def convert(folder: pathlib.Path, inputs: Arrays, target: pathlib.Path, **options: Any) -> Arrays:
    """Convert, build for the shapes of `inputs`, save, load and call; the answers, and under "" the counts."""
    converter = beforehand.Converter(folder, **options)
    converter.convert()
    converter.build(input_fn=lambda: iter([inputs]))
    converter.save(target)
    loaded = tf.saved_model.load(str(target))
    results = loaded.signatures["serving_default"](**{name: tf.constant(value) for name, value in inputs.items()})
    found = {name: value.numpy() for name, value in results.items()}
    return {**found, "": beforehand.stats(loaded)}
