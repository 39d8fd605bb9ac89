"""A table of all codes, read from the sections of docs/errors.md."""

from __future__ import annotations

import pathlib
import re

_ERRORS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "errors.md"
_SECTION = re.compile(r"^### (BH\d{3})\n\n\*\*(.+?)\*\*", re.MULTILINE | re.DOTALL)


def write_codes() -> str:
    """A row for each: the code, which leads to its section, and what the section begins with."""
    found = _SECTION.findall(_ERRORS.read_text("utf-8"))
    rows = [f"| [{code}](#{code.lower()}) | {' '.join(title.split()).rstrip('.')} |" for code, title in found]
    return "\n".join(["| code | meaning |", "| --- | --- |", *rows])
