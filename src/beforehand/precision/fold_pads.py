"""Zeros put around an image before a convolution, into the convolution's own padding: Keras's ZeroPadding2D."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import helper

from beforehand.precision.onnx_graph import OnnxGraph, copy_node, count_readers


def fold_pads(model: OnnxGraph) -> int:
    """Fold what can be folded; how many nodes are gone. Requires nodes in topological order, and keeps them so."""
    readers = count_readers(model.graph)
    pads = {node.output[0]: node for node in model.graph.node if node.op_type == "Pad" and readers[node.output[0]] == 1}
    kept = []
    for node in model.graph.node:
        pad = pads.get(node.input[0]) if node.op_type == "Conv" else None
        folded = None if pad is None else _fold(model, node, pad)
        kept.append(folded or node)
    count = len(model.graph.node)
    model.replace_nodes(kept)
    model.drop_unused()
    return count - len(model.graph.node)


def _fold(model: OnnxGraph, conv: Any, pad: Any) -> Any:
    """The convolution with the padding of `pad` beside its own; None where it is no padding of zeros around the image."""
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in conv.attribute}
    amounts = _read_amounts(model, pad)
    own = attributes.get("pads", [0] * (len(amounts) - 4))
    if not amounts or attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or len(own) != len(amounts) - 4:
        return None
    half = len(amounts) // 2
    begins, ends = amounts[:half], amounts[half:]
    if any(begins[:2]) or any(ends[:2]) or min(amounts) < 0:  # of batch or channels, or a crop
        return None
    folded = copy_node(conv)
    folded.input[0] = pad.input[0]
    kept = [attribute for attribute in folded.attribute if attribute.name not in ("pads", "auto_pad")]
    total = [a + b for a, b in zip(own, [*begins[2:], *ends[2:]], strict=True)]
    del folded.attribute[:]
    folded.attribute.extend([*kept, helper.make_attribute("pads", total)])
    return folded


def _read_amounts(model: OnnxGraph, pad: Any) -> list[int]:
    """How much of zeros `pad` adds, at the beginnings and then at the ends of all dimensions; empty if that is not all."""
    mode: Mapping[str, Any] = {attribute.name: attribute.s for attribute in pad.attribute}
    given = [name for name in pad.input[1:] if name]
    if mode.get("mode", b"constant") != b"constant" or not all(map(model.is_constant, given)):
        return []
    if len(pad.input) > 3 or (
        len(pad.input) == 3 and pad.input[2] and float(model.read(pad.input[2]).reshape(())) != 0
    ):
        return []
    return [int(amount) for amount in model.read(pad.input[1])]
