"""Values of weights, read from the checkpoint when asked, one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from beforehand.errors import GraphError
from beforehand.records import PART, Weight
from beforehand.saved_model.read_saved_model import Source

_NONE: Mapping[str, Any] = {}
ANY_SHAPE = (-1,)  # of the keys and values of a table: whatever the checkpoint has
ReadWeight = Callable[[Weight], np.ndarray[Any, Any]]


def open_weights(source: Source, constants: Mapping[str, Any] = _NONE) -> ReadWeight:
    """A function from a weight to its value.

    Args:
        source: The SavedModel.
        constants: TensorProtos of weights that are no variables, by their checkpoint key; may still grow.

    That function raises GraphError (BH205) where the checkpoint has no such weight.
    """
    made: list[Any] = []  # a model without variables has no checkpoint: open it when the first weight is asked for

    def read(weight: Weight) -> np.ndarray[Any, Any]:
        if weight.checkpoint_key in constants:
            return np.asarray(tf.make_ndarray(constants[weight.checkpoint_key]))
        key, _, part = weight.checkpoint_key.partition(PART)
        if not made and source.has_checkpoint:
            made.append(tf.train.load_checkpoint(source.checkpoint))
        if not key or not made or not made[0].has_tensor(key):
            raise GraphError(
                f"the checkpoint of {source.folder} has no value for the variable {weight.node}",
                why=f"its key there would be {key!r}",
                advice="save the model again; its graph and its checkpoint do not belong together",
            )
        value = np.asarray(made[0].get_tensor(key))
        if weight.shape == ANY_SHAPE:
            return value
        return value[_read_part(part)].reshape(weight.shape) if part else value.reshape(weight.shape)

    return read


def _read_part(text: str) -> tuple[slice, ...]:
    """Where a part lies in its tensor. `RestoreV2` writes "12 30 0,4:-": the tensor's shape, then start and length, or all."""
    slices = []
    for item in text.rpartition(" ")[2].split(":"):
        start, _, length = item.partition(",")
        slices.append(slice(None) if item == "-" else slice(int(start), int(start) + int(length)))
    return tuple(slices)
