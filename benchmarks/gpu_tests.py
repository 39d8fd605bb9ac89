"""What a run of tests/gpu on a GPU machine said, into RESULTS.md: `python benchmarks/gpu_tests.py LOG WHERE`.

LOG is pytest's output with -v; WHERE says in words what it ran on. A log in which nothing passed is refused; what failed is named.
"""

import argparse
import pathlib
import re
import sys

from write_section import write_section

HERE = pathlib.Path(__file__).parent
_LINE = re.compile(r"^tests/gpu/(?P<file>\w+)\.py::(?P<test>.+) (?P<outcome>PASSED|FAILED|SKIPPED|ERROR) +\[ *\d+%\]$")
_END = re.compile(r"^=+ (?P<end>\d+ \w+.* in [\d.]+s.*?) =+$")


def main() -> None:
    """Read, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=pathlib.Path)
    parser.add_argument("where", help="GPU, driver, versions, date")
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    write_section(options.output, "gpu-tests", format_log(options.log.read_text(), options.where))


def format_log(log: str, where: str) -> str:
    """The section: a line for each file, with the tests in it that did not pass."""
    found = [match for line in log.splitlines() if (match := _LINE.match(line))]
    ends = [match["end"] for line in log.splitlines() if (match := _END.match(line))]
    if not ends or not any(match["outcome"] == "PASSED" for match in found):
        sys.exit("this log is of no run in which something passed")
    lines = ["## Tests on a GPU", "", f"- {where}", f"- `pytest tests/gpu -m gpu`: {ends[-1]}", ""]
    lines += ["| file | passed | skipped | failed |", "| --- | --- | --- | --- |"]
    for file in dict.fromkeys(match["file"] for match in found):
        mine = [match for match in found if match["file"] == file]
        passed = sum(match["outcome"] == "PASSED" for match in mine)
        lines.append(f"| {file} | {passed} | {_tell(mine, 'SKIPPED')} | {_tell(mine, 'FAILED', 'ERROR')} |")
    return "\n".join(lines)


def _tell(found: list[re.Match[str]], *outcomes: str) -> str:
    names = [match["test"] for match in found if match["outcome"] in outcomes]
    return f"{len(names)}: {', '.join(names)}" if names else "0"


if __name__ == "__main__":
    main()
