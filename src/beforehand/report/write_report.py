"""The report of a converted SavedModel, made of what lies in its folder, and written beside the engines."""

from __future__ import annotations

import json
import logging
import pathlib
from collections.abc import Callable
from typing import TypeVar

from beforehand.report.make_report import make_report
from beforehand.report.origin_file import read_origin, write_origin
from beforehand.report.read_measured import read_bench, read_verify
from beforehand.report.render_page import render_page
from beforehand.report.report_records import Origin, Report
from beforehand.store import atomic, layout
from beforehand.store.manifest import find_manifest, read_manifest

_log = logging.getLogger("beforehand")
_Found = TypeVar("_Found")


def read_report(folder: pathlib.Path, name: str = "") -> Report:
    """The report of a converted SavedModel, with what `bench` and `verify` kept in it. Nothing is written.

    A file beside the manifest that is damaged, or of another version, is left out, and the report's notes say so.

    Args:
        folder: The converted SavedModel.
        name: What to call it; by default the folder's own name.

    Raises:
        SourceNotFoundError: BH201, there is no SavedModel.
        ManifestError: BH502, it was not converted by beforehand, or its manifest cannot be read.
    """
    manifest = read_manifest(find_manifest(folder))
    notes: list[str] = []

    def read(asset: str, reader: Callable[[pathlib.Path], _Found | None]) -> _Found | None:
        try:
            return reader(layout.find_asset(folder, asset))
        except (OSError, ValueError) as error:
            notes.append(f"{asset} is left out, as it cannot be read: {error}")
            return None

    origin = read(layout.ORIGIN, read_origin)
    bench = read(layout.BENCH, read_bench)
    verify = read(layout.VERIFICATION, read_verify)
    return make_report(name or folder.resolve().name, manifest, origin, bench, verify, notes)


def encode_report(report: Report) -> bytes:
    """The content of `report.json`."""
    return json.dumps(report.to_dict(), indent=1).encode()


def write_report(report: Report, folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Write `report.html` and `report.json` beside the engines, each whole or not at all; where they lie."""
    page, data = layout.find_asset(folder, layout.REPORT_PAGE), layout.find_asset(folder, layout.REPORT_DATA)
    atomic.write_bytes(page, render_page(report).encode())
    atomic.write_bytes(data, encode_report(report))
    return page, data


def refresh_report(folder: pathlib.Path) -> None:
    """Make the report anew after the engines of a folder changed, where it has one; a warning says where that cannot be."""
    if not layout.find_asset(folder, layout.REPORT_PAGE).is_file():
        return
    try:
        write_report(read_report(folder), folder)
    except OSError as error:
        _log.warning("the report of %s is as it was before: %s", folder, error)


def write_first_report(folder: pathlib.Path, name: str, origin: Origin) -> None:
    """The report of a model that is being saved, and what later reports need of its conversion.

    Hours of building are worth more than a page about them: where it cannot be made, a warning says so, and the model is saved.
    """
    try:
        write_origin(origin, layout.find_asset(folder, layout.ORIGIN))
        write_report(read_report(folder, name), folder)
    except Exception:  # noqa: BLE001 (whatever it is: see above)
        _log.warning("%s is saved without its report, because of a fault in beforehand", name, exc_info=True)
