"""HTML and SVG as text, with everything that comes from outside escaped: names of models, layers and files are not trusted."""

from __future__ import annotations

import html
from typing import NewType

# Text that is markup already. Whatever is `str` alone is escaped.
Markup = NewType("Markup", str)
_VOID = ("input",)  # has no end


def escape(text: object) -> Markup:
    """Text as markup. Control characters, which no document may hold, become U+FFFD."""
    plain = "".join(c if c >= " " or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return Markup(html.escape(plain, quote=True))


def tag(name: str, attributes: dict[str, object] | None = None, *children: Markup) -> Markup:
    """An element. Attributes are escaped; a value of None leaves one out, True writes its name alone."""
    written = "".join(
        f" {key}" if value is True else f' {key}="{escape(_shorten(value))}"'
        for key, value in (attributes or {}).items()
        if value is not None
    )
    return Markup(f"<{name}{written}>" if name in _VOID else f"<{name}{written}>{''.join(children)}</{name}>")


def join(*parts: Markup) -> Markup:
    """One after the other."""
    return Markup("".join(parts))


def _shorten(value: object) -> object:
    """Coordinates to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
