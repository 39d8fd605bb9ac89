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
        *("DecodeJpeg", "DecodePaddedRaw", "DecodePng", "DecodeRaw", "DecodeWav", "DynamicPartition", "ListDiff"),
        *("NonMaxSuppression", "NonMaxSuppressionV2", "NonMaxSuppressionV3", "NonMaxSuppressionV4"),
        *("NonMaxSuppressionV5", "NonMaxSuppressionWithOverlaps"),
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

_REDUCTIONS = ("Max", "Mean", "Min", "Prod", "SqrtN", "Sum")
# Which inputs of an op say how large its output is; of the others, all elements are as many as before.
_SIZES = {
    **dict.fromkeys(("BroadcastTo", "MirrorPad", "OneHot", "Pad", "PadV2", "Reshape", "Tile", "TopKV2"), (1,)),
    **dict.fromkeys(("Bincount", "DenseBincount", "Multinomial", "SparseToDense", "StatelessMultinomial"), (1,)),
    **dict.fromkeys(("RandomStandardNormal", "RandomUniform", "RandomUniformInt", "TruncatedNormal"), (0,)),
    **{
        f"StatelessRandom{kind}{version}": (0,)
        for kind in ("Normal", "Uniform", "UniformFullInt", "UniformInt")
        for version in ("", "V2")
    },
    **dict.fromkeys(("StatelessTruncatedNormal", "StatelessTruncatedNormalV2"), (0,)),
    **dict.fromkeys(("ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor"), (1,)),
    **dict.fromkeys(("LinSpace", "Range", "Slice", "StridedSlice"), (0, 1, 2, 3)),
    # As many rows as the last id says, or as a number of segments does.
    **{f"Segment{kind}": (1,) for kind in _REDUCTIONS},
    **{f"Segment{kind}V2": (2,) for kind in _REDUCTIONS},
    **{f"UnsortedSegment{kind}": (2,) for kind in _REDUCTIONS},
    **{f"SparseSegment{kind}": (2,) for kind in _REDUCTIONS},
    **{f"SparseSegment{kind}WithNumSegments": (3,) for kind in _REDUCTIONS},
    "ScatterNd": (2,),
    "Fill": (0,),
    "SplitV": (1,),
}
_DIMENSIONS = frozenset({"Rank", "Shape", "ShapeN", "Size"})


def find_data_dependent(graph: FlatGraph, tensors: Mapping[str, TensorSpec]) -> frozenset[str]:
    """The tensors ("node:0") of which an unknown dimension depends on values; where in doubt, it does.

    Method: two marks go along the edges. Values depend on values, unless they come of shapes alone; dimensions do
    where an op makes them of values, and wherever something with such dimensions goes in.
    """
    valued = set(graph.input_tensors)
    sized: set[str] = set()
    constants = {weight.node for weight in graph.weights}
    for node in graph.graph_def.node:
        if node.op in ("Const", "Placeholder") or node.name in constants:
            continue
        inputs = [tensor if ":" in tensor else f"{tensor}:0" for tensor in node.input if not tensor.startswith("^")]
        of_dimensions = node.op in _DIMENSIONS
        has_values = bool(sized.intersection(inputs)) if of_dimensions else bool({*valued, *sized}.intersection(inputs))
        makes = node.op in _MAKERS or bool(sized.intersection(inputs)) or _reads_sizes(node.op, inputs, valued)
        index = 0
        while f"{node.name}:{index}" in tensors:
            name = f"{node.name}:{index}"
            if has_values or not inputs:
                valued.add(name)
            if makes and not of_dimensions and _is_open(node.op, tensors[name]):
                sized.add(name)
            index += 1
    return frozenset(sized)


def _reads_sizes(op: str, inputs: list[str], valued: set[str]) -> bool:
    """Whether an op makes as much as a value says that does not come of shapes alone."""
    sizes = _SIZES.get(op, ())
    first = 1 if op in ("Slice", "StridedSlice") else 0  # their own elements are no sizes
    return any(index in sizes and index >= first and name in valued for index, name in enumerate(inputs))


def _is_open(op: str, spec: TensorSpec) -> bool:
    # As many rows as there were before; how long the longest is, depends on values.
    shape = spec.shape[1:] if spec.shape is not None and op == "RaggedTensorToTensor" else spec.shape
    return shape is None or None in shape
