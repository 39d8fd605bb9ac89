"""The ways to compute one signature that are timed beside each other; each gives (callable, what it answers)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from beforehand.backends.import_openvino import import_openvino
from beforehand.backends.openvino_precisions import make_config

Call = Callable[[], Any]
Inputs = Mapping[str, np.ndarray]


def run_signature(function: Any, inputs: Inputs) -> Call:
    """A loaded signature, as users call it; the inputs are tensors already."""
    tensors = {name: tf.constant(x) for name, x in inputs.items()}
    return lambda: function(**tensors)


def run_xla(function: Any, inputs: Inputs) -> Call:
    """The signature under XLA."""
    compiled = tf.function(lambda tensors: function(**tensors), jit_compile=True, autograph=False)
    tensors = {name: tf.constant(x) for name, x in inputs.items()}
    return lambda: compiled(tensors)


def freeze(function: Any) -> Any:
    """The signature with its variables as constants."""
    return convert_variables_to_constants_v2(function)


def run_frozen(frozen: Any, inputs: Inputs) -> Call:
    """A frozen signature, which takes its inputs in the order of the alphabet."""
    tensors = [tf.constant(inputs[name]) for name in sorted(inputs)]
    return lambda: frozen(*tensors)


def run_onnxruntime(session: Any, inputs: Inputs) -> Call:
    """ONNX Runtime on the segment's ONNX file in float32; `inputs` by that file's names."""
    return lambda: session.run(None, inputs)


def open_onnxruntime(file: str) -> Any:
    """A session of ONNX Runtime's CPU provider; its threads do not spin after a call, or they slow whoever is next."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def run_openvino(file: str, inputs: Inputs, precision: str, target: str) -> Call:
    """OpenVINO alone: compiled here of the ONNX file that the engine is of, at the inputs' shapes, with the same hints; nothing is copied.

    `precision` is what the engine beside it runs in, and `target` what it is for; other hints would be another engine.
    """
    openvino = import_openvino()
    core = openvino.Core()
    model = core.read_model(file)
    ports = {port.any_name: port for port in model.inputs}
    model.reshape({ports[name]: list(x.shape) for name, x in inputs.items()})
    request = core.compile_model(model, "CPU", make_config(precision, "LATENCY", target)).create_infer_request()

    def call() -> Any:
        for name, x in inputs.items():
            request.set_tensor(name, openvino.Tensor(x, shared_memory=True))
        return request.infer(share_outputs=True)

    return call


def read_answer(result: Any) -> np.ndarray:
    """The one output of whatever a way returns."""
    if hasattr(result, "values"):
        result = next(iter(result.values()))
    elif isinstance(result, (list, tuple)):
        result = result[0]
    return np.array(result)
