"""Signatures that are one segment and nothing else: their calls need nothing of TensorFlow but the tensors."""

from __future__ import annotations

from beforehand.records import Partition, Whole


def find_whole(partition: Partition, first_segment: int) -> Whole | None:
    """How the signature's inputs and outputs stand in its only segment; None where anything else is needed for a call.

    Args:
        partition: What the signature's graph was divided into.
        first_segment: Index of the partition's first segment in the manifest.
    """
    if len(partition.segments) != 1 or partition.native_levels or partition.opened:
        return None
    [segment] = partition.segments
    inputs, outputs = partition.graph.input_tensors, partition.graph.output_tensors
    if not set(segment.input_tensors) <= set(inputs) or not set(outputs) <= set(segment.output_tensors):
        return None  # an output that is an input, or a weight
    return Whole(
        first_segment + segment.index,
        tuple(inputs.index(tensor) for tensor in segment.input_tensors),
        tuple(segment.output_tensors.index(tensor) for tensor in outputs),
    )
