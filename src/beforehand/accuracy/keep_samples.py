"""The samples of a build that are kept for comparing its engines: a few of each set of shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from beforehand.records import Shape
from beforehand.saved_model.check_sample import Sample
from beforehand.saved_model.sample_range import SampleRange


@dataclasses.dataclass
class KeptSamples:
    """Up to `most` samples of each set of shapes, in the order in which they came."""

    most: int
    samples: list[Sample] = dataclasses.field(default_factory=list)
    _seen: dict[tuple[Shape, ...], int] = dataclasses.field(default_factory=dict)

    def watch(self, ranges: Iterable[SampleRange]) -> Iterator[SampleRange]:
        """The same ranges, one after the other, with what is to be kept of them kept."""
        for item in ranges:
            self.add(item.low)
            if item.is_range:
                self.add(item.high)
            yield item

    def add(self, sample: Sample) -> None:
        """Keep a sample, unless there are enough of its shapes. Of those without values one says it all."""
        shapes = tuple(tuple(array.shape) for array in sample.values())
        enough = self.most if has_values(sample) else min(self.most, 1)
        if self._seen.get(shapes, 0) < enough:
            self._seen[shapes] = self._seen.get(shapes, 0) + 1
            # A generator may fill the same array again.
            self.samples.append({name: np.array(array) for name, array in sample.items()})


def has_values(sample: Sample) -> bool:
    """Whether a sample is more than its shapes: not, where each array is one value throughout, as zeros are."""
    several = [array for array in sample.values() if array.size > 1]
    return not several or any((array != array.flat[0]).any() for array in several)
