"""From a segment's ONNX file to the one that a strongly typed builder parses: joined, folded, and cast to its precision."""

from __future__ import annotations

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Sequence

from beforehand.precision.cast_to_half import cast_to_half
from beforehand.precision.choose_half import Choice
from beforehand.precision.fold_constants import fold_constants
from beforehand.precision.fold_into_conv import fold_into_conv
from beforehand.precision.fold_pads import fold_pads
from beforehand.precision.formats import HALVES
from beforehand.precision.join_gelu import join_gelu
from beforehand.precision.join_layer_norm import join_layer_norm
from beforehand.precision.onnx_graph import OnnxGraph


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The file, and what was done: for the build's log."""

    file: pathlib.Path
    norms: int
    gelus: int
    folded: int
    in_half: tuple[tuple[str, int], ...]
    in_float: tuple[tuple[str, int], ...]

    def describe(self) -> str:
        """One line for each kind of thing that was done."""
        joined = f"joined to LayerNormalization: {self.norms}, to Gelu: {self.gelus}"
        lines = [f"{joined}; nodes folded into convolutions: {self.folded}"]
        for words, counted in (("half precision", self.in_half), ("float32", self.in_float)):
            if counted:
                lines.append(f"in {words}: " + ", ".join(f"{name} {count}" for name, count in counted))
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Folded:
    """A model in float32 that computes the same with fewer nodes: how many were joined to one, how many are gone."""

    model: OnnxGraph
    norms: int
    gelus: int
    folded: int


def fold_model(onnx_file: str, *, has_gelu: bool) -> Folded:
    """What is done in every precision, before anything is rounded or measured; with Gelu, whose opset not all read, or without."""
    model = OnnxGraph(onnx_file)
    fold_constants(model)
    norms, gelus = join_layer_norm(model), join_gelu(model) if has_gelu else 0
    return Folded(model, norms, gelus, fold_into_conv(model) + fold_pads(model))


def prepare_model(onnx_file: str, precision: str, folder: pathlib.Path) -> Prepared:
    """Write the model for `precision` ("FP16", "BF16"; anything else is float32) into `folder`, which is empty."""
    start = fold_model(onnx_file, has_gelu=True)
    model, norms, gelus, folded = start.model, start.norms, start.gelus, start.folded
    half = HALVES.get(precision)
    if half is None:
        return Prepared(model.write(folder), norms, gelus, folded, (), ())
    ops = [node.op_type for node in model.graph.node]
    choice = cast_to_half(model, half)
    return Prepared(model.write(folder), norms, gelus, folded, *_count(ops, choice))


def _count(ops: Sequence[str], choice: Choice) -> tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]]:
    in_half = Counter(op for op, chosen in zip(ops, choice.half, strict=True) if chosen)
    in_float = Counter(f"{ops[place]} ({reason})" for place, reason in choice.reasons.items())
    return tuple(in_half.most_common()), tuple(in_float.most_common())
