"""Samples as ranges: a smallest and a largest sample, for one engine that serves all between."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from beforehand.build_engines.pair_shapes import make_range
from beforehand.errors import SampleError
from beforehand.records import Shape, ShapeSet, Signature
from beforehand.saved_model.check_sample import Sample

Shapes = tuple[Shape, ...]


@dataclasses.dataclass(frozen=True)
class SampleRange:
    """The ends of a range; `high` is `low` itself where there is one shape only.

    `opt` has the shapes to be fastest at, by input; None: the largest.
    """

    low: Sample
    high: Sample
    opt: Mapping[str, Shape] | None = None

    @property
    def is_range(self) -> bool:
        """Whether the ends differ."""
        return self.high is not self.low

    def list_shapes(self, names: Sequence[str]) -> tuple[Shapes, Shapes]:
        """The shapes of these inputs at both ends."""
        low, high = (tuple(tuple(sample[name].shape) for name in names) for sample in (self.low, self.high))
        return low, high

    def describe_shapes(self, names: tuple[str, ...]) -> ShapeSet:
        """The range of these inputs."""
        shapes = make_range(names, *self.list_shapes(names))
        opt = tuple(self.opt[name] for name in names) if self.opt is not None else shapes.max_shapes
        return dataclasses.replace(shapes, opt_shapes=opt) if shapes.is_range and opt != shapes.max_shapes else shapes

    @property
    def is_of_batches(self) -> bool:
        """Whether the ends differ in first dimensions alone."""
        pairs = ((self.low[name].shape, self.high[name].shape) for name in self.low)
        return all(low[1:] == high[1:] for low, high in pairs)


def take_singly(samples: Iterable[Sample]) -> Iterator[SampleRange]:
    """Each sample as its own range of one."""
    return (SampleRange(sample, sample) for sample in samples)


def merge_batches(ranges: Iterable[SampleRange], signature: Signature) -> list[SampleRange]:
    """One range for all samples that differ in the batch dimension alone, from the smallest batch to the largest.

    The batch is the first dimension of the inputs whose first dimension varies at all; in each sample it must be the
    same for all of them. An input whose first dimension never varies stays as it is.

    Raises:
        SampleError: BH122, the first dimensions of two inputs vary independently.
    """
    names = [spec.name for spec in signature.inputs]
    groups: dict[Shapes, dict[Shapes, Sample]] = {}
    for item in ranges:
        if not item.is_of_batches:
            raise SampleError(
                f"batch_range is given beside the range {item.describe_shapes(tuple(names)).describe()}",
                why="it joins shapes that differ in the batch alone",
                advice="ranges in other dimensions without batch_range",
            )
        for sample in (item.low, item.high):
            shapes = tuple(tuple(sample[name].shape) for name in names)
            rest = tuple((len(shape), *shape[1:]) for shape in shapes)
            groups.setdefault(rest, {}).setdefault(shapes, sample)
    return [_merge_group(group, names) for group in groups.values()]


def _merge_group(group: dict[Shapes, Sample], names: Sequence[str]) -> SampleRange:
    varying = [i for i in range(len(names)) if len({shapes[i] for shapes in group}) > 1]
    if not varying:
        [sample] = group.values()
        return SampleRange(sample, sample)
    for shapes in group:
        if len({shapes[i][0] for i in varying}) > 1:
            told = ", ".join(f"{names[i]} {shapes[i]}" for i in varying)
            raise SampleError(
                "the samples have no batch dimension in common, so there is no range of batches",
                why=f"the first dimensions of some inputs vary, and differ within one sample: {told}",
                advice="samples in which they are equal, or without batch_range an engine for each set of shapes",
            )
    ordered = sorted(group, key=lambda shapes: shapes[varying[0]][0])
    return SampleRange(group[ordered[0]], group[ordered[-1]])
