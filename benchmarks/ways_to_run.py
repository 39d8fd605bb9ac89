"""The ways to compute one signature that are timed beside each other; each gives (callable, what it answers)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from beforehand.backends.import_openvino import import_openvino
from beforehand.backends.openvino_precisions import make_config

Call = Callable[[], Any]


def run_signature(function: Any, name: str, x: np.ndarray) -> Call:
    """A loaded signature, as users call it; the input is a tensor already."""
    tensor = tf.constant(x)
    return lambda: function(**{name: tensor})


def run_xla(function: Any, name: str, x: np.ndarray) -> Call:
    """The signature under XLA."""
    compiled = tf.function(lambda tensor: function(**{name: tensor}), jit_compile=True, autograph=False)
    tensor = tf.constant(x)
    return lambda: compiled(tensor)


def freeze(function: Any) -> Any:
    """The signature with its variables as constants."""
    return convert_variables_to_constants_v2(function)


def run_frozen(frozen: Any, x: np.ndarray) -> Call:
    """A frozen signature."""
    tensor = tf.constant(x)
    return lambda: frozen(tensor)


def run_onnxruntime(session: Any, x: np.ndarray) -> Call:
    """ONNX Runtime on the ONNX file that the engine was built from."""
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})


def open_onnxruntime(file: str) -> Any:
    """A session of ONNX Runtime's CPU provider; its threads do not spin after a call, or they slow whoever is next."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def run_openvino(file: str, x: np.ndarray, precision: str) -> Call:
    """OpenVINO alone: compiled here of the same ONNX file, at the input's shape, with the same hints; nothing is copied.

    `precision` is what the engine beside it runs in; another hint would be another engine.
    """
    openvino = import_openvino()
    core = openvino.Core()
    model = core.read_model(file)
    model.reshape({model.inputs[0]: list(x.shape)})
    request = core.compile_model(model, "CPU", make_config(precision, "LATENCY")).create_infer_request()

    def call() -> Any:
        request.set_input_tensor(0, openvino.Tensor(x, shared_memory=True))
        return request.infer(share_outputs=True)

    return call


def read_answer(result: Any) -> np.ndarray:
    """The one output of whatever a way returns."""
    if hasattr(result, "values"):
        result = next(iter(result.values()))
    elif isinstance(result, (list, tuple)):
        result = result[0]
    return np.array(result)
