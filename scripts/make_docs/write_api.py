"""The public names of Python, as Markdown, read from signatures and docstrings (Google's form)."""

from __future__ import annotations

import inspect
import pathlib
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import beforehand
from beforehand import errors, trt_convert

_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example|Examples):[ ]*$")
_CODE = re.compile(r"\bBH\d{3}\b")
_PAGE = re.compile(r"\bdocs/(\w+\.md)\b")
DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
_KNOWN = frozenset(
    cls.code for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.BeforehandError)
) - {"BH000"}


def list_public() -> dict[str, Any]:
    """Functions and classes of `beforehand.__all__` and `beforehand.trt_convert.__all__`, by the name that users write."""
    own = {f"beforehand.{name}": getattr(beforehand, name) for name in beforehand.__all__}
    drop_in = {f"trt_convert.{name}": getattr(trt_convert, name) for name in trt_convert.__all__}
    return {name: value for name, value in {**own, **drop_in}.items() if callable(value)}


def write_api(module: str) -> str:
    """A section for each name of `beforehand`, or of `trt_convert`."""
    names = {name: value for name, value in list_public().items() if name.startswith(module + ".")}
    first = sorted(names, key=lambda name: (inspect.isroutine(names[name]), name))  # classes, then functions
    return "\n\n".join(write_object(name, names[name]) for name in first)


def write_object(name: str, value: Any) -> str:
    """A heading, the signature, the docstring; of a class its public methods and properties too."""
    parts = [f"### {name}", write_signature(name, value), write_docstring(inspect.getdoc(value) or "")]
    if inspect.isclass(value) and not issubclass(value, BaseException):
        for member, function in _list_members(value):
            heading = f"#### {name.rpartition('.')[2]}.{member}"
            parts += [heading, write_signature(member, function), write_docstring(inspect.getdoc(function) or "")]
    return "\n\n".join(part for part in parts if part)


def _list_members(cls: type) -> Iterator[tuple[str, Any]]:
    for name, value in vars(cls).items():
        if name.startswith("_") or not getattr(value, "__doc__", None):
            continue
        if isinstance(value, property) or inspect.isfunction(value) or isinstance(value, staticmethod):
            yield name, value


def write_signature(name: str, value: Any) -> str:
    """As code, a parameter a line where there are many; nothing for a property."""
    if isinstance(value, property):
        return ""
    function = value.__func__ if isinstance(value, staticmethod) else value
    try:
        signature = inspect.signature(function)
    except ValueError:
        return ""
    shown = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    texts = [str(parameter.replace(annotation=_read(parameter.annotation))) for parameter in shown]
    for index, parameter in enumerate(shown):
        if parameter.kind is parameter.KEYWORD_ONLY:
            texts.insert(index, "*")
            break
    returns = signature.return_annotation
    end = "" if returns in (signature.empty, "None", None) or inspect.isclass(value) else f" -> {returns}"
    line = f"{name}({', '.join(texts)}){end}"
    if len(line) > 88:
        line = f"{name}(\n    " + ",\n    ".join(texts) + f",\n){end}"
    return f"```text\n{line.replace(chr(39), chr(34))}\n```"


def _read(annotation: Any) -> Any:
    """An annotation that shows as it was written: under `from __future__ import annotations` it is a text."""
    return _Written(annotation) if isinstance(annotation, str) else annotation


class _Written:
    """Shows as the text that it was made of."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def write_docstring(text: str) -> str:
    """Its paragraphs, and its sections as lists; codes and pages that it names are links."""
    parts: list[str] = []
    section, lines = "", list[str]()
    for line in [*text.splitlines(), "Args:"]:  # the last line ends what comes before it
        found = _SECTION.match(line)
        if not found:
            lines.append(line)
            continue
        parts += _write_section(section, textwrap.dedent("\n".join(lines)).strip())
        section, lines = found[1], []
    return "\n\n".join(parts)


def _write_section(section: str, text: str) -> list[str]:
    if not text:
        return []
    if not section:
        return [link_pages(text)]
    if section in ("Example", "Examples"):
        return [text if text.startswith("```") else f"```text\n{text}\n```"]
    title = f"**{section}**"
    if section in ("Returns", "Yields"):
        return [title, link_pages(text)]
    if section == "Raises":
        # Several to a line, `NotConvertedError: BH111. SampleError: BH122, before anything is built.`
        return [
            title,
            "\n".join(f"- {link_pages(' '.join(item.split()))}" for item in re.split(r"\s(?=\w+Error: )", text)),
        ]
    return [title, "\n".join(_write_argument(item) for item in re.split(r"\n(?=\S)", text))]


def _write_argument(item: str) -> str:
    name, colon, meaning = item.partition(":")
    if not colon:
        return f"- {link_pages(' '.join(item.split()))}"
    return f"- `{name.replace(chr(92), '')}`: {link_pages(' '.join(meaning.split()))}"


def link_pages(text: str) -> str:
    """The text with `BH122` and `docs/shapes.md` as links to their section and page."""
    text = _PAGE.sub(lambda found: f"[{found[0]}]({found[1]})" if (DOCS / found[1]).is_file() else found[0], text)
    return _CODE.sub(
        lambda found: f"[{found[0]}](errors.md#{found[0].lower()})" if found[0] in _KNOWN else found[0], text
    )
