"""Gather the pages of the site in one folder: those of docs/, those made from the code, and what lies elsewhere in the repository.

Links of a page are those of the repository, so that they work there too; here they are turned to the site's. One that leads to
a file that the site does not have ends it with an error.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
from collections.abc import Callable

from write_api import write_api
from write_codes import write_codes
from write_command_line import write_command_line
from write_options import write_options

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

# What the site has of other folders: path in the repository, page of the site.
GATHERED = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",  # its links lead there; the page is docs/index.md
    "benchmarks/RESULTS.md": "results.md",
    "examples": "examples.md",
}
# What stands in a page as `<!-- insert NAME -->`.
INSERTED: dict[str, Callable[[], str]] = {
    "api": lambda: write_api("beforehand"),
    "drop in": lambda: write_api("trt_convert"),
    "codes": write_codes,
    "command line": write_command_line,
    "options": write_options,
}
_ABOUT_SCRIPTS = """\
# The scripts of the question

Both scripts of the question that this library answers, as they run in CI: with another import line, and with their mistakes mended.
[What each step does](build.md#the-script-of-the-question)."""
_LINK = re.compile(r"(\]\()((?!https?:|#|mailto:)[^)\s#]+)([^)]*\))")
_INSERT = re.compile(r"^<!-- insert ([a-z ]+) -->$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def gather_pages(folder: pathlib.Path) -> list[pathlib.Path]:
    """Write all pages below `folder`, which is emptied first, and list them."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = {path.relative_to(DOCS).as_posix(): path for path in sorted(DOCS.rglob("*")) if path.is_file()}
    for name, page in GATHERED.items():
        pages.setdefault(page, ROOT / name)
    written = []
    for page, source in pages.items():
        target = folder / page
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            target.write_text(turn_links(insert_made(source.read_text("utf-8")), source, page), "utf-8")
        elif source.is_dir():
            target.write_text(write_scripts(source), "utf-8")
        else:
            shutil.copyfile(source, target)
        written.append(target)
    return written


def insert_made(text: str) -> str:
    """The text of a page with what is made from the code in its place."""
    return _INSERT.sub(lambda found: INSERTED[found[1]](), text)


def turn_links(text: str, source: pathlib.Path, page: str) -> str:
    """The text with its links as the site has them.

    Raises:
        SystemExit: a link leads to what the site does not have.
    """

    def turn(found: re.Match[str]) -> str:
        target = (source.parent / found[2]).resolve()
        if source.is_relative_to(DOCS) and target.is_relative_to(DOCS):
            return found[0]
        inside = target.relative_to(DOCS).as_posix() if target.is_relative_to(DOCS) else None
        inside = inside or GATHERED.get(os.path.relpath(target, ROOT))
        if inside is None:
            raise SystemExit(
                f"{source.relative_to(ROOT)}: the site has no {found[2]}; name it in backticks, or add it to GATHERED"
            )
        return found[1] + os.path.relpath(inside, pathlib.PurePosixPath(page).parent) + found[3]

    parts, end = [], 0
    for fence in _FENCE.finditer(text):  # what looks like a link in code is none
        parts += [_LINK.sub(turn, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(turn, text[end:])])


def write_scripts(folder: pathlib.Path) -> str:
    """A page of the scripts in a folder, whole."""
    parts = [_ABOUT_SCRIPTS]
    for path in sorted(folder.glob("*.py"), key=lambda path: (not path.name.startswith("question"), path.name)):
        parts.append(f"## {path.name}\n\n```python\n{path.read_text('utf-8').strip()}\n```")
    return "\n\n".join(parts) + "\n"
