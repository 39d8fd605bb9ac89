"""Importing OpenVINO, without what it does beside."""

from __future__ import annotations

import importlib
import sys
from typing import Any

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """The package `openvino`.

    Its first import (2026.4) starts a thread that forks and reports the use to its makers. A library must not do that
    behind its user's back; and the fork was seen to lock a process up that was importing TensorFlow at the same time. Where
    the package of the telemetry cannot be found, OpenVINO does without.
    """
    if "openvino" in sys.modules or _TELEMETRY in sys.modules:
        return importlib.import_module("openvino")
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # Python's way to say that there is none
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[_TELEMETRY]
