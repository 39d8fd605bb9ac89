"""The verbs of the command `beforehand`, with their options, as Markdown, read from the parsers."""

from __future__ import annotations

import argparse
import re
from typing import Any

from beforehand.cli import main as command

_NAMES = re.compile(r"(?<![\w`-])(--[a-z][a-z-]*|BEFOREHAND_[A-Z_]+)(?!`)\b")


def write_command_line() -> str:
    """A section for each verb, in the order of `beforehand --help`."""
    _, verbs = command._make_parser()
    return "\n\n".join(write_verb(f"beforehand {name}", parser) for name, parser in verbs.items())


def write_verb(name: str, parser: argparse.ArgumentParser, level: int = 2) -> str:
    """What it does, in its docstring's words, and a table of its arguments; its own verbs below it."""
    parts = [f"{'#' * level} {name}", _write_text(parser.description or "")]
    rows = [row for action in parser._actions if (row := _write_row(action)) is not None]
    if rows:
        parts.append("\n".join(["| argument | meaning |", "| --- | --- |", *rows]))
    parts += [write_verb(f"{name} {verb}", inner, level + 1) for verb, inner in _list_inner(parser)]
    return "\n\n".join(parts)


def _list_inner(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser]]:
    found: list[Any] = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    return [item for choices in found for item in choices.items()]


def _write_row(action: argparse.Action) -> str | None:
    if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
        return None
    name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.option_strings:
        name = " ".join([", ".join(action.option_strings), *([] if action.nargs == 0 else [name])])
    text = (action.help or "") % {**vars(action), "prog": "beforehand"}
    return f"| `{name}` | {_escape(text)} |"  # a bar within code divides no columns


def _escape(text: str) -> str:
    """Text for Markdown, with options and variables as code."""
    return _NAMES.sub(r"`\1`", text.replace("|", "\\|").replace("<", "&lt;"))


def _write_text(text: str) -> str:
    """Paragraphs of a docstring; a block of examples, which is indented, as code."""
    parts = []
    for block in re.split(r"\n\s*\n", text.strip()):
        is_code = all(line.startswith("  ") for line in block.splitlines())
        if is_code:
            parts.append("```text\n" + "\n".join(line[2:] for line in block.splitlines()) + "\n```")
        else:
            parts.append(_write_paragraph(block))
    return "\n\n".join(parts)


def _write_paragraph(block: str) -> str:
    """A list where the lines begin with options, `--shapes: ...`; else the paragraph."""
    items = re.split(r"(?:^|(?<=\s))(?=--[a-z-]+(?:, --[a-z-]+)*: )", block)
    if len(items) == 1:
        return _escape(block)
    return "\n".join([*[_escape(items[0]) + "\n"] * bool(items[0].strip()), *(_write_item(item) for item in items[1:])])


def _write_item(text: str) -> str:
    names, _, meaning = text.partition(": ")
    return f"- `{names}`: {_escape(' '.join(meaning.split()))}"
