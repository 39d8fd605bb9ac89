"""The logger `beforehand`: standard logging, its level from BEFOREHAND_LOG."""

from __future__ import annotations

import logging

from beforehand import environment

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def set_up_logging() -> None:
    """Set the level that the environment asks for, and with it a handler; without it, logging stays the program's."""
    level = environment.read_log_level()
    logger = logging.getLogger("beforehand")
    if level not in LEVELS:
        if level:  # an import must not fail for it
            logger.warning(
                "BEFOREHAND_LOG is %r and changes nothing: one of %s", level.lower(), ", ".join(LEVELS).lower()
            )
        return
    logger.setLevel(level)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
