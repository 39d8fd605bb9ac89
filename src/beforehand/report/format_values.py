"""Numbers as people read them in a report."""

from __future__ import annotations

NOTHING = "\N{EN DASH}"  # where there is no number
_SPACE = "\N{NO-BREAK SPACE}"  # a number and its unit are one


def format_bytes(count: float) -> str:
    """`102.4 MB`, decimal."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{_round(count / size)}{_SPACE}{unit}"
    return f"{count:.0f}{_SPACE}bytes"


def format_seconds(seconds: float) -> str:
    """`0.42 s`, `12.3 s`, `3 min 5 s`."""
    if seconds < 0.1:
        return format_ms(1e3 * seconds)
    if seconds < 120:
        return f"{_round(seconds)}{_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}{_SPACE}min {rest}{_SPACE}s"


def format_ms(ms: float) -> str:
    """`0.042 ms`, `12.3 ms`."""
    return f"{_round(ms)}{_SPACE}ms"


def format_error(error: float) -> str:
    """`1.2e-06`; `0`."""
    return "0" if error == 0 else f"{error:.1e}"


def format_count(count: int) -> str:
    """`20,412`."""
    return f"{count:,}"


def format_share(share: float) -> str:
    """`97.3 %` of 0.973."""
    return f"{100 * share:.1f}{_SPACE}%"


def format_ratio(ratio: float) -> str:
    """`2.41 times`."""
    return f"{_round(ratio)}{_SPACE}times"


def _round(value: float) -> str:
    """Three figures, without an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"
