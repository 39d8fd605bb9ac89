"""What a search does with engines of a conversion."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from beforehand.accuracy.check_build import BuildChecker
from beforehand.accuracy.heal import Rebuild, Tools
from beforehand.records import Engine, LoweredSegment


def make_tools(
    rebuild: Rebuild, checker: BuildChecker, lowered: Sequence[LoweredSegment], folder: pathlib.Path
) -> Tools:
    """Parts are those of the segments' ONNX files; `folder` has the engines' files."""

    def list_parts(engine: Engine) -> Mapping[str, tuple[str, ...]]:
        from beforehand.accuracy import list_parts  # noqa: PLC0415 (imports onnx)

        segment = lowered[engine.segment_index]
        is_quantized = engine.precision == "INT8"
        file = segment.quantized_file if is_quantized else segment.onnx_file
        return list_parts.list_parts(file, is_quantized=is_quantized)

    def discard(engine: Engine) -> None:
        (folder / engine.file).unlink(missing_ok=True)

    return Tools(rebuild, checker.compare, list_parts, discard)
