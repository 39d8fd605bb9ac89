"""Tell TensorFlow of the engines: now if it is loaded, else as soon as it has been imported."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence


def install_hook() -> None:
    """Register the runtime with TensorFlow, in whichever order the two are imported."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        if not any(isinstance(finder, _TensorFlowFinder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _TensorFlowFinder())
    elif not getattr(getattr(tensorflow, "__spec__", None), "_initializing", False):
        _register()


def _register() -> None:
    from beforehand.runtime.tensorflow_private import register  # noqa: PLC0415 (imports TensorFlow)

    register()


class _TensorFlowFinder(importlib.abc.MetaPathFinder):
    """Finds nothing itself: it lets the others find TensorFlow, and has `_register` called once that is loaded.

    It stays until then: `importlib.util.find_spec("tensorflow")` only asks whether there is one, as many libraries do.
    """

    def __init__(self) -> None:
        self._is_asking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "tensorflow" or self._is_asking:
            return None
        self._is_asking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._is_asking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader, self)
        return spec


class _RegisteringLoader(importlib.abc.Loader):
    """TensorFlow's own loader, and then the registration."""

    def __init__(self, loader: importlib.abc.Loader, finder: _TensorFlowFinder) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        # TensorFlow looks at its own spec while it is imported: it must find its own loader there.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        try:
            _register()
        except ImportError as error:  # an old or crippled TensorFlow must still be importable
            import logging  # noqa: PLC0415

            logging.getLogger("beforehand").warning("engines will not run with this TensorFlow: %s", error)
