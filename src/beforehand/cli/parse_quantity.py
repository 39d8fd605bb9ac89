"""Times and sizes as they are written on a command line: `20min`, `8GB`."""

from __future__ import annotations

import re

from beforehand.errors import OptionValueError

_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)")
_SECONDS = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_BYTES = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip


def parse_seconds(text: str, name: str) -> float:
    """Seconds in `90`, `90s`, `20min`, `1.5h`.

    Args:
        text: What was given.
        name: What it was given for, for the message.

    Raises:
        OptionValueError: BH102.
    """
    return _parse(text, name, _SECONDS, "a time, such as 90, 90s, 20min or 1.5h")


def parse_size(text: str, name: str) -> int:
    """Bytes in `1000000`, `500MB`, `8GB` (decimal), `8GiB` (binary).

    Args:
        text: What was given.
        name: What it was given for, for the message.

    Raises:
        OptionValueError: BH102.
    """
    return int(_parse(text, name, _BYTES, "a size, such as 500MB, 8GB or 8GiB"))


def _parse(text: str, name: str, units: dict[str, int], advice: str) -> float:
    found = _NUMBER.fullmatch(text.strip().lower())
    if found is None or found[2] not in units:
        raise OptionValueError(f"{name} is {text!r}", advice=advice)
    return float(found[1]) * units[found[2]]
