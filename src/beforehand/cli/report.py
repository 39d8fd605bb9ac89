"""Make the report of a converted SavedModel anew: what was converted, what was not and why, speed, accuracy.

`save()` and `beforehand convert` write assets/report.html and assets/report.json beside the engines; this makes them again, with what
`beforehand bench --keep` and `beforehand verify --keep` left in the folder since. The page is one file that needs nothing else.
TensorFlow is not needed.

  beforehand report resnet50_engines --open
  beforehand report resnet50_engines --output report.html
  beforehand report resnet50_engines --json
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import webbrowser

from beforehand.errors import OptionValueError, OutputExistsError
from beforehand.report.render_page import render_page
from beforehand.report.report_records import Report
from beforehand.report.write_report import encode_report, read_report, write_report
from beforehand.store import atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `beforehand report`."""
    add = parser.add_argument
    add("folder", metavar="DIR", type=pathlib.Path, help="folder of a converted SavedModel")
    add("--open", action="store_true", help="show the page in this machine's browser")
    add("--output", metavar="FILE", type=pathlib.Path, help="write there, and leave the folder as it is")
    add("--json", action="store_true", help="the data instead of the page: to --output, else printed")


def run(arguments: argparse.Namespace) -> int:
    """Write or print it; 0, or an error of beforehand.

    Raises:
        SourceNotFoundError: BH201, there is no SavedModel. ManifestError: BH502, it was not converted, or not readable.
        OptionValueError: BH102, --open of data. OutputExistsError: BH501, the place cannot be written to.
    """
    if arguments.open and arguments.json:
        raise OptionValueError("--open shows the page, --json gives data", advice="one of the two")
    if arguments.json and arguments.output is None:
        print(encode_report(read_report(arguments.folder)).decode())
        return 0
    page = _write(read_report(arguments.folder), arguments.folder, arguments.output, is_data=arguments.json)
    if arguments.open and not webbrowser.open(page.resolve().as_uri()):
        print(f"beforehand: no browser was found to show {page}", file=sys.stderr)
    return 0


def _write(report: Report, folder: pathlib.Path, output: pathlib.Path | None, *, is_data: bool) -> pathlib.Path:
    """The file to show.

    Raises:
        OutputExistsError: BH501.
    """
    try:
        if output is None:
            written = write_report(report, folder)
        else:
            atomic.write_bytes(output, encode_report(report) if is_data else render_page(report).encode())
            written = output, output
    except OSError as error:
        raise OutputExistsError(
            f"the report cannot be written to {output or folder}", why=str(error), advice="--output with another place"
        ) from error
    for path in dict.fromkeys(written):
        print(path)
    return written[0]
