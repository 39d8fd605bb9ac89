"""What becomes of engines that are over their budget: healed, or left out."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable

from beforehand.errors import AccuracyError
from beforehand.records import Engine

_log = logging.getLogger("beforehand")


@dataclasses.dataclass(frozen=True)
class Excess:
    """An engine that is over its budget, and why."""

    engine: Engine
    reason: str

    def describe(self) -> str:
        """For messages."""
        return f"{self.engine.segment} for {self.engine.shapes.describe()} in {self.engine.precision}: {self.reason}"


def tell_left_out(excesses: Iterable[Excess], policy: str) -> None:
    """Do what the option `on_inaccurate` says of engines that are not used.

    Raises:
        AccuracyError: BH404, if it is "error" and there are any.
    """
    told = tuple(excesses)
    if policy == "error" and told:
        raise AccuracyError(
            "; ".join(item.describe() for item in told), engines=tuple(item.engine for item in told),
            why='compared with TensorFlow after the build, and on_inaccurate is "error"',
            advice='a larger budget, a higher precision_mode, or on_inaccurate="native"',
        )  # fmt: skip
    for item in told:
        _log.warning("%s. Such calls run natively, in TensorFlow.", item.describe())
