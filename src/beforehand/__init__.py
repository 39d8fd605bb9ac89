"""beforehand: TensorFlow SavedModels with engines that were built before runtime; the successor of TF-TRT.

Importing this package does not import TensorFlow. Where TensorFlow is in the process already, or once it is imported
later, a plain `tf.saved_model.load` of a converted model runs its engines.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from beforehand._hook import install_hook
from beforehand._logging import set_up_logging

if TYPE_CHECKING:
    from beforehand import errors as errors
    from beforehand import trt_convert as trt_convert
    from beforehand.benchmark.bench_model import bench as bench
    from beforehand.converter import Converter as Converter
    from beforehand.errors import BeforehandError as BeforehandError
    from beforehand.errors import last_error as last_error
    from beforehand.explanation.explain import explain as explain
    from beforehand.loaded import disabled as disabled
    from beforehand.loaded import enable as enable
    from beforehand.loaded import reset_stats as reset_stats
    from beforehand.loaded import set_policies as set_policies
    from beforehand.loaded import stats as stats
    from beforehand.loaded import warm_up as warm_up
    from beforehand.runtime.standalone import load as load
    from beforehand.targets import add_target as add_target
    from beforehand.targets import slim as slim
    from beforehand.verification.verify_model import verify as verify

# Public names and where they live; each is imported when it is first used.
_PUBLIC = {
    "BeforehandError": "beforehand.errors",
    "Converter": "beforehand.converter",
    "add_target": "beforehand.targets",
    "bench": "beforehand.benchmark.bench_model",
    "disabled": "beforehand.loaded",
    "enable": "beforehand.loaded",
    "errors": "",
    "explain": "beforehand.explanation.explain",
    "last_error": "beforehand.errors",
    "load": "beforehand.runtime.standalone",
    "reset_stats": "beforehand.loaded",
    "set_policies": "beforehand.loaded",
    "slim": "beforehand.targets",
    "stats": "beforehand.loaded",
    "trt_convert": "",
    "verify": "beforehand.verification.verify_model",
    "warm_up": "beforehand.loaded",
}

__all__ = [
    "BeforehandError",
    "Converter",
    "__version__",
    "add_target",
    "bench",
    "disabled",
    "enable",
    "errors",
    "explain",
    "last_error",
    "load",
    "reset_stats",
    "set_policies",
    "slim",
    "stats",
    "trt_convert",
    "verify",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 (reads a file)

        return version("beforehand")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'beforehand' has no attribute {name!r}")
    home = _PUBLIC[name]
    return getattr(importlib.import_module(home), name) if home else importlib.import_module(f"beforehand.{name}")


def __dir__() -> list[str]:
    return list(__all__)


set_up_logging()
install_hook()
