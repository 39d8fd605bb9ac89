"""The native nodes of an explanation as a table of pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beforehand.check_packages import check_packages

if TYPE_CHECKING:
    import pandas

    from beforehand.explanation.explanation import Explanation

_COLUMNS = ("backend", "signature", "layer", "node", "op", "reason", "detail", "flops", "inside")


def make_frame(explanation: Explanation) -> pandas.DataFrame:
    """A row for each native node; `flops` is pandas's Int64, and missing where it is not known.

    Raises:
        BackendError: BH701, pandas is not installed.
    """
    check_packages("to_pandas()", ("pandas",))
    import pandas  # noqa: PLC0415 (no dependency of ours)

    rows = [
        (item.backend, ", ".join(graph.signatures), node.layer, node.name, node.op, node.reason, node.detail, node.flops,
         node.inside)
        for item in explanation.backends
        for graph in item.graphs
        for node in graph.native
    ]  # fmt: skip
    return pandas.DataFrame(rows, columns=list(_COLUMNS)).astype({"flops": "Int64"})
