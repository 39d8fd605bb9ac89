"""Direct calls: a signature that is one segment runs its engine without TensorFlow's executor (docs/decisions/0009).

It stands on private parts of TensorFlow as tensorflow_private.py does, and tests/contract holds it on every TensorFlow.
Whatever is unusual about a call goes the way of the graph, which is always right.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context, record
from tensorflow.python.framework import ops

from beforehand.records import Signature
from beforehand.runtime import models

# A function keeps its name for this method in every TensorFlow from 2.18 to 2.22; `add_direct_call` looks before it acts.
_METHOD = "_call_impl"


def add_direct_calls(functions: Mapping[str, Any], key: int) -> None:
    """Let eager calls of these functions go straight to the engines of the model of `key`, where a call is one engine.

    Args:
        functions: The concrete function of each signature, by the signature's key.
        key: Of the load, see `models`.
    """
    for place, signature in enumerate(models.find_model(key).signatures):
        if signature.whole is not None and signature.key in functions:
            _add_direct_call(functions[signature.key], key, place, signature)


def _add_direct_call(function: Any, key: int, place: int, signature: Signature) -> None:
    by_graph = getattr(type(function), _METHOD, None)
    if by_graph is None or signature.whole is None:
        return
    whole = signature.whole
    names = [spec.name for spec in signature.inputs]
    dtypes = [np.dtype(tf.as_dtype(spec.dtype).as_numpy_dtype) for spec in signature.inputs]
    expected = tuple(zip(names, dtypes, strict=True))
    indices = dict(zip((spec.name for spec in signature.outputs), whole.outputs, strict=True))
    # In TensorFlow's order, which differs from process to process: that of a map in a protobuf.
    outputs = [(name, indices[name]) for name in function.structured_outputs]
    reference = weakref.ref(function)  # a function that held itself would outlive its last user
    eager = context.context()
    eager.ensure_initialized()

    def call(args: Any, kwargs: dict[str, Any]) -> Any:
        arrays = _read_arrays(args, kwargs, expected) if eager.executing_eagerly() else None
        if arrays is not None and not record.could_possibly_record():
            found = models.serve_direct(key, place, whole.segment, [arrays[i] for i in whole.inputs])
            if found is not None:
                # What tf.constant comes to, but for the device: named, it costs 0.2 ms after a long inference.
                return {name: ops.EagerTensor(found[index], None, None) for name, index in outputs}
        return by_graph(reference(), args, kwargs)

    setattr(function, _METHOD, call)


def _read_arrays(
    args: Any, kwargs: Mapping[str, Any], expected: tuple[tuple[str, np.dtype[Any]], ...]
) -> list[np.ndarray[Any, Any]] | None:
    """The values of eager tensors or arrays given by name, in place; None where they are anything else."""
    if args or len(kwargs) != len(expected):
        return None
    arrays = []
    for name, dtype in expected:
        value: Any = kwargs.get(name)
        array = value._numpy() if type(value) is ops.EagerTensor else value
        if type(array) is not np.ndarray or array.dtype != dtype:
            return None
        arrays.append(array)
    return arrays
