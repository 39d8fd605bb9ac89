"""The site of the documentation: whole, linked, without a network, and not behind the code."""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

import beforehand
from beforehand import errors, trt_convert, trt_params
from beforehand.cli import main as command
from beforehand.options import Options

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
CODE = re.compile(r"(?<!\w)BH\d{3}(?!\d)")  # also where an underscore follows, as in an op's name

pytestmark = pytest.mark.skipif(
    not (ROOT / "zensical.toml").is_file(), reason="the tests run without the repository around them"
)
with_zensical = pytest.mark.skipif(
    importlib.util.find_spec("zensical") is None, reason="beforehand[docs] is not installed"
)


def gather(folder: pathlib.Path) -> pathlib.Path:
    """A project folder with the pages of the site, as `make docs` has them."""
    shutil.copy(ROOT / "zensical.toml", folder)
    subprocess.run([sys.executable, str(ROOT / "scripts" / "make_docs"), str(folder / "build" / "docs")], check=True)
    return folder


def build_site(folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", str(folder / "zensical.toml")]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return gather(tmp_path_factory.mktemp("pages")) / "build" / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = gather(tmp_path_factory.mktemp("site"))
    result = build_site(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "build" / "site"


def read_sections(page: pathlib.Path) -> dict[str, str]:
    parts = re.split(r"^### (BH\d{3})$", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_code_has_its_section_and_every_section_its_code() -> None:
    used = {code for file in (ROOT / "src").rglob("*.py") for code in CODE.findall(file.read_text())} - {"BH000"}
    sections = read_sections(DOCS / "errors.md")
    assert set(sections) == used
    assert list(sections) == sorted(sections)


def test_each_section_names_its_class_and_the_builtin_types_that_it_is_of() -> None:
    sections = read_sections(DOCS / "errors.md")
    for cls in vars(errors).values():
        if not (isinstance(cls, type) and issubclass(cls, errors.BeforehandError) and cls.code in sections):
            continue
        if "code" not in vars(cls):  # a group
            continue
        title = sections[cls.code].strip().partition("\n\n")[0]
        assert f"`{cls.__name__}`" in title, cls.code
        for base in cls.__bases__:
            assert base.__module__ != "builtins" or f"`{base.__name__}`" in title, (cls.code, base)


def list_verbs() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield from command._make_parser()[1].items()


def test_the_command_line_has_every_verb_and_option(pages: pathlib.Path) -> None:
    text = (pages / "command_line.md").read_text()
    for name, parser in list_verbs():
        section = re.split(r"^## beforehand ", text, flags=re.MULTILINE)
        [own] = [part for part in section if part.startswith(f"{name}\n")]
        for option in set(command.list_options(parser)) - {"-h", "--help"}:
            assert re.search(rf"\| `(?:[^`]*[ ,])?{re.escape(option)}[ ,`]", own), (name, option)


def test_the_options_are_all_there_with_their_defaults(pages: pathlib.Path) -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", (pages / "options.md").read_text(), re.MULTILINE)
    assert dict(rows) == {name: repr(value) for name, value in vars(Options()).items()}


def test_every_environment_variable_is_told() -> None:
    source = (ROOT / "src" / "beforehand" / "environment.py").read_text()
    named = set(re.findall(r"\b(?:BEFOREHAND|TF_TRT|ONEDNN|DNNL)_[A-Z_]*[A-Z]\b", source)) - {"BEFOREHAND_FAKE"}
    told = set(re.findall(r"`(\w+?)(?:=\w+)?`", (DOCS / "options.md").read_text()))
    assert len(named) >= 12
    assert named <= told


def test_the_reference_of_python_has_every_public_name(pages: pathlib.Path) -> None:
    text = (pages / "api.md").read_text()
    wanted = {f"beforehand.{name}" for name in set(beforehand.__all__) - {"__version__", "errors", "trt_convert"}}
    wanted |= {f"trt_convert.{name}" for name in trt_convert.__all__ if callable(getattr(trt_convert, name))}
    assert set(re.findall(r"^### (\S+)$", text, re.MULTILINE)) == wanted
    for name in ("convert", "calibrate", "build", "plan", "cancel", "save", "summary", "engines"):
        assert f"#### Converter.{name}\n" in text
    constants = [name for name in trt_convert.__all__ if name.isupper()]
    assert all(f"`{name}`" in text for name in constants)


def test_moving_over_tells_of_every_name_and_parameter_of_tf_trt() -> None:
    told = set(re.findall(r"\w+", (DOCS / "from_tf_trt.md").read_text()))
    strategies = {name for name in trt_convert.__all__ if name.startswith("PROFILE_STRATEGY_")}
    names = {*trt_params.CONVERTER_PARAMETERS, *trt_params._GONE, *trt_convert.__all__} - strategies
    assert names <= told
    assert "PROFILE_STRATEGY_" in told


def test_the_navigation_has_every_page_once(pages: pathlib.Path) -> None:
    listed = re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text())
    assert sorted(listed) == sorted(path.relative_to(pages).as_posix() for path in pages.rglob("*.md"))


@with_zensical
def test_the_site_is_built_and_loads_nothing_from_elsewhere(site: pathlib.Path) -> None:
    texts = [path.read_text() for path in site.rglob("*.html")]
    assert len(texts) > 40
    for text in texts:
        loads = re.findall(r"<(?:script|img|iframe|source)[^>]*\bsrc=[\"']?(?:https?:)?//", text)
        loads += re.findall(
            r"<link[^>]*rel=[\"']?(?:stylesheet|preload|preconnect|icon)[^>]*href=[\"']?(?:https?:)?//", text
        )
        assert not loads
    styles = [path.read_text() for path in site.rglob("*.css")]
    assert styles
    assert not any(re.search(r"@import|url\([\"']?(?:https?:)?//", text) for text in styles)


@with_zensical
@pytest.mark.parametrize(
    ("link", "complaint"),
    [("[x](build.md#no-such-anchor)", "anchor does not exist"), ("[x](nowhere.md)", "does not exist")],
)
def test_a_broken_link_or_anchor_fails_the_build(tmp_path: pathlib.Path, link: str, complaint: str) -> None:
    folder = gather(tmp_path)
    page = folder / "build" / "docs" / "index.md"
    page.write_text(f"{page.read_text()}\n{link}\n")
    result = build_site(folder)
    assert result.returncode != 0
    assert complaint in re.sub(r"\x1b\[[0-9;]*m", "", result.stdout + result.stderr)
