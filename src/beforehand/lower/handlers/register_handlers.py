"""Register all handlers of this folder with tf2onnx, once a process."""

from __future__ import annotations

import functools
import importlib

_MODULES = ("choose", "elementwise", "fake_quant", "make_tensors", "scatter", "sign_bit", "whole_numbers")


@functools.cache
def register_handlers() -> None:
    """After this, tf2onnx knows our handlers; guards come last, since they wrap what stands."""
    import tf2onnx.tfonnx  # noqa: F401, PLC0415 (registers tf2onnx's own; a second, wanted only by conversions)

    for module in _MODULES:
        importlib.import_module(f"beforehand.lower.handlers.{module}")
    from beforehand.lower.handlers.guards import install_guards  # noqa: PLC0415 (imports tf2onnx)

    install_guards()
