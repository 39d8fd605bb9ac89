"""Sizes and times as people write them: `20GB`, `1.5 GiB`, `30d`, `20min`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from beforehand.errors import OptionValueError

_UNITS = {"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12,
          "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}  # fmt: skip
_TIMES = {"": 1, "s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
_NUMBER = re.compile(r"\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>[a-zA-Z]*)\s*")


def parse_bytes(text: str, what: str) -> int:
    """Bytes; `what` is named in errors.

    Raises:
        OptionValueError: BH102.
    """
    return int(_parse(text, _UNITS, what, "a size such as 500MB, 20GB or 8GiB"))


def parse_seconds(text: str, what: str) -> float:
    """Seconds; `what` is named in errors.

    Raises:
        OptionValueError: BH102.
    """
    return _parse(text, _TIMES, what, "a time such as 90s, 20min, 2h or 30d")


def _parse(text: str, units: Mapping[str, float], what: str, advice: str) -> float:
    match = _NUMBER.fullmatch(text)
    if match is None or match["unit"].lower() not in units:
        raise OptionValueError(f"{what} is {text!r}", advice=advice)
    return float(match["number"]) * units[match["unit"].lower()]
