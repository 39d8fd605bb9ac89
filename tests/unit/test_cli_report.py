"""`beforehand report`: where it writes, what it prints, its exit codes."""

from __future__ import annotations

import json
import os
import pathlib
import webbrowser

import pytest
from report_models import make_partition, write_folder

from beforehand.cli.main import main
from beforehand.store import layout


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return write_folder(tmp_path / "converted", make_partition([("native", 3), ("segment", 12)]))


def list_files(folder: pathlib.Path) -> set[str]:
    return {file.name for file in (folder / layout.ASSETS).iterdir()}


def test_page_and_data_are_written_beside_the_engines(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = list_files(folder)
    assert main(["report", str(folder)]) == 0
    page, data = (folder / layout.ASSETS / name for name in ("report.html", "report.json"))
    assert capsys.readouterr().out == f"{page}\n{data}\n"
    assert list_files(folder) - before == {"report.html", "report.json"}
    assert json.loads(data.read_text())["name"] == "converted"


def test_with_output_the_folder_stays_as_it_is(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    before = list_files(folder)
    assert main(["report", str(folder), "--output", str(tmp_path / "page.html")]) == 0
    assert main(["report", str(folder), "--json", "--output", str(tmp_path / "data.json")]) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert json.loads((tmp_path / "data.json").read_text())["version"] == 1
    assert list_files(folder) == before


def test_json_is_printed_and_nothing_written(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = list_files(folder)
    assert main(["report", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engines"][0]["segment"] == "TRTEngineOp_000_000"
    assert list_files(folder) == before


def test_open_shows_the_page(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: shown.append(address) or True)
    assert main(["report", str(folder), "--open"]) == 0
    assert shown == [(folder / layout.ASSETS / "report.html").resolve().as_uri()]
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert main(["report", str(folder), "--open"]) == 0
    assert "no browser was found to show" in capsys.readouterr().err


def test_open_of_data_is_refused(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder), "--open", "--json"]) == 2
    assert "BH102 --open shows the page, --json gives data" in capsys.readouterr().err


def test_no_folder_and_an_unconverted_one_are_told(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "beforehand: BH201 there is no folder" in capsys.readouterr().err
    (tmp_path / layout.SAVED_MODEL).write_bytes(b"")
    assert main(["report", str(tmp_path)]) == 2
    assert "BH502" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_to_is_told(
    folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(folder), "--output", str(tmp_path / "no" / "page.html")]) == 2
    assert "BH501 the report cannot be written to" in capsys.readouterr().err
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]
