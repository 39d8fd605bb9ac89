"""The text of `--buckets` as `Converter.build(buckets=...)` takes it."""

from __future__ import annotations

from beforehand.errors import OptionValueError
from beforehand.profiles.plan_buckets import read_limit


def parse_buckets(text: str | None) -> dict[str, float] | None:
    """The limit in a text such as `max_spread=2` or `max_padding=0.5`; None of None.

    Raises:
        OptionValueError: BH102.
    """
    if text is None:
        return None
    name, _, value = text.partition("=")
    try:
        buckets = {name.strip().replace("-", "_"): float(value)}
        read_limit(buckets)
    except ValueError as error:  # of a number; and OptionValueError is one too
        raise OptionValueError(
            f"--buckets is {text!r}",
            why="it names one limit: max_spread=N of at least 1, or max_padding=N of at least 0",
            advice="--buckets max_spread=2 (sizes within a range differ at most twofold), or --buckets max_padding=0.5",
        ) from error
    return buckets
