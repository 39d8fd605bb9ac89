"""The ways to run a signature, opened in a process of their own; each is a function of a sample's arrays to a call."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

NATIVE, FROZEN, XLA, CONVERTED, STANDALONE = "native", "frozen", "xla", "converted", "standalone"
WAYS = (NATIVE, FROZEN, XLA, CONVERTED, STANDALONE)
# Of these the model that was converted is needed: the graph within a converted one asks for engines, which XLA cannot compile.
OF_SOURCE = (FROZEN, XLA)

Call = Callable[[], Any]
Sample = Mapping[str, np.ndarray[Any, Any]]


class OpenedWay:
    """A way to run signature `key` of the SavedModel in `folder`; `loaded` is kept, for a signature does not keep its variables."""

    def __init__(self, way: str, folder: pathlib.Path, key: str) -> None:
        self.way = way
        self.loaded: Any = None
        self._make = self._open_standalone(folder, key) if way == STANDALONE else self._open_loaded(folder, key)
        self._waits = way != STANDALONE and _has_gpu()

    def make_call(self, sample: Sample) -> Call:
        """A function without arguments that runs the signature on the sample. What it gives are arrays or tensors that are ready."""
        call = self._make(sample)
        return (lambda: _wait(call())) if self._waits else call

    def read_counters(self) -> tuple[int, int]:
        """Calls that engines and TensorFlow answered, of a converted model; (0, 0) of others."""
        if self.way not in (CONVERTED, STANDALONE):
            return 0, 0
        from beforehand.loaded import stats  # noqa: PLC0415

        found = stats(self.loaded)["signatures"].values()
        return sum(item["engine_calls"] for item in found), sum(item["native_calls"] for item in found)

    def _open_standalone(self, folder: pathlib.Path, key: str) -> Callable[[Sample], Call]:
        from beforehand.runtime.standalone import load  # noqa: PLC0415

        self.loaded = load(folder)
        signature = self.loaded.signatures[key]
        return lambda sample: lambda: signature(**sample)

    def _open_loaded(self, folder: pathlib.Path, key: str) -> Callable[[Sample], Call]:
        import tensorflow as tf  # noqa: PLC0415

        self.loaded = tf.saved_model.load(str(folder))
        function = self.loaded.signatures[key]

        def to_tensors(sample: Sample) -> dict[str, Any]:
            dtypes = {name: spec.dtype for name, spec in function.structured_input_signature[1].items()}
            return {name: tf.constant(array, dtypes[name]) for name, array in sample.items()}

        if self.way == FROZEN:
            from tensorflow.python.framework import convert_to_constants  # noqa: PLC0415 (slow)

            frozen = convert_to_constants.convert_variables_to_constants_v2(function)
            names = [tensor.name.partition(":")[0] for tensor in frozen.inputs]

            def make(sample: Sample) -> Call:
                tensors = to_tensors(sample)
                # By name, unless TensorFlow had to change some; they come in the order of the alphabet.
                ordered = [tensors[name] for name in (names if set(names) == set(tensors) else sorted(tensors))]
                return lambda: frozen(*ordered)

            return make
        if self.way == XLA:
            compiled = tf.function(lambda tensors: function(**tensors), jit_compile=True, autograph=False)

            def make_compiled(sample: Sample) -> Call:
                tensors = to_tensors(sample)
                return lambda: compiled(tensors)

            return make_compiled

        def make_plain(sample: Sample) -> Call:
            tensors = to_tensors(sample)
            return lambda: function(**tensors)

        return make_plain


def _has_gpu() -> bool:
    import tensorflow as tf  # noqa: PLC0415

    return bool(tf.config.list_physical_devices("GPU"))


def _wait(result: Any) -> list[np.ndarray[Any, Any]]:
    """What TensorFlow gives of a GPU may not be computed yet: have it in the host's memory, where engines' outputs are."""
    values = result.values() if hasattr(result, "values") else result if isinstance(result, (list, tuple)) else [result]
    return [np.asarray(value) for value in values]
