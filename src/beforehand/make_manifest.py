"""What a converted model's manifest says of it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from beforehand.options import Options
from beforehand.pipeline import Conversion
from beforehand.records import Engine, LeftNative, Manifest, SegmentRecord
from beforehand.report.list_versions import list_versions


def make_manifest(
    model_id: str,
    conversion: Conversion,
    segments: tuple[SegmentRecord, ...],
    engines: Sequence[Engine],
    options: Options,
    left_native: Sequence[LeftNative] = (),
) -> Manifest:
    """The manifest of a conversion with these engines; its sources are added when it is written."""
    return Manifest(
        model_id=model_id,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        versions=tuple(list_versions().items()),
        signatures=conversion.signatures,
        segments=segments,
        engines=tuple(engines),
        native_nodes=tuple(
            (partition.graph.signature.key, node)
            for top in conversion.partitions
            for partition in top.walk()
            for node in partition.left_out
        ),
        not_kept=conversion.not_kept,
        policies=options.to_policies(),
        options=options.to_key(),
        left_native=tuple(left_native),
    )
