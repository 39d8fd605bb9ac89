"""What is known of a model at its conversion alone: its graph as blocks, its source's name, this machine."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from beforehand.pipeline import Conversion
from beforehand.report.describe_machine import describe_machine
from beforehand.report.outline_graph import outline_graphs
from beforehand.report.report_records import Origin


def make_origin(source: Any, conversion: Conversion) -> Origin:
    """The origin of a conversion.

    Args:
        source: As the converter was given it: of a path, the last part is kept; of a model, its name if it has one.
        conversion: What was converted.
    """
    keys: dict[int, list[str]] = {}
    for signature, graph in zip(conversion.signatures, conversion.graph_of, strict=True):
        keys.setdefault(graph, []).append(signature.key)
    titled = [(partition, ", ".join(keys[index])) for index, partition in enumerate(conversion.partitions)]
    return Origin(_find_name(source), describe_machine(), outline_graphs(titled))


def _find_name(source: Any) -> str:
    if isinstance(source, str | os.PathLike):
        return pathlib.Path(source).absolute().name
    name = getattr(source, "name", "")
    return name if isinstance(name, str) else ""
