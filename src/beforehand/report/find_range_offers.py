"""Engines that differ in the batch alone, for each of which the weights are stored again; and what a range would cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from beforehand.records import Engine, ShapeSet

# Below this nobody needs to be told: it is half of a ResNet50's weights, and more than MobileNetV2 costs at four batch sizes.
WORTH_SAYING_BYTES = 50_000_000


@dataclasses.dataclass(frozen=True)
class RangeOffer:
    """Several engines of one segment, and the one that could stand for them.

    `bytes` is what they cost together, `range_bytes` what one costs that serves `shapes`: no more than the largest of
    them, as an engine's size is that of its weights.
    """

    segment: str
    engines: int
    bytes: int
    range_bytes: int
    shapes: ShapeSet

    @property
    def is_worth_saying(self) -> bool:
        """Whether a line in a log is worth what would be saved."""
        return self.bytes - self.range_bytes >= WORTH_SAYING_BYTES

    def describe(self) -> str:
        """One sentence, with what to do."""
        return (
            f"{self.engines} engines of {self.segment} that differ in the batch alone cost {self.bytes / 1e6:.0f} MB on "
            f"disk, as each holds all weights; one for {self.shapes.describe()} would cost {self.range_bytes / 1e6:.0f} MB: "
            "build(..., batch_range=True), or --batch-range"
        )


def find_range_offers(engines: Iterable[Engine]) -> tuple[RangeOffer, ...]:
    """An offer for every group of two or more engines of one segment whose shapes differ in first dimensions alone."""
    groups: dict[Any, list[Engine]] = {}
    for engine in engines:
        largest = engine.shapes.max_shapes or engine.shapes.shapes
        rest = tuple((len(shape), *shape[1:]) for shape in engine.shapes.shapes)
        if rest == tuple((len(shape), *shape[1:]) for shape in largest):
            same = (engine.segment, engine.backend, engine.precision, engine.target, rest)
            groups.setdefault(same, []).append(engine)
    offers = (_make_offer(group) for group in groups.values() if len(group) > 1)
    return tuple(offer for offer in offers if offer)


def _make_offer(group: list[Engine]) -> RangeOffer | None:
    """None where the first dimensions do not grow together, so that they are not one batch."""
    low = min(engine.shapes.shapes for engine in group)
    high = max(engine.shapes.max_shapes or engine.shapes.shapes for engine in group)
    shapes = ShapeSet(group[0].shapes.names, low, high)
    if not all(shapes.contains(engine.shapes.shapes) for engine in group):
        return None
    sizes = [engine.bytes for engine in group]
    return RangeOffer(group[0].segment, len(group), sum(sizes), max(sizes), shapes)
