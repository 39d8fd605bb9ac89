"""Layers as paths of scopes: how many nodes each has, and fewer of them where there are too many to be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def cut_layer(layer: str, depth: int) -> str:
    """The outer `depth` scopes of a layer: `model/block_1` of `model/block_1/add`, at 2."""
    return "/".join(layer.split("/")[:depth])


def find_common(layers: Iterable[str]) -> str:
    """The longest path of scopes that all layers share; may be empty."""
    paths = [layer.split("/") for layer in layers]
    common = []
    for scopes in zip(*paths, strict=False):
        if len(set(scopes)) > 1:
            break
        common.append(scopes[0])
    return "/".join(common)


def count_layers(layers: Iterable[str], most: int = 400) -> tuple[tuple[str, int], ...]:
    """How often each layer comes, in order; with more than `most` layers, by as many outer scopes as stay within it."""
    counts = Counter(layers)
    depth = max((layer.count("/") + 1 for layer in counts), default=1)
    while len(counts) > most and depth > 1:
        depth -= 1
        cut: Counter[str] = Counter()
        for layer, count in counts.items():
            cut[cut_layer(layer, depth)] += count
        counts = cut
    if len(counts) > most:
        pairs = list(counts.items())
        rest = sum(count for _, count in pairs[most - 1 :])
        return (*pairs[: most - 1], (f"({len(pairs) - most + 1} more)", rest))
    return tuple(counts.items())
