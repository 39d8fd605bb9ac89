"""The logger `beforehand`: standard logging, its level from BEFOREHAND_LOG."""

from __future__ import annotations

import logging

from beforehand import environment


def set_up_logging() -> None:
    """Set the level that the environment asks for, and with it a handler; without it, logging stays the program's."""
    level = environment.read_log_level()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        return
    logger = logging.getLogger("beforehand")
    logger.setLevel(level)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
