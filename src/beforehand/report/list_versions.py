"""Versions of the packages that what we measure or write depends on."""

from __future__ import annotations

import importlib.metadata
import platform

_VERSIONED = ("beforehand", "tensorflow", "tensorflow_cpu", "tf2onnx", "onnx", "openvino", "numpy")


def list_versions() -> dict[str, str]:
    """Those that are installed, by name, and Python's."""
    found = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
