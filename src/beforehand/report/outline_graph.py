"""A divided graph as a few hundred blocks at most: its segments, and its native nodes by level and Keras layer.

A model has from two nodes to tens of thousands. What can be read at a glance is a hundred boxes: so native nodes of one level share a
box if their layers share enough outer scopes, by the deepest cut that leaves at most `MOST_NATIVE` boxes. Boxes of one level
that read of each other both ways are one box: the blocks have no cycle.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from beforehand.graph.edges import list_readers, name_node
from beforehand.graph.name_layers import name_layers
from beforehand.records import LeftOut, Manifest, Partition, Signature, TensorSpec, describe_shape
from beforehand.report.count_layers import count_layers, cut_layer, find_common
from beforehand.report.join_cycles import join_cycles, sort_blocks
from beforehand.report.report_records import INPUT, LOOP, NATIVE, OUTPUT, SEGMENT, Block, Counts, GraphOutline

MOST_NATIVE = 60
_MOST_PORTS = 12  # inputs, and outputs, with a box of their own
_Key = tuple[str, str]


def outline_graphs(partitions: Iterable[tuple[Partition, str]]) -> tuple[GraphOutline, ...]:
    """Each partition, given with its title, and after it the bodies of its loops and branches."""
    return tuple(_outline(part, name) for partition, title in partitions for part, name in _walk(partition, title))


def _walk(partition: Partition, title: str) -> Iterator[tuple[Partition, str]]:
    yield partition, title
    for opened in partition.opened:
        for index, body in enumerate(opened.bodies):
            yield from _walk(body, f"{title}, body {index + 1} of {opened.node}")


@dataclasses.dataclass(frozen=True)
class _Facts:
    """Of every node of a graph its op and layer; of native nodes the reason."""

    ops: Mapping[str, str]
    layers: Mapping[str, str]
    reasons: Mapping[str, str]


def _outline(partition: Partition, title: str) -> GraphOutline:
    nodes = {node.name: node for node in partition.graph.graph_def.node}
    facts = _Facts(
        {name: node.op for name, node in nodes.items()},
        name_layers(list_readers(nodes.values())),
        {node.name: node.reason for node in partition.left_out},
    )
    home, members = _place_nodes(partition, facts)
    reads: dict[_Key, set[_Key]] = {key: set() for key in members}
    for key, names in members.items():
        for name in names if key[0] not in (INPUT, OUTPUT) else ():
            for tensor in nodes[name].input:
                before = home.get(name_node(tensor)) if not tensor.startswith("^") else None
                if before is not None and before != key:
                    reads[key].add(before)
    for index, tensor in enumerate(partition.graph.output_tensors):
        before = home.get(name_node(tensor))
        if before is not None:
            reads[_port(OUTPUT, index, len(partition.graph.output_tensors))].add(before)
    members, reads = join_cycles(members, reads)
    order = sort_blocks(reads)
    place = {key: index for index, key in enumerate(order)}
    return GraphOutline(
        title,
        tuple(_make_block(key, members[key], partition.graph.signature, facts) for key in order),
        tuple((place[before], place[key]) for key in order for before in sorted(reads[key], key=place.__getitem__)),
    )


def _place_nodes(partition: Partition, facts: _Facts) -> tuple[dict[str, _Key], dict[_Key, list[str]]]:
    """The block of each node, and the nodes of each block."""
    members: dict[_Key, list[str]] = {}
    graph = partition.graph
    for kind, tensors in ((INPUT, graph.input_tensors), (OUTPUT, graph.output_tensors)):
        for index, tensor in enumerate(tensors):
            members.setdefault(_port(kind, index, len(tensors)), []).append(name_node(tensor))
    home = {name: key for key, names in members.items() if key[0] == INPUT for name in names}
    for segment in partition.segments:
        members[SEGMENT, segment.name] = [name for name in segment.nodes if facts.ops[name] != "NoOp"]
    for opened in partition.opened:
        members[LOOP, opened.node] = [opened.node]
    native = [(level, name) for level, names in partition.native_levels for name in names if facts.ops[name] != "NoOp"]
    for (level, name), layer in zip(native, _choose_layers(native, facts.layers), strict=True):
        members.setdefault((NATIVE, f"{level}/{layer}"), []).append(name)
    home.update((name, key) for key, names in members.items() if key[0] not in (INPUT, OUTPUT) for name in names)
    return home, members


def _choose_layers(native: list[tuple[int, str]], named: Mapping[str, str]) -> list[str]:
    """Of each native node its layer, cut so that there are at most `MOST_NATIVE` pairs of level and layer, if that can be."""
    layers = [named[name] for _, name in native]
    depth = max((layer.count("/") + 1 for layer in layers), default=0)
    levels = [level for level, _ in native]
    cut = layers
    while len(set(zip(levels, cut, strict=True))) > MOST_NATIVE and depth > 0:
        depth -= 1
        cut = [cut_layer(layer, depth) for layer in layers]
    return cut


def _port(kind: str, index: int, count: int) -> _Key:
    return kind, str(index) if count <= _MOST_PORTS else "all"


def _make_block(key: _Key, names: list[str], signature: Signature, facts: _Facts) -> Block:
    kind, name = key
    if kind in (INPUT, OUTPUT):
        return _make_port(kind, name, signature.inputs if kind == INPUT else signature.outputs)
    layers = count_layers(facts.layers[node] for node in names)
    if kind == NATIVE:
        name = find_common(layer for layer, _ in layers) or f"{len(layers)} layers"
    ops = _count(facts.ops[node] for node in names)
    return Block(kind, name, len(names), layers, ops, _count(facts.reasons[n] for n in names if n in facts.reasons))


def _make_port(kind: str, index: str, specs: tuple[TensorSpec, ...]) -> Block:
    if index == "all":
        return Block(kind, f"{len(specs)} {kind}s", detail=", ".join(spec.describe() for spec in specs))
    spec = specs[int(index)] if int(index) < len(specs) else TensorSpec(f"{kind} {index}", "", None)
    return Block(kind, spec.name, detail=f"{spec.dtype} {describe_shape(spec.shape)}".strip())


def _count(words: Iterable[str]) -> Counts:
    return tuple(sorted(Counter(words).items(), key=lambda pair: (-pair[1], pair[0])))


def outline_manifest(manifest: Manifest) -> tuple[GraphOutline, ...]:
    """What the manifest alone tells: segments that read of each other by name, and native nodes by layer, without edges."""
    found = []
    for signature in manifest.signatures:
        segments = [segment for segment in manifest.segments if segment.signature == signature.key]
        native = [node for key, node in manifest.native_nodes if key == signature.key]
        if not segments and not native:
            continue  # it shares the graph of another
        blocks = [_make_port(INPUT, str(i), signature.inputs) for i in range(len(signature.inputs))]
        made_by = {spec.name: place for place, spec in enumerate(signature.inputs)}
        edges = []
        for segment in segments:
            edges += [(made_by[spec.name], len(blocks)) for spec in segment.inputs if spec.name in made_by]
            made_by.update((spec.name, len(blocks)) for spec in segment.outputs)
            blocks.append(Block(SEGMENT, segment.name, segment.nodes, ops=segment.node_ops))
        groups: dict[str, list[LeftOut]] = {}
        named = name_layers({node.name: () for node in native})
        for node, layer in zip(native, _choose_layers([(0, node.name) for node in native], named), strict=True):
            groups.setdefault(layer, []).append(node)
        blocks += [
            Block(NATIVE, layer or "native nodes", len(nodes), count_layers(named[node.name] for node in nodes),
                  _count(node.op for node in nodes), _count(node.reason for node in nodes))
            for layer, nodes in groups.items()
        ]  # fmt: skip
        found.append(GraphOutline(signature.key, tuple(blocks), tuple(dict.fromkeys(edges)), has_edges=False))
    return tuple(found)
