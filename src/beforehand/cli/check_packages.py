"""Whether the packages that a verb needs are installed: without them a user needs advice, not a traceback."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from beforehand.errors import BackendError

_INSTALL = {
    "tensorflow": "pip install tensorflow-cpu (or any other TensorFlow wheel, 2.18 or newer)",
    "onnx": "pip install 'beforehand[convert]'",
    "tf2onnx": "pip install 'beforehand[convert]'",
    "sklearn": "pip install scikit-learn",
}


def check_packages(what: str, names: Sequence[str]) -> None:
    """Import each package.

    Raises:
        BackendError: BH701, one is not installed. One that is installed and broken raises whatever it raises.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise BackendError(
                f"{what} needs the package {name}, which is not installed", advice=_INSTALL[name]
            ) from None
