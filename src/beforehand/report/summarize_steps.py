"""What came of a conversion, and of a build, in one line each, however large the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from beforehand.progress.describe import describe_bytes
from beforehand.records import Engine, Partition

_MOST = 3


def summarize_conversion(partitions: Sequence[Partition], seconds: float) -> str:
    """`converted in 2.1 s: 72 of 74 nodes in 2 segments, 98.5% of the arithmetic; in TensorFlow: dtype 2`.

    Constants are not counted. Of several graphs the share is the lowest.
    """
    parts = [part for top in partitions for part in top.walk()]
    idle = [{node.name for node in part.graph.graph_def.node if node.op == "NoOp"} for part in parts]
    pairs = zip(parts, idle, strict=True)
    inside = sum(len(set(segment.nodes) - names) for part, names in pairs for segment in part.segments)
    reasons = Counter(node.reason for part in parts for node in part.left_out)
    segments = sum(len(part.segments) for part in parts)
    share = min(_sum_shares(top) for top in partitions)
    least = "at least " if len(partitions) > 1 else ""
    text = (
        f"converted in {seconds:.1f} s: {inside} of {inside + reasons.total()} nodes in {_count(segments, 'segment')}, "
        f"{least}{100 * share:.1f}% of the arithmetic"
    )
    listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(_MOST))
    more = ", and others" if len(reasons) > _MOST else ""
    return text + (f"; in TensorFlow: {listed}{more}" if reasons else "")


def summarize_build(built: Sequence[Engine], used: Sequence[Engine], failed: int, seconds: float) -> str:
    """`built in 3.2 s: 2 engines, 43.5 kB`, with how many are not used and how many failed, where there are any.

    Args:
        built: What was built or found in the cache.
        used: What is used of it.
        failed: How many could not be built.
        seconds: What all of it took, comparisons included.
    """
    text = f"built in {seconds:.1f} s: {_count(len(used), 'engine')}, {describe_bytes(sum(e.bytes for e in used))}"
    served = {(engine.segment_index, engine.shapes) for engine in used}
    left = {(engine.segment_index, engine.shapes) for engine in built} - served  # in auto there are several of each
    text += f"; {_count(len(left), 'set')} of shapes left to TensorFlow: summary() says why" if left else ""
    return text + (f"; {failed} could not be built" if failed else "")


def _sum_shares(top: Partition) -> float:
    return min(1.0, sum(segment.flops_share for part in top.walk() for segment in part.segments))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
