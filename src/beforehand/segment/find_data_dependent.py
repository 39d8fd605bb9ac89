"""Tensors whose shape depends on the values given, not on their shapes alone: words in a text, pixels in a JPEG.

An engine for one such shape would serve next to no other call, so engines take these dimensions as they come.
"""

from __future__ import annotations

from collections.abc import Mapping

from beforehand.records import FlatGraph, TensorSpec

# Ops that make as many elements as they find. `While` and the like are not among them: their outputs have shapes of their
# own making only where a list of tensors is stacked, which these are then.
_MAKERS = frozenset(
    (
        *("BooleanMask", "DecodeAndCropJpeg", "DecodeBmp", "DecodeCompressed", "DecodeCSV", "DecodeGif", "DecodeImage"),
        *("DecodeJpeg", "DecodePaddedRaw", "DecodePng", "DecodeRaw", "DecodeWav", "DynamicPartition", "ParseExample"),
        *("NonMaxSuppression", "NonMaxSuppressionV2", "NonMaxSuppressionV3", "NonMaxSuppressionV4", "ParseExampleV2"),
        *("NonMaxSuppressionV5", "NonMaxSuppressionWithOverlaps", "ParseSequenceExample", "ParseSingleExample"),
        *(
            "RaggedRange",
            "RaggedTensorToSparse",
            "RaggedTensorToTensor",
            "SparseReshape",
            "SparseSlice",
            "StringNGrams",
        ),
        *("SparseFillEmptyRows", "StringSplit", "StringSplitV2", "UnicodeDecode", "UnicodeDecodeWithOffsets"),
        *("Unique", "UniqueV2", "UniqueWithCounts", "UniqueWithCountsV2", "Where"),
    )
)


def find_data_dependent(graph: FlatGraph, tensors: Mapping[str, TensorSpec]) -> frozenset[str]:
    """The tensors ("node:0") of which an unknown dimension depends on values; where in doubt, it does.

    Method: what such an op makes depends on values, and so does all that is computed from it and has unknown dimensions.
    """
    found: set[str] = set()
    for node in graph.graph_def.node:
        inputs = [tensor if ":" in tensor else f"{tensor}:0" for tensor in node.input if not tensor.startswith("^")]
        if node.op not in _MAKERS and not found.intersection(inputs):
            continue
        index = 0
        while f"{node.name}:{index}" in tensors:
            shape = tensors[f"{node.name}:{index}"].shape
            if shape is None or None in shape:
                found.add(f"{node.name}:{index}")
            index += 1
    return frozenset(found)
