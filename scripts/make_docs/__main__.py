"""`python scripts/make_docs build/docs` writes the pages of the site to that folder, for `zensical build`; `make docs` does both."""

from __future__ import annotations

import pathlib
import sys

from gather_pages import gather_pages

print(f"{len(gather_pages(pathlib.Path(sys.argv[1])))} files for the site")
