"""The saved form, tried on this TensorFlow: `python -m beforehand.cli.self_test` prints one line of JSON.

A tiny model is converted, built, saved, loaded, and asked. `beforehand doctor` runs this in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

_SHAPE = (4, 8)
_TOLERANCE = 1e-4


def main() -> int:
    """Print what was found, as the last line of stdout."""
    test = SelfTest()
    with contextlib.redirect_stdout(sys.stderr):
        found = test.run()
    print(json.dumps(found))
    return 0


class SelfTest:
    """The checks, in their order; each uses what those before it left, so the first that fails ends the test."""

    def __init__(self) -> None:
        self._checks: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        """All findings, as plain data."""
        try:
            import tensorflow as tf  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if error.name == "tensorflow":
                return self._report(found=False, version="", seconds=0.0)
            return self._refuse_import(error)
        except Exception as error:  # noqa: BLE001 (a broken TensorFlow is what this is there to show)
            return self._refuse_import(error)
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="beforehand-doctor-") as folder:
            self._folder = pathlib.Path(folder) / "converted"
            for name, check in _CHECKS:
                if not self._try_check(name, check):
                    break
        return self._report(found=True, version=tf.__version__, seconds=round(time.monotonic() - start, 2))

    def _report(self, *, found: bool, version: str, seconds: float) -> dict[str, Any]:
        ok = bool(self._checks) and all(check["ok"] for check in self._checks)
        return {
            "tensorflow_found": found,
            "tensorflow_version": version,
            "ok": ok,
            "seconds": seconds,
            "checks": self._checks,
        }

    def _refuse_import(self, error: Exception) -> dict[str, Any]:
        self._checks.append({"name": "TensorFlow is imported", "ok": False, "error": _describe(error)})
        return self._report(found=True, version="", seconds=0.0)

    def _try_check(self, name: str, check: Callable[[SelfTest], None]) -> bool:
        try:
            check(self)
        except Exception as error:  # noqa: BLE001 (as above)
            self._checks.append({"name": name, "ok": False, "error": _describe(error)})
            return False
        self._checks.append({"name": name, "ok": True, "error": ""})
        return True

    def convert_model(self) -> None:
        """Make the model and convert it."""
        import numpy as np  # noqa: PLC0415

        from beforehand.converter import Converter  # noqa: PLC0415

        random = np.random.default_rng(0)
        self._x = random.standard_normal(_SHAPE).astype(np.float32)
        module = _make_module(random.standard_normal((_SHAPE[1], 3)).astype(np.float32))
        self._expected = module.serve(self._x)["y"].numpy()
        self._converter = Converter(module, signatures=["serving_default"], min_speedup=None)
        self._converter.convert()

    def build_engine(self) -> None:
        """Build one engine, in its child process."""
        built = self._converter.build(shapes={"x": _SHAPE})
        _require(len(built) == 1, f"{len(built)} engines were built, expected 1")

    def save_model(self) -> None:
        """Save it."""
        self._converter.save(self._folder)

    def load_model(self) -> None:
        """Load it by TensorFlow's own call."""
        import tensorflow as tf  # noqa: PLC0415

        self._loaded = tf.saved_model.load(str(self._folder))
        self._function = self._loaded.signatures["serving_default"]

    def check_answers(self) -> None:
        """One call, and what came of it."""
        self._compare(self._call())

    def check_engine_calls(self) -> None:
        """That call ran the engine, not TensorFlow."""
        self._count(engine_calls=1, native_calls=0)

    def check_data_set(self) -> None:
        """A call from inside `tf.data.Dataset.map`."""
        import tensorflow as tf  # noqa: PLC0415

        rows = tf.data.Dataset.from_tensors(self._x).map(lambda x: self._function(x=x)["y"])
        self._compare(next(iter(rows)).numpy())
        self._count(engine_calls=2, native_calls=0)

    def check_switched_off(self) -> None:
        """Within `beforehand.disabled()`, TensorFlow answers."""
        from beforehand.loaded import disabled  # noqa: PLC0415

        with disabled():
            self._compare(self._call())
        self._count(engine_calls=2, native_calls=1)

    def check_gradients(self) -> None:
        """A gradient is refused; it would be silently zero."""
        import tensorflow as tf  # noqa: PLC0415

        x = tf.constant(self._x)
        try:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = self._function(x=x)["y"]
            gradient = tape.gradient(y, x)
        except (LookupError, tf.errors.OpError):
            return
        _require(False, f"a gradient came back: {gradient}")

    def _call(self) -> Any:
        import tensorflow as tf  # noqa: PLC0415

        return self._function(x=tf.constant(self._x))["y"].numpy()

    def _compare(self, answer: Any) -> None:
        import numpy as np  # noqa: PLC0415

        difference = float(np.max(np.abs(answer - self._expected)))
        _require(difference <= _TOLERANCE, f"the answer differs from TensorFlow's by {difference:.3g}")

    def _count(self, **expected: int) -> None:
        from beforehand.loaded import stats  # noqa: PLC0415

        found = stats(self._loaded)["signatures"]["serving_default"]
        _require(found == expected, f"the counters are {found}, expected {expected}")


_CHECKS = (
    ("a model is converted", SelfTest.convert_model),
    ("an engine is built", SelfTest.build_engine),
    ("the model is saved", SelfTest.save_model),
    ("the model is loaded", SelfTest.load_model),
    (f"its answers are TensorFlow's, within {_TOLERANCE:g}", SelfTest.check_answers),
    ("the call ran the engine", SelfTest.check_engine_calls),
    ("a call inside tf.data runs the engine", SelfTest.check_data_set),
    ("switched off, TensorFlow answers", SelfTest.check_switched_off),
    ("gradients are refused, never zero", SelfTest.check_gradients),
)


def _make_module(kernel: Any) -> Any:
    """One dense layer: matmul, relu, add; enough nodes for a segment."""
    import tensorflow as tf  # noqa: PLC0415

    module = tf.Module()
    module.kernel = tf.Variable(kernel)
    module.bias = tf.Variable([0.5, -0.5, 1.0])

    @tf.function(input_signature=[tf.TensorSpec((None, kernel.shape[0]), tf.float32, name="x")])
    def serve(x: Any) -> dict[str, Any]:
        return {"y": tf.nn.relu(tf.matmul(x, module.kernel)) + module.bias}

    module.serve = serve
    return module


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise ValueError(text)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip()


if __name__ == "__main__":
    sys.exit(main())
