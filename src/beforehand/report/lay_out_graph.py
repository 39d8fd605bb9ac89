"""Where the blocks of a graph stand and how its edges run, in pixels. Rows from top to bottom, as the data flows.

Method: Sugiyama's. A block stands one row below the lowest that it reads of; an edge that passes rows gets a place of its
own in each; rows are ordered by the mean place of their neighbours, then pulled towards these without overlap.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from beforehand.report.report_records import GraphOutline

WIDTH, HEIGHT = 236, 46
GAP, ROW_GAP = 24, 40
_LANE = 12  # width of the place of an edge that passes a row
_SWEEPS = 6
_WRAP = 8  # boxes a row, where no edges are known


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Left upper corners of the blocks, the points that each edge runs through, and the size of it all."""

    places: tuple[tuple[float, float], ...]
    routes: tuple[tuple[tuple[float, float], ...], ...]
    width: float
    height: float


@dataclasses.dataclass
class _Item:
    """A block, or the place of an edge that passes a row."""

    row: int
    width: float
    center: float = 0.0
    above: list[int] = dataclasses.field(default_factory=list)
    below: list[int] = dataclasses.field(default_factory=list)


def lay_out_graph(outline: GraphOutline) -> Drawing:
    """A drawing of the blocks; deterministic. Blocks never overlap, and every edge runs downwards."""
    if not outline.blocks:
        return Drawing((), (), WIDTH, HEIGHT)
    items = [_Item(row, WIDTH) for row in _find_rows(outline)]
    chains = [_add_lanes(items, before, after) for before, after in outline.edges]
    rows: list[list[int]] = [[] for _ in range(max(item.row for item in items) + 1)]
    for index, item in enumerate(items):
        rows[item.row].append(index)
    _order_rows(items, rows)
    _place_rows(items, rows)
    left = min(item.center - item.width / 2 for item in items)
    right = max(item.center + item.width / 2 for item in items)
    step = HEIGHT + ROW_GAP
    places = tuple(
        (round(item.center - left - WIDTH / 2, 1), float(item.row * step)) for item in items[: len(outline.blocks)]
    )
    routes = tuple(_route([(items[i].center - left, items[i].row * step) for i in chain]) for chain in chains)
    return Drawing(places, routes, round(right - left, 1), float(len(rows) * step - ROW_GAP))


def _find_rows(outline: GraphOutline) -> list[int]:
    """The length of the longest way to each block; without any edges to go by, so many to a row."""
    rows = [0] * len(outline.blocks)
    for before, after in sorted(outline.edges, key=lambda edge: edge[1]):  # blocks are in topological order
        rows[after] = max(rows[after], rows[before] + 1)
    joined = {index for edge in outline.edges for index in edge}
    loose = [index for index in range(len(rows)) if index not in joined]
    start = max((rows[index] for index in joined), default=-1) + 1
    for count, index in enumerate(loose):
        rows[index] = start + count // _WRAP
    return rows


def _add_lanes(items: list[_Item], before: int, after: int) -> list[int]:
    chain = [before]
    for row in range(items[before].row + 1, items[after].row):
        chain.append(len(items))
        items.append(_Item(row, _LANE))
    chain.append(after)
    for upper, lower in itertools.pairwise(chain):
        items[upper].below.append(lower)
        items[lower].above.append(upper)
    return chain


def _order_rows(items: list[_Item], rows: list[list[int]]) -> None:
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        for row in rows if downwards else reversed(rows):
            place = {index: k for other in rows for k, index in enumerate(other)}
            row.sort(
                key=lambda index: _mean(
                    [place[i] for i in (items[index].above if downwards else items[index].below)], place[index]
                )
            )


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _place_rows(items: list[_Item], rows: list[list[int]]) -> None:
    for row in rows:
        _pack(items, row, [0.0] * len(row))
    for sweep in range(2 * _SWEEPS):
        downwards = sweep % 2 == 0
        for row in rows if downwards else reversed(rows):
            wanted = []
            for index in row:
                near = items[index].above if downwards else items[index].below
                wanted.append(_mean([items[i].center for i in near], items[index].center))
            _pack(items, row, wanted)


def _pack(items: list[_Item], row: list[int], wanted: list[float]) -> None:
    """As near to where each wants to be as can be without overlap, by least squares: neighbours that meet move as one."""
    offsets = [0.0]
    for left, right in itertools.pairwise(row):
        offsets.append(offsets[-1] + (items[left].width + items[right].width) / 2 + GAP)
    clusters: list[list[float]] = []  # [mean of wanted - offset, how many]
    for want, offset in zip(wanted, offsets, strict=True):
        clusters.append([want - offset, 1.0])
        while len(clusters) > 1 and clusters[-2][0] > clusters[-1][0]:
            mean, count = clusters.pop()
            total = clusters[-1][1] + count
            clusters[-1] = [(clusters[-1][0] * clusters[-1][1] + mean * count) / total, total]
    starts = [mean for mean, count in clusters for _ in range(int(count))]
    for index, start, offset in zip(row, starts, offsets, strict=True):
        items[index].center = start + offset


def _route(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """From the lower side of a block through the lanes to the upper side of another."""
    first, last = points[0], points[-1]
    lanes = [point for x, y in points[1:-1] for point in ((x, y), (x, y + HEIGHT))]
    route = [(first[0], first[1] + HEIGHT), *lanes, last]
    return tuple((round(x, 1), round(y, 1)) for x, y in route)
