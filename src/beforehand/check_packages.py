"""Whether the packages that a step needs are installed: without them a user needs advice, not a traceback."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

from beforehand.errors import BackendError

# What converting needs.
CONVERTING = ("tensorflow", "onnx", "tf2onnx")
_INSTALL = {
    "tensorflow": "pip install tensorflow-cpu (or any other TensorFlow wheel, 2.18 or newer)",
    "onnx": "pip install 'beforehand[convert]'",
    "tf2onnx": "pip install 'beforehand[convert]'",
    "nncf": "pip install 'beforehand[int8]'",
    "onnxruntime": "pip install 'beforehand[int8]'",
    "pandas": "pip install pandas",
    "sklearn": "pip install scikit-learn",
}


def check_packages(what: str, names: Sequence[str]) -> None:
    """Look for each package; none is imported, so one that is installed and broken is found out by who imports it.

    Raises:
        BackendError: BH701, some are not installed; all of these are named.
    """
    missing = [name for name in names if not _is_installed(name)]
    if missing:
        raise BackendError(
            f"{what} needs packages that are not installed: " + ", ".join(missing),
            advice="; ".join(dict.fromkeys(_INSTALL[name] for name in missing)),
        )


def _is_installed(name: str) -> bool:
    # First the modules there are: a stand-in without a spec makes `find_spec` fail.
    return sys.modules.get(name) is not None or importlib.util.find_spec(name) is not None
