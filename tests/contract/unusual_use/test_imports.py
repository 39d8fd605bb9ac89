"""However the two packages come to be imported, engines run."""

from __future__ import annotations

import pytest

from tests.contract.unusual_use.conftest import Runner, Saved

ORDERS = {
    "tensorflow was looked for before it is imported": """
import beforehand, importlib.util
assert importlib.util.find_spec("tensorflow") is not None
assert importlib.util.find_spec("tensorflow") is not None
import tensorflow as tf
""",
    "a submodule of tensorflow comes first": """
import beforehand
from tensorflow.python.framework import dtypes
import tensorflow as tf
""",
    "keras comes first": """
import beforehand, keras
import tensorflow as tf
""",
    "a thread imports it": """
import beforehand, threading
def work():
    import tensorflow
thread = threading.Thread(target=work)
thread.start()
thread.join()
import tensorflow as tf
""",
    "an import of tensorflow failed before": """
import beforehand, builtins
real, tries = builtins.__import__, []
def fail_once(name, *rest):
    if name.startswith("tensorflow.python") and not tries:
        tries.append(name)
        raise ImportError("as when a library is missing")
    return real(name, *rest)
builtins.__import__ = fail_once
try:
    import tensorflow
except ImportError:
    pass
builtins.__import__ = real
assert tries and "tensorflow" not in sys.modules
import tensorflow as tf
""",
}

CALL = """
import numpy as np
loaded, original = (tf.saved_model.load(arguments[name]) for name in ("converted", "source"))
x = np.random.default_rng().normal(size=(2, 8)).astype("f4")
have, want = (model.signatures["serving_default"](x=x)["y"].numpy() for model in (loaded, original))
report(
    right=bool(np.allclose(have, want, 1e-3, 1e-4)), calls=beforehand.stats(loaded)["signatures"]["serving_default"],
    own_loader="beforehand" not in type(tf.__spec__.loader).__module__,
)
"""


@pytest.mark.parametrize("order", ORDERS)
def test_engines_run_when(order: str, module_model: Saved, run_python: Runner) -> None:
    places = {"converted": module_model.converted, "source": module_model.source}
    found = run_python(ORDERS[order] + CALL, places)
    assert found["right"]
    assert found["calls"] == {"engine_calls": 1, "native_calls": 0}
    assert found["own_loader"], "TensorFlow must find its own loader in its spec"


def test_beforehand_alone_imports_nothing_heavy(run_python: Runner) -> None:
    code = "import beforehand\nreport(found=sorted({'tensorflow', 'openvino', 'keras', 'onnx', 'numpy'} & set(sys.modules)))"
    assert run_python(code)["found"] == []
