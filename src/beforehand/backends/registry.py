"""The table of backends."""

from __future__ import annotations

import importlib
from typing import cast

from beforehand.backends.protocol import Backend
from beforehand.errors import BackendError
from beforehand.options import suggest

# name: "module:class"; the first is the default. The module is imported when the backend is first asked for.
BACKENDS = {
    "openvino": "beforehand.backends.openvino:OpenVinoBackend",
    "tensorrt-rtx": "beforehand.backends.tensorrt:TensorRtRtxBackend",
    "tensorrt": "beforehand.backends.tensorrt:TensorRtDataCentreBackend",
    "fake": "beforehand.backends.fake:FakeBackend",
}
_HIDDEN = ("fake",)  # for tests

_made: dict[str, Backend] = {}


def find_backend(name: str) -> Backend:
    """The backend of that name; one object a process.

    Raises:
        BackendError: BH701, there is none of that name.
    """
    if name not in BACKENDS:
        raise BackendError(f"there is no backend {name!r}", advice=suggest(name, list_backends()))
    if name not in _made:
        module, _, cls = BACKENDS[name].partition(":")
        _made[name] = cast("Backend", getattr(importlib.import_module(module), cls)())
    return _made[name]


def check_usable(backend: Backend) -> None:
    """Refuse a backend that cannot be used here.

    Raises:
        BackendError: BH701.
    """
    probe = backend.probe()
    if not probe.usable:
        raise BackendError(f"the backend {probe.name} cannot be used here", why=probe.why_not, advice=probe.advice)


def list_backends() -> tuple[str, ...]:
    """Names of the backends for users, the default first."""
    return tuple(name for name in BACKENDS if name not in _HIDDEN)
