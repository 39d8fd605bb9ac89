"""The options of a conversion as a table, read from where they are declared."""

from __future__ import annotations

import dataclasses

from beforehand.options import ALL, Options


def write_options() -> str:
    """A row for each field of `Options`."""
    rows = ["| option | default | meaning |", "| --- | --- | --- |"]
    for field in dataclasses.fields(Options):
        meaning = field.metadata["meaning"].replace("|", "\\|")
        notes = [] if field.metadata["backends"] == ALL else ["TensorRT alone; others say that it has no effect"]
        notes += ["part of the engine key"] * bool(field.metadata["in_key"])
        rows.append(f"| `{field.name}` | `{field.default!r}` | {meaning}{_join(notes)} |")
    return "\n".join(rows)


def _join(notes: list[str]) -> str:
    return f" *({'; '.join(notes)})*" if notes else ""
