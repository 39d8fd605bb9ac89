"""Dilated convolutions: one operation where TensorFlow writes three.

TensorFlow cuts the image into as many pieces as the dilation (SpaceToBatchND), convolves these, and puts the results together
(BatchToSpaceND). TensorRT's parser does not take what becomes of that in ONNX, and it moves all the data twice. Where the paddings and
crops are, for every size of the image, those of a convolution with dilations, that is what is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from beforehand.graph.nodes import prune
from beforehand.lower.cut_segment import CutSegment, make_constant
from beforehand.lower.follow_sizes import (
    UnknownSizeError,
    find_origin,
    follow_sizes,
    make_axis_size,
    make_constant_size,
)

_CONVOLUTIONS = {"Conv2D": 4, "DepthwiseConv2dNative": 4, "Conv3D": 5}  # their ranks


@dataclasses.dataclass(frozen=True)
class _Dilated:
    """Operations that are one dilated convolution.

    Attributes:
        pieces: Cuts the image.
        convolution: Convolves the pieces.
        whole: Puts the results together.
        dilations: By axis of the convolution.
        pads: By axis of the image, how many zeros before and after.
        inserted: The axis that the convolution has and the image has not; None: there is none.
    """

    pieces: Any
    convolution: Any
    whole: Any
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    inserted: int | None


def merge_dilations(cut: CutSegment) -> CutSegment:
    """The segment with one convolution for each such three operations, wherever that is the same for every size.

    It stays as it is in the bodies of loops and branches. Operations keep their names.
    """
    if not any(node.op == "BatchToSpaceND" for node in cut.graph_def.node):
        return cut
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(cut.graph_def, name="")
    found = [
        _match(operation, cut.outputs) for operation in graph.get_operations() if operation.type == "BatchToSpaceND"
    ]
    changed: dict[str, tuple[Any, ...]] = {}
    for dilated in filter(None, found):
        changed.update(_write(dilated))
    return dataclasses.replace(cut, graph_def=_rewrite(cut, changed)) if changed else cut


def _match(whole: Any, wanted: tuple[str, ...]) -> _Dilated | None:
    chain = _find_chain(whole, wanted)
    if chain is None:
        return None
    pieces, convolution, inserted = chain
    rank, wanted_rank = pieces.inputs[0].shape.rank, _CONVOLUTIONS[convolution.type]
    if rank is None or rank + (inserted is not None) != wanted_rank or (inserted is not None and wanted_rank != 4):
        return None
    try:
        blocks = [size.constant for size in follow_sizes(pieces.inputs[1], pieces.inputs[0])]
        again = [size.constant for size in follow_sizes(whole.inputs[1], pieces.inputs[0])]
        pads = _find_pads(pieces, whole, blocks) if blocks == again else None
    except UnknownSizeError:
        return None
    if pads is None:
        return None
    axes = [1, *blocks, *[1] * (rank - 1 - len(blocks))]
    if inserted is not None:
        axes.insert(inserted, 1)
    if not _is_plain(convolution, axes):
        return None
    return _Dilated(pieces, convolution, whole, tuple(axes), ((0, 0), *pads), inserted)


def _find_chain(whole: Any, wanted: tuple[str, ...]) -> tuple[Any, Any, int | None] | None:
    """What cuts into pieces, what convolves them, and the axis that one along time has besides; nobody else reads what is between."""
    squeeze = _step_back(whole, wanted)
    if squeeze is None or squeeze.type != "Squeeze":
        convolution, inserted = squeeze, None
    else:
        convolution = _step_back(squeeze, wanted)
        inserted = _read_axis(squeeze.get_attr("squeeze_dims"))
    if (
        convolution is None
        or convolution.type not in _CONVOLUTIONS
        or (squeeze is not convolution and inserted is None)
    ):
        return None
    pieces = _step_back(convolution, wanted)
    if inserted is not None and pieces is not None:
        dims = tf.get_static_value(pieces.inputs[1]) if pieces.type == "ExpandDims" else None
        if dims is None or _read_axis(np.ravel(dims).tolist()) != inserted:
            return None
        pieces = _step_back(pieces, wanted)
    return (pieces, convolution, inserted) if pieces is not None and pieces.type == "SpaceToBatchND" else None


def _step_back(operation: Any, wanted: tuple[str, ...]) -> Any | None:
    """What makes the first input, if it makes it for this operation alone."""
    tensor = operation.inputs[0]
    return None if tensor.name in wanted or len(tensor.consumers()) != 1 else tensor.op


def _read_axis(axes: list[int]) -> int | None:
    """The one axis, of the four of a convolution, if it is one of the image's."""
    places = [axis % 4 for axis in axes]
    return places[0] if len(places) == 1 and places[0] in (1, 2) else None


def _find_pads(pieces: Any, whole: Any, blocks: list[int]) -> list[tuple[int, int]] | None:
    """How many zeros each axis of the image gets before and after, if that is the same for all sizes.

    The image with its paddings must be whole blocks. Of the result, crops take off what comes of paddings alone.
    """
    image = find_origin(pieces.inputs[0])
    paddings, crops = follow_sizes(pieces.inputs[2], image), follow_sizes(whole.inputs[2], image)
    dims = image.shape.as_list()
    found = []
    for axis, (block, padding, crop) in enumerate(zip(blocks, paddings, crops, strict=True), 1):
        size = make_axis_size(axis) if dims[axis] is None else make_constant_size(dims[axis])
        left = (size + padding[0] + padding[1]) % make_constant_size(block)
        before, after = (padding[0] - crop[0]).constant, (padding[1] - crop[1]).constant
        if left.constant != 0 or before < 0 or after < 0:
            return None
        found.append((before, after))
    return found


def _is_plain(convolution: Any, blocks: list[int]) -> bool:
    """Whether the convolution of the pieces neither pads nor, where they are pieces, skips anything, and the channels are whole."""
    channels = 1 if convolution.get_attr("data_format").startswith(b"NC") else len(blocks) - 1
    steps = zip(blocks, convolution.get_attr("strides"), convolution.get_attr("dilations"), strict=True)
    return (
        convolution.get_attr("padding") == b"VALID"
        and blocks[channels] == 1
        and all(block == 1 or (stride == 1 and dilation == 1) for block, stride, dilation in steps)
    )


def _write(found: _Dilated) -> Mapping[str, tuple[Any, ...]]:
    """By the names of the nodes that are replaced, those that take their places."""
    image = found.pieces.inputs[0].name
    pieces, convolution, whole = (_copy_node(operation) for operation in (found.pieces, found.convolution, found.whole))
    padded = [pair for pair in found.pads if pair != (0, 0)]
    extra = []
    _replace(whole, "Identity", [found.whole.inputs[0].name], T=whole.attr["T"])
    if padded and found.convolution.type == "Conv3D":  # it has no paddings of its own
        amounts = np.zeros((found.pieces.inputs[0].shape.rank, 2), np.int32)
        amounts[: len(found.pads)] = found.pads
        extra.append(make_constant(f"{pieces.name}_merged", amounts))
        _replace(pieces, "Pad", [image, f"{pieces.name}_merged:0"], T=pieces.attr["T"])
        pieces.attr["Tpaddings"].type = tf.int32.as_datatype_enum
    else:
        _replace(pieces, "Identity", [image], T=pieces.attr["T"])
        if padded:
            _pad_convolution(convolution, found)
    old = convolution.attr["dilations"].list.i
    dilations = [a * b for a, b in zip(found.convolution.get_attr("dilations"), found.dilations, strict=True)]
    del old[:]
    old.extend(dilations)
    return {pieces.name: (*extra, pieces), convolution.name: (convolution,), whole.name: (whole,)}


def _pad_convolution(convolution: Any, found: _Dilated) -> None:
    pads = list(found.pads)
    if found.inserted is not None:
        pads.insert(found.inserted, (0, 0))
    pads.extend([(0, 0)] * (len(found.dilations) - len(pads)))
    convolution.attr["padding"].s = b"EXPLICIT"
    del convolution.attr["explicit_paddings"].list.i[:]
    convolution.attr["explicit_paddings"].list.i.extend(amount for pair in pads for amount in pair)


def _copy_node(operation: Any) -> Any:
    copy = tf.compat.v1.NodeDef()
    copy.CopyFrom(operation.node_def)
    return copy


def _replace(node: Any, op: str, inputs: list[str], **attributes: Any) -> None:
    """Make another op of a node."""
    kept = {name: type(value).FromString(value.SerializeToString()) for name, value in attributes.items()}
    node.op = op
    del node.input[:]
    node.input.extend(inputs)
    node.attr.clear()
    for name, value in kept.items():
        node.attr[name].CopyFrom(value)


def _rewrite(cut: CutSegment, changed: Mapping[str, tuple[Any, ...]]) -> Any:
    """The graph with some nodes replaced, without those that nothing needs any more."""
    nodes = [new for node in cut.graph_def.node for new in changed.get(node.name, (node,))]
    kept = {node.name: node for node in nodes}
    prune(kept, [*cut.outputs, *(node.name for node in nodes if node.op == "Placeholder")])
    rewritten = tf.compat.v1.GraphDef()
    rewritten.versions.CopyFrom(cut.graph_def.versions)
    rewritten.library.CopyFrom(cut.graph_def.library)
    rewritten.node.extend(kept.values())
    return rewritten
