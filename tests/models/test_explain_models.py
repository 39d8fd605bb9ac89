"""What is explained of each model of the tables is what a build of it then leaves in TensorFlow."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterable

import life_cycle
import pytest
from conftest import TABLE
from convert_here import convert

import beforehand
from beforehand.explanation.explanation import ExplainedGraph

# Of these the saved graph itself is read; none has a body whose nodes have the names of others outside.
READ = ("spectrogram", "nested_inputs", "string_lookup", "resize_antialias")
# Converted and built for these tests alone, and so in `make test-all` but for a few of each kind.
QUICK = (*READ, "lstm", "detector", "bert", "while_with_text")
PARAMETERS = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow], id=name) for name in TABLE]


@pytest.mark.parametrize("model", PARAMETERS)
def test_the_nodes_named_are_those_that_the_build_left_out(
    model: str, lived_model: Callable[[str], life_cycle.Life]
) -> None:
    life = lived_model(model)
    assert "failed" not in life.converted, life.converted["failed"]
    explanation = beforehand.explain(life.source, backends=["openvino"], **TABLE[model].options)
    graphs = explanation.find("openvino").graphs
    named = [(graph.signatures[0], node.name, node.op, node.reason) for graph in graphs for node in graph.native]
    left = [(key, node["name"], node["op"], node["reason"]) for key, node in life.converted["left_out"]]
    assert named == left
    segments = [(segment.name, round(segment.flops_share, 12)) for graph in graphs for segment in graph.segments]
    assert segments == [(item["name"], round(item["share"], 12)) for item in life.converted["segments"]]
    for graph in graphs:
        assert sum(layer.nodes for layer in graph.layers) == graph.nodes
        assert sum(layer.native_nodes for layer in graph.layers) == len(graph.native)
    check_converted(life.folder, graphs)


def check_converted(folder: pathlib.Path, graphs: Iterable[ExplainedGraph]) -> None:
    """What is told of the converted model is what was told of its source, operations and changes apart."""
    explanation = beforehand.explain(folder)
    assert explanation.kind == "converted"
    [told] = explanation.backends
    for first, second in zip(graphs, told.graphs, strict=True):
        assert first.signatures == second.signatures
        assert list_native(first) == list_native(second)
        assert first.nodes == second.nodes
        assert first.flops_share == pytest.approx(second.flops_share)


def list_native(graph: ExplainedGraph) -> list[tuple[str, str, str]]:
    """Name, reason and detail of each; tf2onnx numbers its nodes through the life of a process."""
    return [(node.name, node.reason, re.sub(r"___?\d+", "", node.detail)) for node in graph.native]


@pytest.mark.parametrize("model", READ)
def test_the_nodes_named_stand_outside_of_engine_calls_in_the_saved_graph_and_no_others(
    model: str, lived_model: Callable[[str], life_cycle.Life]
) -> None:
    life = lived_model(model)
    [*graphs] = beforehand.explain(life.source, backends=["openvino"], **TABLE[model].options).backends[0].graphs
    outside = read_outside(life.folder)
    kept_apart = ("HashTableV2", "VarHandleOp")  # made once a load, not where they are used
    named = {
        node.name for graph in graphs for node in graph.native if node.op not in kept_apart and "While" not in node.op
    }
    assert named
    assert not named - outside
    inside = {name for segment in list_segments(life.source) for name in segment}
    assert len(inside) > 5
    assert not inside & outside


def list_segments(source: pathlib.Path) -> list[set[str]]:
    """Names of the nodes of each segment of a conversion, apart from such as an engine's call has too."""
    converter = convert(source)
    assert converter._converted is not None
    parts = [part for top in converter._converted[1].partitions for part in top.walk()]
    return [
        {
            node.name
            for node in part.graph.graph_def.node
            if node.name in segment.nodes and node.op not in ("Identity", "NoOp")
        }
        for part in parts
        for segment in part.segments
    ]


def read_outside(folder: pathlib.Path) -> set[str]:
    """Names of nodes in the functions of the signatures of a saved model, without the native forms of its segments."""
    from beforehand.runtime.tensorflow_private import read_saved_model_proto

    meta_graph = read_saved_model_proto(folder / "saved_model.pb").meta_graphs[0]
    functions = {function.signature.name: function for function in meta_graph.graph_def.library.function}
    waiting = [name for name in functions if "__inference_signature_" in name and "_wrapper" not in name]
    seen, found = set(waiting), set()
    assert waiting
    while waiting:
        for node in functions[waiting.pop()].node_def:
            found.add(node.name)
            for value in node.attr.values():
                for name in (value.func.name, *(item.name for item in value.list.func)):
                    if name in functions and name not in seen and "_native_segment" not in name:
                        seen.add(name)
                        waiting.append(name)
    return found
