"""A partition and the bodies opened in it as views: each with its tensors, operations and layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from beforehand.graph.edges import list_readers
from beforehand.graph.name_layers import name_layers
from beforehand.records import LeftOut, Partition, Segment, TensorSpec
from beforehand.runtime.tensorflow_private import find_op_def
from beforehand.segment.count_graph_flops import count_graph_flops
from beforehand.segment.describe_tensors import describe_tensors


@dataclasses.dataclass(frozen=True)
class PartView:
    """A partition, or that of a body, with what is asked of its nodes.

    Attributes:
        part: The partition.
        tensors: Of its graph.
        flops: Of each node, by name.
        layers: Of each node, by name; in a body all are in the layer of the loop or branch.
        inside: The loop or branch; empty: none.
        idle: Nodes that do nothing (`NoOp`), which nobody counts.
        bodies: Of each of its opened loops and branches, the views of the bodies.
    """

    part: Partition
    tensors: Mapping[str, TensorSpec]
    flops: Mapping[str, int]
    layers: Mapping[str, str]
    inside: str
    idle: frozenset[str]
    bodies: Mapping[str, tuple[PartView, ...]]

    def walk(self) -> Iterator[PartView]:
        """This view and those of all bodies, in the order of `Partition.walk`."""
        yield self
        for bodies in self.bodies.values():
            for body in bodies:
                yield from body.walk()

    def list_native(self) -> Iterator[tuple[LeftOut, int]]:
        """What is left out of this part alone, with its operations: none where they are its bodies'."""
        for node in self.part.left_out:
            yield node, 0 if node.name in self.bodies else self.flops[node.name]

    def list_nodes(self, segment: Segment) -> list[str]:
        """Names of a segment's nodes, without those that do nothing."""
        return [name for name in segment.nodes if name not in self.idle]

    def sum_flops(self, segment: Segment) -> int:
        """Operations of a segment of this part."""
        return sum(self.flops[name] for name in segment.nodes)


def view_parts(partition: Partition, inside: str = "", layer: str = "") -> PartView:
    """The view of a partition.

    Args:
        partition: Of a signature's graph, or of a body.
        inside: The loop or branch that it is a body of.
        layer: The layer of that.
    """
    graph_def = partition.graph.graph_def
    tensors = describe_tensors(partition.graph)
    named = name_layers(list_readers(graph_def.node))
    layers = dict.fromkeys(named, layer) if inside else named
    bodies = {
        opened.node: tuple(view_parts(body, opened.node, layers[opened.node]) for body in opened.bodies)
        for opened in partition.opened
    }
    flops = count_graph_flops(graph_def, tensors, find_op_def)
    idle = frozenset(node.name for node in graph_def.node if node.op == "NoOp")
    return PartView(partition, tensors, flops, layers, inside, idle, bodies)
