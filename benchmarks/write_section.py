"""One benchmark's section of RESULTS.md; those of others are kept as they are."""

import pathlib
import re

TITLE = "# Results\n\nEach section is written by the command that stands in it.\n"


def write_section(file: pathlib.Path, name: str, text: str) -> None:
    """Put `text` between the markers of `name`: where they are, or at the end of the file."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n{text.strip()}\n{end}"
    old = file.read_text() if file.is_file() else TITLE
    found = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    new = found.sub(lambda _: section, old, count=1) if found.search(old) else f"{old.rstrip()}\n\n{section}\n"
    file.write_text(new)
