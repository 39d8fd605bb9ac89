"""The Python of the README and of each page of docs/, run top to bottom as a reader would, in a fresh process."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def read_blocks(document: pathlib.Path) -> list[str]:
    return _BLOCK.findall(document.read_text())


def run_blocks(blocks: list[str], folder: pathlib.Path) -> "subprocess.CompletedProcess[str]":
    """Run blocks of Python, one after the other, in a fresh process."""
    script = folder / "blocks.py"
    script.write_text("\n".join(blocks))
    environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environ.pop("BEFOREHAND_MIN_SPEEDUP", None)  # readers do not have it set
    return subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="the tests run without the repository around them")
def test_the_blocks_of_the_readme_run_in_order_and_engines_serve_them(tmp_path: pathlib.Path) -> None:
    blocks = read_blocks(ROOT / "README.md")
    assert len(blocks) >= 5
    check = "\nassert beforehand.stats(loaded)['signatures']['serving_default']['engine_calls'] == 1, beforehand.stats(loaded)\n"
    result = run_blocks([*blocks, check], tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "did you mean `maximum_cached_engines`?" in result.stdout
    assert "[*] Total number of TensorRT engines: 1" in result.stdout


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path.parent.name == "docs" and read_blocks(path)],
    ids=lambda path: path.name,
)
def test_the_blocks_of_each_page_of_the_documentation_run_in_order(
    document: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    result = run_blocks(read_blocks(document), tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    if document.name == "targets.md":
        assert "openvino 20" in result.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_within_the_repository_exists(document: pathlib.Path) -> None:
    prose = _BLOCK.sub("", document.read_text())  # `functions["key"](x)` is no link
    missing = [target for target in _LINK.findall(prose) if not (document.parent / target).exists()]
    assert not missing
